import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import type { Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import { storageError } from '../metadata/storage-error.ts';
import { asPublished, nameOf, type UnpackRequest } from './layer.ts';
import { RingClosed, type Ring } from './ring.ts';
import type { Writeback } from './writeback.ts';

/** Bytes that are read at a time of what an earlier transfer left. */
const REREAD_BYTES = 256 * 1024;
/** Bytes that are taken from the ring at a time: what fits into the processor's cache together with what it expands to. */
const PIECE_BYTES = 128 * 1024;

/** What is asked for, without what stays on the main thread. */
export type ReceiveRequest = Omit<UnpackRequest, 'onProgress'>;

/** What the bytes go on to. */
export interface Target {
  write(bytes: Uint8Array): void;
  end(): void;
}

/**
 * Takes a blob's bytes out of the ring, appends them to the blob's file, checks their size and digest and passes them on.
 * Synchronous: it sleeps while the ring is empty.
 *
 * Bytes that the target finds corrupt are taken in to the end nevertheless: only the digest tells whether the registry's
 * bytes are wrong, which another mirror may mend, or whether the layer was made like this.
 */
export class Receiver {
  readonly #request: ReceiveRequest;
  readonly #source: Ring;
  readonly #target: Target;
  readonly #consumed: BigUint64Array<SharedArrayBuffer>;
  readonly #writeback: Writeback;
  readonly #hash = createHash('sha256');
  #size = 0;
  #corrupt: LayerdError | undefined;

  /** `consumed` is kept at the number of bytes that have passed. */
  constructor(
    request: ReceiveRequest,
    source: Ring,
    target: Target,
    consumed: BigUint64Array<SharedArrayBuffer>,
    writeback: Writeback,
  ) {
    this.#request = request;
    this.#source = source;
    this.#target = target;
    this.#consumed = consumed;
    this.#writeback = writeback;
  }

  /** Receives to the end; returns the digest. A file whose content proved wrong is removed. */
  run(): Digest {
    const { blobPath, resumeAt, expected } = this.#request;
    try {
      const isComplete = resumeAt > 0 && resumeAt === expected.size;
      // A blob that is complete may be a stored one, which nothing must write to.
      const file = openSync(blobPath, isComplete ? 'r' : resumeAt > 0 ? 'r+' : 'w', 0o600);
      try {
        this.#reread(file);
        if (!isComplete) ftruncateSync(file, resumeAt);
        this.#receive(file);
      } finally {
        closeSync(file);
      }
      return this.#check();
    } catch (error) {
      if (error instanceof RingClosed) throw error;
      if (isKind(error, 'corrupt')) rmSync(blobPath, { force: true });
      throw storageError(error, `store ${nameOf(expected.digest)}`, blobPath);
    }
  }

  #reread(file: number): void {
    const { resumeAt, blobPath } = this.#request;
    const buffer = Buffer.allocUnsafeSlow(Math.min(REREAD_BYTES, resumeAt));
    while (this.#size < resumeAt) {
      this.#source.throwIfClosed();
      const length = readSync(file, buffer, 0, Math.min(buffer.length, resumeAt - this.#size), this.#size);
      if (length === 0) {
        throw new LayerdError(
          'corrupt',
          `${blobPath} has ${this.#size} bytes where ${resumeAt} were received before; the blob has to be fetched again`,
        );
      }
      this.#take(buffer.subarray(0, length));
    }
  }

  #receive(file: number): void {
    const { expected, resumeAt } = this.#request;
    const { digest, size = Infinity } = expected;
    let at = resumeAt;
    try {
      for (let bytes = this.#source.next(); bytes !== undefined; bytes = this.#source.next()) {
        const piece = bytes.subarray(0, PIECE_BYTES);
        if (at + piece.length > size) {
          // An endless body must not fill the disk.
          throw new LayerdError('corrupt', `more than the ${size} bytes came that ${nameOf(digest)} has`);
        }
        writeWhole(file, piece, at);
        this.#writeback.grown(file, at, at + piece.length);
        this.#take(piece);
        this.#source.release(piece.length);
        at += piece.length;
      }
    } catch (error) {
      if (error instanceof RingClosed) this.#keep(file, at);
      throw error;
    }
  }

  /** Writes down what has arrived when the unpacking is given up, so that it is not fetched again. */
  #keep(file: number, start: number): void {
    // Where it is not the other side that gave up, it learns it now.
    this.#source.close();
    let at = start;
    for (let bytes = this.#source.rest(); bytes !== undefined; bytes = this.#source.rest()) {
      const piece = bytes.subarray(0, Math.max(0, (this.#request.expected.size ?? Infinity) - at));
      writeWhole(file, piece, at);
      this.#source.release(bytes.length);
      at += piece.length;
    }
  }

  #take(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#size += bytes.length;
    this.#pass(() => this.#target.write(bytes));
    Atomics.store(this.#consumed, 0, BigInt(this.#size));
  }

  #pass(call: () => void): void {
    if (this.#corrupt !== undefined) return;
    try {
      call();
    } catch (error) {
      if (!isKind(error, 'corrupt')) throw error;
      this.#corrupt = error;
    }
  }

  #check(): Digest {
    const { digest, size = this.#size } = this.#request.expected;
    const actual: Digest = `sha256:${this.#hash.digest('hex')}`;
    if ((digest !== undefined && actual !== digest) || this.#size !== size) {
      throw new LayerdError(
        'corrupt',
        `the bytes that came are ${this.#size} with digest ${actual}, expected ${size} with digest ${digest ?? 'unknown'}`,
      );
    }
    this.#pass(() => this.#target.end());
    if (this.#corrupt !== undefined) throw asPublished(this.#request.expected.digest, this.#corrupt.message);
    return actual;
  }
}

function writeWhole(file: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, bytes.length - at, position + at);
}
