import { rm } from 'node:fs/promises';
import { isKind, type LayerdError } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import { Ingest } from '../content/ingest.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Unpacker } from '../layers/unpacker.ts';
import type { UnpackedLayer } from '../layers/layer.ts';
import type { Database } from '../metadata/database.ts';
import type { Logger } from '../registry/registry.ts';
import type { TransferControl, TransferRequest } from '../transfers/queue.ts';
import { otherSize, type BlobSource, type Downloader } from './download.ts';

/** How often a blob whose bytes proved wrong is fetched in all: once more, from another mirror where there is one. */
const MAX_CORRUPT_ATTEMPTS = 2;

/** What gathers a blob's bytes: an {@link Ingest}, or an unpacking for a layer. */
interface Sink {
  write(chunk: Uint8Array): Promise<void>;
  finish(): Promise<UnpackedLayer | undefined>;
  abort(): Promise<void>;
}

/**
 * The work of a transfer: brings one blob from a registry into the store, verified, resuming whatever was begun before.
 * A connection that breaks is taken up again at the byte where it broke, without unpacking anything twice.
 */
export class Fetcher {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #unpacker: Unpacker;
  readonly #downloader: Downloader;
  readonly #logger: Logger;

  constructor(options: {
    db: Database;
    content: ContentStore;
    layers: LayerStore;
    unpacker: Unpacker;
    downloader: Downloader;
    logger: Logger;
  }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#layers = options.layers;
    this.#unpacker = options.unpacker;
    this.#downloader = options.downloader;
    this.#logger = options.logger;
  }

  /** Whether nothing is left to do for the blob: it is stored, and unpacked if it is a layer. */
  isComplete(request: Pick<TransferRequest, 'digest' | 'kind'>): boolean {
    if (!this.#content.has(request.digest)) return false;
    if (request.kind !== 'layer') return true;
    const diffId = this.#layers.diffIdOf(request.digest);
    return diffId !== undefined && this.#layers.has(diffId);
  }

  /** Refuses a descriptor whose size is not that of the blob that is stored under its digest. */
  refuseOtherSize({ digest, size }: Pick<Descriptor, 'digest' | 'size'>): void {
    const stored = this.#content.get(digest);
    if (stored !== undefined && stored.size !== size) throw otherSize('the store', stored.size, { digest, size });
  }

  async fetch(request: TransferRequest, source: BlobSource, control: TransferControl): Promise<void> {
    const served = new Set<string>();
    const avoid = new Set<string>();
    for (let attempt = 1; ; attempt += 1) {
      // Not as wrong bytes below: it is the manifest that is wrong, and the blob that is stored must not suffer for it.
      this.refuseOtherSize(request);
      if (this.isComplete(request)) return;
      try {
        await this.#fetchOnce(request, source, control, served, avoid);
        return;
      } catch (error) {
        if (!isKind(error, 'corrupt') || attempt === MAX_CORRUPT_ATTEMPTS) throw error;
        for (const host of served) avoid.add(host);
        if (this.#content.has(request.digest)) this.#content.remove([request.digest]);
        this.#retry(request, control, error);
      }
    }
  }

  async #fetchOnce(
    request: TransferRequest,
    source: BlobSource,
    control: TransferControl,
    served: Set<string>,
    avoid: ReadonlySet<string>,
  ): Promise<void> {
    const { digest, size } = request;
    // A blob that is stored but not unpacked (kept before as something else) is read from its place.
    const stored = this.#content.has(digest);
    const path = stored ? this.#content.path(digest) : this.#content.ingestPath(digest);
    const resumeAt = stored ? size : Math.min(this.#content.ingestSize(digest), size);
    const imagePath = this.#layers.temporaryPath(digest);
    const sink: Sink =
      request.kind === 'layer'
        ? this.#unpacker.start({
            blobPath: path,
            resumeAt,
            imagePath,
            expected: { digest, size },
            onProgress: ({ consumed }) => control.update({ unpacked: consumed }),
          })
        : await Ingest.open(path, resumeAt, { digest, size });
    let unpacked: UnpackedLayer | undefined;
    try {
      const { signal } = control;
      const update = control.update.bind(control);
      const options = { offset: resumeAt, signal, avoid, served, update };
      for await (const chunk of this.#downloader.bytes(request, source, options)) await sink.write(chunk);
      control.update({ state: 'verifying', received: size });
      if (request.kind === 'layer') control.update({ state: 'extracting' });
      unpacked = await sink.finish();
    } catch (error) {
      await sink.abort();
      throw error;
    }
    try {
      if (!stored) await this.#content.commit(digest, size);
      if (unpacked !== undefined) this.#layers.commit(unpacked, imagePath);
    } catch (error) {
      // The blob is kept for a resume; an EROFS image that nothing names would stay until the next start.
      await rm(imagePath, { force: true });
      throw error;
    }
    this.#db.run(
      'INSERT OR IGNORE INTO blob_source (digest, repository) VALUES (?, ?)',
      digest,
      `${source.repository.registry}/${source.repository.path}`,
    );
  }

  /** Says why a transfer has to be begun again. */
  #retry({ digest, size }: TransferRequest, control: TransferControl, error: LayerdError): void {
    const reason = error.message;
    this.#logger.warn('retrying a transfer', { digest, received: 0, size, reason });
    control.update({ received: 0, unpacked: 0, state: 'retrying', lastError: reason });
  }
}
