import PQueue from 'p-queue';
import type { Digest } from '../../protocol/digest.ts';
import { shortId } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isForeignLayerType, isIndexType } from '../../protocol/media-types.ts';
import type { Descriptor, Manifest } from '../../protocol/oci.ts';
import type { Lease } from '../content/leases.ts';
import { isIndex, MAX_INDEX_DEPTH, parseManifest } from '../registry/manifest.ts';
import type { Registries, RemoteManifest } from '../registry/registry.ts';
import type { Demand } from '../transfers/demand.ts';
import { BlobDeliverer, type Destination, type ManifestBlob } from './deliver.ts';
import type { BlobSource } from './download.ts';
import type { ProgressSink } from './progress.ts';
import { manifestBlobs } from './pushable.ts';
import { MAX_NESTED_INDEXES } from './selection.ts';
import { together } from './together.ts';
import type { UploadQueue } from './upload.ts';

/** Manifests of an index that are copied at a time; their blobs are bounded by the queue of uploads. */
const PARALLEL_MANIFESTS = 4;

/** From where to where something is copied. */
export interface CopyRoute {
  readonly from: BlobSource;
  readonly to: Destination;
  /** Is given each digest before it is looked for in the store, from which blobs that are there are taken. */
  readonly lease: Lease;
  /** On whose behalf. */
  readonly demand: Demand;
  readonly progress: ProgressSink;
}

/**
 * A manifest or index on its way from one repository into another, with all below it: blobs before manifests, manifests
 * before indexes, and only what is not there. Nothing of it is stored.
 */
export class TreeCopy {
  readonly #registries: Registries;
  readonly #deliverer: BlobDeliverer;
  readonly #route: CopyRoute;
  readonly #manifests = new PQueue({ concurrency: PARALLEL_MANIFESTS });
  #indexes = 0;

  constructor(parts: { registries: Registries; uploads: UploadQueue }, route: CopyRoute) {
    this.#registries = parts.registries;
    this.#deliverer = new BlobDeliverer(parts, route.demand, route.progress);
    this.#route = route;
  }

  /** Brings in all that the document needs, and not itself. Returns or throws when nothing of it goes on. */
  async below({ descriptor, bytes }: RemoteManifest, signal: AbortSignal, depth = 1): Promise<void> {
    const document = parseManifest(bytes, descriptor.mediaType);
    if (!isIndex(document)) {
      await this.#blobs(document, signal);
      return;
    }
    this.#indexes += 1;
    // An index that holds itself, or a tower of them, would be followed for ever.
    if (depth > MAX_INDEX_DEPTH || this.#indexes > MAX_NESTED_INDEXES) {
      throw new LayerdError(
        'invalid',
        `the index nests more than ${MAX_INDEX_DEPTH} deep or holds more than ${MAX_NESTED_INDEXES} indexes; layerd refuses to follow it`,
      );
    }
    await together(
      signal,
      document.manifests.map((child) => (stop: AbortSignal) => this.child(child, stop, depth + 1)),
    );
  }

  /** Brings in a manifest or index under its digest, with all below it, unless it is there. */
  async child(descriptor: Descriptor, signal: AbortSignal, depth = 2): Promise<void> {
    const bring = (): Promise<void> => this.#bring(descriptor, signal, depth);
    // An index waits for its manifests: among them in the queue it would keep them from their turn.
    await (isIndexType(descriptor.mediaType) ? bring() : this.#manifests.add(bring));
  }

  async #bring(descriptor: Descriptor, signal: AbortSignal, depth: number): Promise<void> {
    signal.throwIfAborted();
    const { from, to, progress } = this.#route;
    const { digest } = descriptor;
    const options = { credentials: to.credentials, signal };
    if (await this.#registries.hasManifest(to.repository, digest, options)) {
      progress({ status: 'Already exists', progressDetail: {}, id: shortId(digest) });
      return;
    }
    const document = await this.#registries.manifest(from.repository, digest, {
      credentials: from.credentials,
      signal,
    });
    if (isIndexType(document.descriptor.mediaType) !== isIndexType(descriptor.mediaType)) {
      throw new LayerdError(
        'corrupt',
        `${digest} is listed as ${descriptor.mediaType} and is ${document.descriptor.mediaType}`,
      );
    }
    await this.below(document, signal, depth);
    const { mediaType } = document.descriptor;
    await this.#registries.putManifest(to.repository, digest, { mediaType, digest, bytes: document.bytes }, options);
  }

  async #blobs(manifest: Manifest, signal: AbortSignal): Promise<void> {
    const { from, to, lease } = this.#route;
    const blobs = new Map<Digest, ManifestBlob>();
    for (const blob of manifestBlobs(manifest)) if (!isForeign(blob)) blobs.set(blob.digest, blob);
    lease.add(blobs.keys());
    await this.#deliverer.deliver([...blobs.values()], to, { signal, from });
  }
}

/** Whether a layer is kept elsewhere than in registries, which is where it stays. */
export function isForeign({ mediaType, urls = [] }: Descriptor): boolean {
  return isForeignLayerType(mediaType) && urls.length > 0;
}
