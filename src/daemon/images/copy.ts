import { LayerdError } from '../../protocol/errors.ts';
import { isImageConfigType } from '../../protocol/media-types.ts';
import type { Platform } from '../../protocol/oci.ts';
import { canonicalString, familiarString, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Leases } from '../content/leases.ts';
import type { Credentials, Registries, RemoteManifest, Repository } from '../registry/registry.ts';
import type { Demand, Demands } from '../transfers/demand.ts';
import { remotePlatform } from './distribution.ts';
import { choosePlatform, formatPlatform, provides } from './platform.ts';
import type { ProgressSink } from './progress.ts';
import { select, statePlatforms } from './selection.ts';
import { TreeCopy } from './tree-copy.ts';
import type { UploadQueue } from './upload.ts';

/** What copying works with. */
export interface CopierParts {
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly uploads: UploadQueue;
  readonly registries: Registries;
  readonly demands: Demands;
  readonly host: Platform;
}

/** What a client asks to be copied. */
export interface CopyRequest {
  readonly from: Reference;
  readonly to: Reference;
  /** Only the manifest for this platform; without it, all that the reference names. */
  readonly platform?: Platform | undefined;
  readonly fromCredentials?: Credentials | undefined;
  readonly toCredentials?: Credentials | undefined;
  readonly client: string;
  readonly priority?: number | undefined;
  /** Aborted when the client goes away. Uploads that nobody else wants stop. */
  readonly signal: AbortSignal;
}

/** Copies images from registry to registry, byte for byte, so that all digests survive. Nothing is stored. */
export class Copier {
  readonly #parts: CopierParts;

  constructor(parts: CopierParts) {
    this.#parts = parts;
  }

  /** What the source's registry says of the request is thrown before the first line. */
  copy(request: CopyRequest, progress: ProgressSink): Promise<void> {
    const { client, priority } = request;
    const reference = familiarString(withDefaultTag(request.to));
    return this.#parts.demands.during({ verb: 'copy', reference, client, priority }, request.signal, (demand, signal) =>
      this.#copy({ ...request, signal }, demand, progress),
    );
  }

  async #copy(request: CopyRequest, demand: Demand, progress: ProgressSink): Promise<void> {
    const { leases, collector, registries } = this.#parts;
    const { toCredentials: credentials, signal } = request;
    const from = withDefaultTag(request.from);
    const to = withDefaultTag(request.to);
    const document = await this.#document({ ...request, from });
    const { descriptor, bytes } = document;
    if (to.digest !== undefined && to.digest !== descriptor.digest) {
      throw new LayerdError(
        'invalid',
        `cannot copy ${familiarString(from)} to ${familiarString(to)}: its digest is ${descriptor.digest}`,
      );
    }
    progress({ status: `Copying ${familiarString(from)} to ${familiarString(to)}` });
    const repository = repositoryOf(to);
    const lease = leases.acquire(`copy:${canonicalString(to)}`);
    try {
      const tree = new TreeCopy(this.#parts, {
        from: { repository: repositoryOf(from), credentials: request.fromCredentials },
        to: { repository, credentials },
        lease,
        demand,
        progress,
      });
      await tree.below(document, signal);
      const { mediaType, digest } = descriptor;
      const options = { credentials, signal };
      await registries.putManifest(repository, to.tag ?? digest, { mediaType, digest, bytes }, options);
    } finally {
      // What was removed from the store while it was copied goes now.
      collector.collect(lease.release());
    }
    const { digest, size } = descriptor;
    progress({ status: `${to.tag ?? digest}: digest: ${digest} size: ${size}` });
    progress({ progressDetail: {}, aux: { Tag: to.tag ?? '', Digest: digest, Size: size } });
  }

  /** What is to be copied: all that the reference names, or the manifest in it that is for the platform. */
  async #document({ from, platform, fromCredentials, signal }: CopyRequest): Promise<RemoteManifest> {
    const { registries, host } = this.#parts;
    const options = { credentials: fromCredentials, signal };
    const repository = repositoryOf(from);
    const named = await registries.manifest(repository, from.digest ?? from.tag ?? '', options);
    if (platform === undefined) return named;
    const { chosen } = await select(
      named,
      ({ digest }) => registries.manifest(repository, digest, options),
      async (candidates, getDocument) => {
        const stated = await statePlatforms(candidates, getDocument, (config) =>
          remotePlatform(registries, repository, config, options),
        );
        return choosePlatform(stated, host, platform);
      },
    );
    const { descriptor, bytes, manifest } = chosen;
    if (descriptor.digest !== named.descriptor.digest) return { descriptor, bytes };
    const actual = isImageConfigType(manifest.config.mediaType)
      ? await remotePlatform(registries, repository, manifest.config, options)
      : undefined;
    if (actual !== undefined && provides(actual, platform)) return named;
    throw new LayerdError(
      'not-found',
      `image with reference ${familiarString(from)} was found but does not provide the specified platform (${formatPlatform(platform)})` +
        (actual === undefined ? '' : `; it is for ${formatPlatform(actual)}`),
    );
  }
}

const repositoryOf = ({ registry, path }: Reference): Repository => ({ registry, path });
