import { createRequire } from 'node:module';

/** Bytes that are gathered before the kernel is asked to begin writing them to the disk. */
const STRIDE_BYTES = 8 * 1024 * 1024;
/** SYNC_FILE_RANGE_WRITE of sync_file_range(2): begin to write what is dirty, and do not wait for it. */
const BEGIN_WRITE = 2;

type SyncFileRange = (file: number, offset: number, length: number, flags: number) => number;

/** The part of koffi that is used. */
interface Koffi {
  load(path: string): { func(prototype: string): SyncFileRange };
}

/**
 * Has a file written to the disk while it grows, so that the sync at its end finds little left to do. It is only ever a
 * head start: nothing depends on it, and without koffi there is none.
 */
export class Writeback {
  readonly #syncFileRange: SyncFileRange | undefined;

  constructor() {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as Koffi;
      this.#syncFileRange = koffi
        .load('libc.so.6')
        .func('int sync_file_range(int fd, int64_t offset, int64_t nbytes, unsigned int flags)');
    } catch {
      this.#syncFileRange = undefined;
    }
  }

  /** Says that the file has grown from one size to another. */
  grown(file: number, from: number, to: number): void {
    const begin = from - (from % STRIDE_BYTES);
    if (to - begin >= STRIDE_BYTES) this.#syncFileRange?.(file, begin, to - begin, BEGIN_WRITE);
  }
}
