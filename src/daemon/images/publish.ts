import { isDigest, type Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { PublishedManifest } from '../../protocol/engine.ts';
import type { Descriptor, Index, Manifest } from '../../protocol/oci.ts';
import { familiarName, familiarString, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import { digestOf } from '../../protocol/sha256.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Leases } from '../content/leases.ts';
import { bareMediaType, isIndex, parseManifest, refuseUnknownType } from '../registry/manifest.ts';
import type { Credentials, Registries, Repository } from '../registry/registry.ts';
import type { Demands } from '../transfers/demand.ts';
import { formatPlatform } from './platform.ts';
import { manifestBlobs } from './pushable.ts';
import { isForeign, TreeCopy } from './tree-copy.ts';
import type { UploadQueue } from './upload.ts';

/** What publishing works with. */
export interface PublisherParts {
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly uploads: UploadQueue;
  readonly registries: Registries;
  readonly demands: Demands;
}

/** A manifest or index that a client has made. */
export interface PublishRequest {
  readonly reference: Reference;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  /** Where on the same registry manifests are that an index lists and its repository lacks: by their digests. */
  readonly from: readonly Reference[];
  readonly credentials: Credentials | undefined;
  readonly client: string;
  readonly signal: AbortSignal;
}

/** Puts manifests and indexes of a client's own making into registries. */
export class Publisher {
  readonly #parts: PublisherParts;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
  }

  /**
   * Checks that the document is one that others can use and that all it lists is there, brings over what `from` says where
   * to find, and puts it. Throws `invalid` for what is wrong with the document, `conflict` where something is missing; then
   * nothing has changed.
   */
  async publish(request: PublishRequest): Promise<PublishedManifest> {
    const { registries } = this.#parts;
    const { bytes, credentials, signal } = request;
    const reference = withDefaultTag(request.reference);
    const document = parse(bytes, request.mediaType);
    const digest = digestOf(bytes);
    if (reference.digest !== undefined && reference.digest !== digest) {
      throw new LayerdError('invalid', `the document's digest is ${digest}, not that of ${familiarString(reference)}`);
    }
    const sources = sourcesOf(request, document);
    const repository = { registry: reference.registry, path: reference.path };
    const brought = isIndex(document)
      ? await this.#bringChildren(document, repository, sources, request)
      : await this.#needBlobs(document, repository, request);
    const { mediaType } = document;
    await registries.putManifest(
      repository,
      reference.tag ?? digest,
      { mediaType, digest, bytes },
      { credentials, signal },
    );
    return { mediaType, digest, size: bytes.byteLength, brought };
  }

  /** Brings in the manifests that the repository lacks; returns their digests. */
  async #bringChildren(
    index: Index,
    repository: Repository,
    sources: ReadonlyMap<Digest, Repository>,
    request: PublishRequest,
  ): Promise<Digest[]> {
    const { registries, leases, collector, demands } = this.#parts;
    const { credentials, client, signal } = request;
    const options = { credentials, signal };
    const absent: Descriptor[] = [];
    const distinct = new Map(index.manifests.map((child) => [child.digest, child]));
    for (const child of distinct.values()) {
      if (!(await registries.hasManifest(repository, child.digest, options))) absent.push(child);
    }
    const missing = absent.filter(({ digest }) => !sources.has(digest));
    if (missing.length > 0) throw notThere(repository, missing.map(describe), 'manifest');
    const routes = absent.flatMap((child) => {
      const source = sources.get(child.digest);
      return source === undefined ? [] : [{ child, source }];
    });
    // All of them before the first is brought: what fails then shall have changed nothing.
    for (const { child, source } of routes) {
      const { size } = await registries.resolve(source, child.digest, options);
      if (size === child.size) continue;
      throw new LayerdError('invalid', `manifest ${child.digest} has ${size} bytes, the index says ${child.size}`);
    }
    const lease = leases.acquire(`publish:${familiarString(request.reference)}`);
    try {
      const reference = familiarString(request.reference);
      await demands.during({ verb: 'copy', reference, client }, signal, async (demand, stop) => {
        for (const { child, source } of routes) {
          const from = { repository: source, credentials };
          const to = { repository, credentials };
          await new TreeCopy(this.#parts, { from, to, lease, demand, progress: () => undefined }).child(child, stop);
        }
      });
    } finally {
      collector.collect(lease.release());
    }
    return absent.map(({ digest }) => digest);
  }

  /** Refuses a manifest whose blobs are not all in the repository. */
  async #needBlobs(manifest: Manifest, repository: Repository, request: PublishRequest): Promise<[]> {
    const { credentials, signal } = request;
    const missing: string[] = [];
    for (const blob of manifestBlobs(manifest)) {
      if (isForeign(blob)) continue;
      const isThere = await this.#parts.registries.hasBlob(repository, blob.digest, { credentials, signal });
      if (!isThere) missing.push(blob.digest);
    }
    if (missing.length > 0) throw notThere(repository, missing, 'blob');
    return [];
  }
}

/** What breaks its own format is the client's to mend. */
function parse(bytes: Uint8Array, contentType: string): Manifest | Index {
  const mediaType = bareMediaType(contentType);
  try {
    refuseUnknownType(mediaType);
    return parseManifest(bytes, mediaType);
  } catch (error) {
    throw isKind(error, 'corrupt') ? new LayerdError('invalid', error.message, { cause: error }) : error;
  }
}

/** The repositories in which the manifests are to be found, by digest. */
function sourcesOf({ from, reference }: PublishRequest, document: Manifest | Index): ReadonlyMap<Digest, Repository> {
  const listed = new Set(isIndex(document) ? document.manifests.map(({ digest }) => digest) : []);
  return new Map(
    from.map((source): [Digest, Repository] => {
      const name = familiarString(source);
      const { digest, registry, path } = source;
      if (!isDigest(digest)) {
        throw new LayerdError('invalid', `parameter from: ${name} has no digest; expected repository@sha256:…`);
      }
      if (!listed.has(digest)) {
        throw new LayerdError('invalid', `parameter from: the document does not list ${name}`);
      }
      if (registry !== reference.registry) {
        throw new LayerdError(
          'invalid',
          `parameter from: cannot use source images from a different registry than the target image: ${registry} != ${reference.registry}; copy ${name} there first`,
        );
      }
      return [digest, { registry, path }];
    }),
  );
}

function notThere(repository: Repository, missing: readonly string[], what: string): LayerdError {
  return new LayerdError(
    'conflict',
    `${familiarName(repository)} lacks ${missing.length === 1 ? `the ${what}` : `${missing.length} ${what}s`} ${missing.join(', ')}: push ${missing.length === 1 ? 'it' : 'them'} there first, nothing was changed`,
  );
}

const describe = ({ digest, platform }: Descriptor): string =>
  platform === undefined ? digest : `${digest} (${formatPlatform(platform)})`;
