import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { storageError } from '../metadata/storage-error.ts';

/** Unit of an EROFS image; every kernel that has EROFS reads it. */
export const BLOCK_BYTES = 4096;
/** Bytes gathered before they are written. */
export const STAGE_BYTES = 512 * 1024;

/** A file that is written from its start to its end, with its first block left for last. Synchronous. */
export class ImageFile {
  readonly path: string;
  readonly #fd: number;
  /** Gathers small pieces, so that the kernel sees few, large, aligned writes. */
  readonly #stage: Buffer;
  #staged = 0;
  /** Where the stage's first byte goes. */
  #base = BLOCK_BYTES;
  #isOpen = true;

  constructor(path: string, stage: Buffer = Buffer.allocUnsafeSlow(STAGE_BYTES)) {
    this.path = path;
    this.#stage = stage;
    this.#fd = this.#do(() => openSync(path, 'w', 0o600));
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#base + this.#staged;
  }

  append(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const length = Math.min(bytes.length - at, this.#stage.length - this.#staged);
      this.#stage.set(length === bytes.length ? bytes : bytes.subarray(at, at + length), this.#staged);
      this.#staged += length;
      at += length;
      if (this.#staged === this.#stage.length) this.#flush();
    }
  }

  /** Free space of that many bytes in the stage, filled with zeros, which become the next bytes of the file. */
  claim(length: number): { buffer: Buffer; offset: number } {
    if (this.#staged + length > this.#stage.length) this.#flush();
    const offset = this.#staged;
    this.#stage.fill(0, offset, offset + length);
    this.#staged += length;
    return { buffer: this.#stage, offset };
  }

  /** The next `length` bytes are zeros, of which long runs become a hole of the file. */
  skip(length: number): void {
    if (length <= this.#stage.length - this.#staged) {
      this.#stage.fill(0, this.#staged, this.#staged + length);
      this.#staged += length;
    } else {
      this.#flush();
      this.#base += length;
    }
  }

  /** Zeros up to the next multiple. */
  align(multiple: number): void {
    const over = this.position % multiple;
    if (over > 0) this.skip(multiple - over);
  }

  /** Writes what is left, and last of all the first block. */
  finish(firstBlock: Uint8Array): void {
    this.#flush();
    this.#do(() => ftruncateSync(this.#fd, this.#base));
    this.#write(firstBlock, 0);
    this.close();
  }

  /** Closes the file as it is. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
  }

  #flush(): void {
    this.#write(this.#stage.subarray(0, this.#staged), this.#base);
    this.#base += this.#staged;
    this.#staged = 0;
  }

  #write(bytes: Uint8Array, position: number): void {
    // A disk that is about to be full writes a part first; the next call says why.
    for (let at = 0; at < bytes.length;) {
      at += this.#do(() => writeSync(this.#fd, bytes, at, bytes.length - at, position + at));
    }
  }

  #do<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw storageError(error, 'write an EROFS image', this.path);
    }
  }
}
