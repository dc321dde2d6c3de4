import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import { ConnectionError } from './connection-error.ts';
import type { UploadLocation } from './location.ts';
import type { Delivery, LocalBlob, Logger } from './registry.ts';
import { askedPause, backoffOf, type Sleep } from './retry.ts';
import { UploadSetback, type Uploads } from './uploads.ts';

/** A blob of so many bytes or less is sent in one piece, with the request that ends its upload: 1 MiB. */
const MONOLITHIC_BYTES = 1024 * 1024;

/** An attempt that brings less, in bytes, counts as failed: a registry could have us try for ever. */
const FRUITFUL_BYTES = 64 * 1024;

export interface DeliveryOptions {
  /** Paths of repositories on the same registry that are said to hold the blob. */
  readonly from: readonly string[];
  readonly onSent: (bytes: number) => void;
  readonly signal: AbortSignal | undefined;
  /** Attempts in a row that bring next to nothing before the delivery fails. */
  readonly maxAttempts: number;
  readonly logger: Logger;
  readonly sleep: Sleep;
  readonly random: () => number;
  readonly now: () => number;
}

/** Brings a blob into a repository with as few bytes as it takes. */
export async function deliver(uploads: Uploads, blob: LocalBlob, options: DeliveryOptions): Promise<Delivery> {
  // Another push may have brought it since the caller asked.
  if (await uploads.hasBlob(blob.digest)) return { how: 'present' };
  let location: UploadLocation | undefined;
  for (const from of options.from) {
    // The upload that a registry begins when it cannot mount is the one to go on with.
    if (location !== undefined) await uploads.cancel(location);
    const mounted = await uploads.mount(blob.digest, from);
    if (mounted === 'mounted') return { how: 'mounted', from };
    location = mounted;
  }
  await new Upload(uploads, blob, options, location).run();
  return { how: 'uploaded' };
}

/** One blob on its way to the registry, over as many connections as it takes. */
class Upload {
  readonly #uploads: Uploads;
  readonly #blob: LocalBlob;
  readonly #options: DeliveryOptions;
  #location: UploadLocation | undefined;
  /** Bytes that the registry has, as it said itself. */
  #offset = 0;
  #sent = 0;

  constructor(uploads: Uploads, blob: LocalBlob, options: DeliveryOptions, location: UploadLocation | undefined) {
    this.#uploads = uploads;
    this.#blob = blob;
    this.#options = options;
    this.#location = location;
  }

  async run(): Promise<void> {
    let fruitless = 0;
    for (;;) {
      const before = this.#offset;
      try {
        await this.#advance();
        return;
      } catch (error) {
        if (!this.#isSetback(error)) throw await this.#abandon(error);
        await this.#pause(fruitless + 1, error);
        if (await this.#takeStock()) return;
        fruitless = this.#offset - before >= FRUITFUL_BYTES ? 0 : fruitless + 1;
        if (fruitless >= this.#options.maxAttempts) throw await this.#abandon(error);
      }
    }
  }

  /** From where the upload stands to its end. */
  async #advance(): Promise<void> {
    const { digest, size } = this.#blob;
    this.#location ??= await this.#uploads.begin();
    if (this.#offset === 0 && size <= MONOLITHIC_BYTES) {
      await this.#uploads.finish(this.#location, digest, { size, body: () => this.#read(0) });
      return;
    }
    if (this.#offset < size) {
      const offset = this.#offset;
      const chunk = { offset, size, body: () => this.#read(offset) };
      this.#location = await this.#uploads.append(this.#location, chunk);
      this.#offset = size;
    }
    await this.#uploads.finish(this.#location, digest);
  }

  async *#read(offset: number): AsyncGenerator<Uint8Array> {
    this.#tell(offset);
    for await (const chunk of this.#blob.open(offset)) {
      yield chunk;
      this.#tell(this.#sent + chunk.byteLength);
    }
  }

  /** Whether the upload can be gone on with. */
  #isSetback(error: unknown): error is UploadSetback | ConnectionError {
    if (this.#options.signal?.aborted === true) return false;
    return error instanceof UploadSetback || (error instanceof ConnectionError && error.transient);
  }

  /** Asks the registry how far the upload got before it broke; true where the blob is complete there. */
  async #takeStock(): Promise<boolean> {
    // The answer to the last request may be all that was lost.
    if (await this.#uploads.hasBlob(this.#blob.digest)) return true;
    const before = this.#location;
    const state = before === undefined ? undefined : await this.#stateOf(before);
    // A registry that has more than it was sent has something else.
    const isUsable = state !== undefined && state.offset <= this.#sent;
    if (before !== undefined && !isUsable) await this.#uploads.cancel(before);
    this.#location = isUsable ? state.location : undefined;
    this.#offset = isUsable ? state.offset : 0;
    this.#tell(this.#offset);
    return false;
  }

  async #stateOf(location: UploadLocation): ReturnType<Uploads['state']> {
    try {
      return await this.#uploads.state(location);
    } catch (error) {
      // An upload that cannot be asked for is begun anew.
      if (this.#options.signal?.aborted !== true && isKind(error, 'unavailable')) return undefined;
      throw error;
    }
  }

  async #pause(attempt: number, error: UploadSetback | ConnectionError): Promise<void> {
    const { now, random, sleep, logger, signal } = this.#options;
    const asked = error instanceof UploadSetback ? askedPause(error.response, now(), random) : undefined;
    const wait = asked ?? backoffOf(attempt, random);
    const { digest, size } = this.#blob;
    logger.debug('going on with an upload', { digest, offset: this.#offset, size, wait, reason: error.message });
    try {
      await sleep(wait, signal);
    } catch (stopped) {
      throw await this.#abandon(stopped);
    }
  }

  /** Gives the upload up; returns why, in words. */
  async #abandon(error: unknown): Promise<unknown> {
    if (this.#location !== undefined) await this.#uploads.cancel(this.#location);
    if (!this.#isSetback(error)) return error;
    const { digest, size } = this.#blob;
    const text = `pushing ${digest} failed, ${this.#offset} of ${size} bytes had arrived: ${messageOf(error)}`;
    return new LayerdError(error.kind, text, { cause: error });
  }

  #tell(bytes: number): void {
    this.#sent = bytes;
    this.#options.onSent(bytes);
  }
}
