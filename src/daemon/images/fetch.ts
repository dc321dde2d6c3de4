import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, isKind, LayerdError } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import { Ingest } from '../content/ingest.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Unpacker } from '../layers/unpacker.ts';
import type { UnpackedLayer } from '../layers/layer.ts';
import type { Database } from '../metadata/database.ts';
import type { Credentials, Logger, Registries, RemoteBlob, Repository } from '../registry/registry.ts';
import type { TransferControl, TransferRequest } from '../transfers/queue.ts';

/** Where one party would have a blob fetched from. */
export interface BlobSource {
  readonly repository: Repository;
  readonly credentials: Credentials | undefined;
}

/** How often a blob whose bytes proved wrong is fetched in all: once more, from another mirror where there is one. */
const MAX_CORRUPT_ATTEMPTS = 2;

/** An attempt that brings less, in bytes, counts as failed: a registry could drip a transfer along for ever. */
const FRUITFUL_BYTES = 64 * 1024;

/** First pause before a cut transfer goes on, in milliseconds; it doubles with each attempt that brought nothing. */
const RESUME_PAUSE = 100;
const MAX_RESUME_PAUSE = 10_000;

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
  readonly #registries: Registries;
  readonly #maxAttempts: () => number;
  readonly #logger: Logger;

  constructor(options: {
    db: Database;
    content: ContentStore;
    layers: LayerStore;
    unpacker: Unpacker;
    registries: Registries;
    /** `max-download-attempts`: attempts in a row that bring next to nothing before a transfer fails. */
    maxAttempts: () => number;
    logger: Logger;
  }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#layers = options.layers;
    this.#unpacker = options.unpacker;
    this.#registries = options.registries;
    this.#maxAttempts = options.maxAttempts;
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
        this.#retry(request, control, error, { received: 0, unpacked: 0 });
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
      await this.#receive(request, source, control, sink, resumeAt, served, avoid);
      control.update({ state: 'verifying', received: size });
      if (request.kind === 'layer') control.update({ state: 'extracting' });
      unpacked = await sink.finish();
    } catch (error) {
      await sink.abort();
      throw error;
    }
    if (!stored) await this.#content.commit(digest, size);
    if (unpacked !== undefined) this.#layers.commit(unpacked, imagePath);
    this.#db.run(
      'INSERT OR IGNORE INTO blob_source (digest, repository) VALUES (?, ?)',
      digest,
      `${source.repository.registry}/${source.repository.path}`,
    );
  }

  /** Feeds the sink from `received` to the end, over as many connections as it takes. */
  async #receive(
    request: TransferRequest,
    source: BlobSource,
    control: TransferControl,
    sink: Sink,
    resumeAt: number,
    served: Set<string>,
    avoid: ReadonlySet<string>,
  ): Promise<void> {
    const { digest, size } = request;
    let received = resumeAt;
    let attempts = 0;
    let fruitless = 0;
    control.update({ state: 'downloading', received, attempts });
    while (received < size) {
      control.signal.throwIfAborted();
      attempts += 1;
      control.update({ state: 'downloading', attempts });
      const before = received;
      // Its own failures have been tried again inside.
      const remote = await this.#registries.blob(source.repository, digest, {
        credentials: source.credentials,
        signal: control.signal,
        offset: received,
        avoid,
      });
      if (remote.size !== undefined && remote.size !== size) {
        throw otherSize(remote.host, remote.size, request);
      }
      served.add(remote.host);
      try {
        for await (const chunk of skip(remote, received)) {
          await sink.write(chunk);
          received += chunk.byteLength;
          control.update({ received });
        }
        if (received < size) throw new LayerdError('unavailable', `${remote.host} closed the connection early`);
      } catch (error) {
        if (control.signal.aborted || !isKind(error, 'unavailable')) throw error;
        fruitless = received - before >= FRUITFUL_BYTES ? 0 : fruitless + 1;
        if (fruitless >= this.#maxAttempts()) {
          throw new LayerdError(
            'unavailable',
            `fetching ${digest} failed after ${attempts} attempts, ${received} of ${size} bytes are here and will not be fetched again: ${messageOf(error)}`,
            { cause: error },
          );
        }
        this.#retry(request, control, error, { received });
        await sleep(Math.min(RESUME_PAUSE * 2 ** fruitless, MAX_RESUME_PAUSE) * (0.5 + Math.random() / 2), undefined, {
          signal: control.signal,
        });
      }
    }
  }

  /** Says why a transfer that goes on had to be begun again. */
  #retry(
    { digest, size }: TransferRequest,
    control: TransferControl,
    error: LayerdError,
    state: { received: number; unpacked?: number },
  ): void {
    const reason = error.message;
    this.#logger.warn('retrying a transfer', { digest, received: state.received, size, reason });
    control.update({ ...state, state: 'retrying', lastError: reason });
  }
}

function otherSize(holder: string, actual: number, { digest, size }: Pick<Descriptor, 'digest' | 'size'>): LayerdError {
  return new LayerdError('corrupt', `${holder} has ${actual} bytes under ${digest}, the manifest says ${size}`);
}

/** The body from `position` on: a registry without ranges sends what is here already once more. */
async function* skip(remote: RemoteBlob, position: number): AsyncGenerator<Uint8Array> {
  if (remote.offset > position) {
    throw new LayerdError(
      'corrupt',
      `${remote.host} was asked for bytes from ${position} and sent them from ${remote.offset}`,
    );
  }
  let toSkip = position - remote.offset;
  for await (const chunk of remote.body) {
    if (toSkip >= chunk.byteLength) toSkip -= chunk.byteLength;
    else {
      yield chunk.subarray(toSkip);
      toSkip = 0;
    }
  }
}
