import { isImageConfigType } from '../../protocol/media-types.ts';
import type { DistributionInspect } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { MAX_DOCUMENT_BYTES, type Descriptor, type Platform } from '../../protocol/oci.ts';
import { isIndex, parseManifest } from '../registry/manifest.ts';
import type { Registries, RemoteManifest, Repository, RequestOptions } from '../registry/registry.ts';
import { parseImageConfig } from './config.ts';
import { withDefaultTag, type Reference } from '../../protocol/reference.ts';
import { platformOf } from './selection.ts';

/** What registries say of images, without storing anything. */
export class RemoteImages {
  readonly #registries: Registries;

  constructor(registries: Registries) {
    this.#registries = registries;
  }

  /** The manifest or index that the reference names, as its registry serves it. */
  manifest(reference: Reference, options: RequestOptions): Promise<RemoteManifest> {
    const { registry, path, tag, digest } = withDefaultTag(reference);
    return this.#registries.manifest({ registry, path }, digest ?? tag ?? 'latest', options);
  }

  /** Descriptor and platforms (Engine API, `GET /distribution/{name}/json`). */
  async inspect(reference: Reference, options: RequestOptions): Promise<DistributionInspect> {
    const { descriptor, bytes } = await this.manifest(reference, options);
    const document = parseManifest(bytes, descriptor.mediaType);
    if (isIndex(document)) {
      return {
        Descriptor: descriptor,
        Platforms: document.manifests.flatMap(({ platform }) => (platform === undefined ? [] : [platform])),
      };
    }
    const platform = isImageConfigType(document.config.mediaType)
      ? await remotePlatform(
          this.#registries,
          { registry: reference.registry, path: reference.path },
          document.config,
          options,
        )
      : undefined;
    return { Descriptor: descriptor, Platforms: platform === undefined ? [] : [platform] };
  }
}

/** The platform that an image config in a registry states. */
export async function remotePlatform(
  registries: Pick<Registries, 'blob'>,
  repository: Repository,
  config: Descriptor,
  options: RequestOptions,
): Promise<Platform> {
  const remote = await registries.blob(repository, config.digest, options);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of remote.body) {
    size += chunk.byteLength;
    // An endless body must not fill the memory.
    if (size > MAX_DOCUMENT_BYTES) {
      throw new LayerdError(
        'invalid',
        `${remote.host} serves an image config of more than ${MAX_DOCUMENT_BYTES} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return platformOf(parseImageConfig(Buffer.concat(chunks), config.digest));
}
