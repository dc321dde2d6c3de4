import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, truncate, type FileHandle } from 'node:fs/promises';
import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { storageError } from '../metadata/storage-error.ts';

/**
 * Gathers a blob that is kept as it is (a config, an attestation, an artifact's file) in its ingest file, hashing the
 * bytes as they pass. Layers are gathered by an unpacking, which has the same verbs.
 */
export class Ingest {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #expected: { digest: Digest; size: number };
  readonly #hash = createHash('sha256');
  #size = 0;

  private constructor(file: FileHandle, path: string, expected: { digest: Digest; size: number }) {
    this.#file = file;
    this.#path = path;
    this.#expected = expected;
  }

  /** Opens the file, and reads the first `resumeAt` bytes again that an earlier ingest left; the rest is cut off. */
  static async open(path: string, resumeAt: number, expected: { digest: Digest; size: number }): Promise<Ingest> {
    try {
      const ingest = new Ingest(await open(path, 'a'), path, expected);
      await truncate(path, resumeAt);
      if (resumeAt > 0) {
        for await (const chunk of createReadStream(path, { end: resumeAt - 1 })) {
          ingest.#hash.update(chunk as Buffer);
          ingest.#size += (chunk as Buffer).length;
        }
      }
      return ingest;
    } catch (error) {
      throw storageError(error, `store ${expected.digest}`);
    }
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#size += chunk.byteLength;
    if (this.#size > this.#expected.size) {
      // An endless body must not fill the disk.
      throw new LayerdError(
        'corrupt',
        `more than the ${this.#expected.size} bytes came that ${this.#expected.digest} has`,
      );
    }
    this.#hash.update(chunk);
    try {
      // appendFile goes on after a short write, which is what a disk that is about to be full gives first.
      await this.#file.appendFile(chunk);
    } catch (error) {
      throw storageError(error, `store ${this.#expected.digest}`);
    }
  }

  /** Checks size and digest. On a mismatch the file is removed: nothing can be resumed from it. */
  async finish(): Promise<undefined> {
    await this.#file.close();
    const { digest, size } = this.#expected;
    const actual = `sha256:${this.#hash.digest('hex')}`;
    if (this.#size === size && actual === digest) return undefined;
    await rm(this.#path, { force: true });
    throw new LayerdError(
      'corrupt',
      this.#size === size
        ? `the bytes that came have digest ${actual}, expected ${digest}`
        : `the bytes that came for ${digest} are ${this.#size}, expected ${size}`,
    );
  }

  /** Gives up; what was written stays for a resume. */
  async abort(): Promise<void> {
    await this.#file.close();
  }
}
