import { rm } from 'node:fs/promises';
import type { Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import { MediaType } from '../../protocol/media-types.ts';
import type { Descriptor, ImageConfig, Manifest, Platform } from '../../protocol/oci.ts';
import type { Reference } from '../../protocol/reference.ts';
import { digestOf } from '../../protocol/sha256.ts';
import type { Lease } from '../content/leases.ts';
import type { UnpackedLayer } from '../layers/layer.ts';
import type { Registries } from '../registry/registry.ts';
import { compressionOf, peeked, refuseOthers, type Compression } from './archive/decompress.ts';
import { ArrivalBar } from './archive/progress.ts';
import { putArrived } from './arrival.ts';
import { applyChanges } from './changes/changes.ts';
import { describeManifest } from './composition.ts';
import type { StoredManifest } from './image.ts';
import type { LoaderParts } from './load.ts';
import type { ProgressSink } from './progress.ts';
import { UnderWay } from './under-way.ts';

/** What importing works with. */
export interface ImporterParts extends LoaderParts {
  readonly registries: Pick<Registries, 'download'>;
}

/** A tar of a root file system that is to become an image. */
export interface ImportRequest {
  /** The tar's bytes, plain or compressed with gzip or zstd, as a client sends them; or where on the web it is. */
  readonly source: AsyncIterable<Uint8Array> | URL;
  /** Without it the image is dangling. */
  readonly name: Reference | undefined;
  /** The comment in the image's history. */
  readonly message: string;
  /** Instructions of a Dockerfile. */
  readonly changes: readonly string[];
  readonly platform: Platform | undefined;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

const LAYER_TYPES: Readonly<Record<Compression, string>> = {
  none: MediaType.ociLayer,
  gzip: MediaType.ociLayerGzip,
  zstd: MediaType.ociLayerZstd,
};

/** What an image is called on its way whose identifier is known only at its end. */
const BAR = 'import';

/**
 * Makes an image of one layer from a tar. The blob is kept as it came, so that importing the same file again stores no
 * second copy of it, and whoever pulls the image gets the very bytes that were given here.
 */
export class Importer {
  readonly #parts: ImporterParts;
  readonly #underWay = new UnderWay();

  constructor(parts: ImporterParts) {
    this.#parts = parts;
  }

  /** Resolves with the image ID when the image is visible; when it rejects, nothing is. */
  import(request: ImportRequest, progress: ProgressSink): Promise<Digest> {
    return this.#underWay.track(this.#import(request, progress));
  }

  /** Waits until nothing is under way, once no bytes come any more. */
  close(): Promise<void> {
    return this.#underWay.ended();
  }

  async #import(request: ImportRequest, progress: ProgressSink): Promise<Digest> {
    const { leases, collector, db, tracer } = this.#parts;
    // Before anything is taken in, since it may be wrong.
    const config = applyChanges({}, request.changes);
    const lease = leases.acquire('import');
    let id: Digest;
    try {
      const source = request.source instanceof URL ? await this.#download(request, progress) : request.source;
      const { layer, compression } = await this.#takeIn(source, lease);
      const image = await this.#compose(layer, compression, { ...request, config }, lease);
      await this.#parts.admission.admitArchive('tarball', 'import', image.target.digest);
      request.signal.throwIfAborted();
      const commit = (): Digest => {
        const names = request.name === undefined ? [] : [request.name];
        const arrival = putArrived(this.#parts, { ...image, indexes: [], names }, 'import');
        collector.collect(lease.release());
        return arrival.id;
      };
      id = tracer.during('commit', {}, () => db.transaction(commit));
    } catch (error) {
      collector.collect(lease.release());
      // What breaks its own format is the client's to mend.
      throw isKind(error, 'corrupt') ? new LayerdError('invalid', error.message, { cause: error }) : error;
    }
    this.#parts.onCommit();
    return id;
  }

  /** Opens a URL; its bar moves as its bytes are taken. */
  async #download({ source, signal }: ImportRequest, progress: ProgressSink): Promise<AsyncIterable<Uint8Array>> {
    const url = source as URL;
    const { body, size } = await this.#parts.registries.download(url, { signal });
    progress({ status: `Downloading from ${url.href}` });
    return watched(body, new ArrivalBar({ id: BAR, status: 'Importing', total: size, sink: progress }));
  }

  /** Takes the layer into the stores, under the lease. */
  async #takeIn(
    source: AsyncIterable<Uint8Array>,
    lease: Lease,
  ): Promise<{ layer: UnpackedLayer; compression: Compression }> {
    const { content, layers, unpacker } = this.#parts;
    const staged = { blob: content.stagingPath(), image: content.stagingPath() };
    try {
      const unpacking = unpacker.start({ blobPath: staged.blob, resumeAt: 0, imagePath: staged.image, expected: {} });
      let compression: Compression;
      try {
        const { head, bytes } = await peeked(source);
        refuseOthers(head);
        compression = compressionOf(head);
        for await (const chunk of bytes) await unpacking.write(chunk);
      } catch (error) {
        await unpacking.abort();
        throw error;
      }
      const layer = await unpacking.finish();
      lease.add([layer.digest]);
      if (!content.has(layer.digest)) await content.commit(layer.digest, layer.blobSize, staged.blob);
      layers.commit(layer, staged.image);
      return { layer, compression };
    } finally {
      await rm(staged.blob, { force: true });
    }
  }

  /** Writes the config and the manifest. */
  async #compose(
    layer: UnpackedLayer,
    compression: Compression,
    { config, message, platform }: Pick<ImportRequest, 'message' | 'platform'> & Pick<ImageConfig, 'config'>,
    lease: Lease,
  ): Promise<{ target: Descriptor; manifests: [StoredManifest] }> {
    const { host, store, layers } = this.#parts;
    const created = new Date(store.now()).toISOString();
    const image: ImageConfig = {
      ...(platform ?? host),
      created,
      ...(config === undefined ? {} : { config }),
      rootfs: { type: 'layers', diff_ids: [layer.diffId] },
      history: [{ created, comment: message }],
    };
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: MediaType.ociManifest,
      config: await this.#put(MediaType.ociConfig, image, lease),
      layers: [{ mediaType: LAYER_TYPES[compression], digest: layer.digest, size: layer.blobSize }],
    };
    const target = await this.#put(MediaType.ociManifest, manifest, lease);
    return { target, manifests: [describeManifest(layers, { descriptor: target, manifest }, 'image', image)] };
  }

  async #put(mediaType: string, document: object, lease: Lease): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = digestOf(bytes);
    lease.add([digest]);
    await this.#parts.content.putDocument(digest, bytes);
    return { mediaType, digest, size: bytes.byteLength };
  }
}

async function* watched(body: AsyncIterable<Uint8Array>, bar: ArrivalBar): AsyncGenerator<Uint8Array> {
  let received = 0;
  for await (const chunk of body) {
    yield chunk;
    received += chunk.byteLength;
    bar.update(received);
  }
}
