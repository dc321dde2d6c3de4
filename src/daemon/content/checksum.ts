import { extname } from 'node:path';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import type { Digest } from '../../protocol/digest.ts';
import type { Piece, PieceAnswer } from './checksum-thread.ts';

/** Bytes that are read between two looks at whether to go on, and how fast: 8 MiB. */
const PIECE_BYTES = 8 * 1024 * 1024;

/** A thread that nobody needs is let go of after this, in milliseconds. */
const IDLE = 5000;

/** The thread beside this file: TypeScript in a checkout, JavaScript in a package. */
const THREAD = new URL(`./checksum-thread${extname(import.meta.url)}`, import.meta.url);

/** What a file holds. */
export interface Checksum {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

export interface ChecksumOptions {
  /** Ends it; its reason is thrown. */
  readonly signal: AbortSignal;
  /** Is told the bytes of each piece that was read, and is waited for before the next. */
  readonly pace?: (bytes: number) => void | Promise<void>;
}

/**
 * Computes what files hold, one after the other, in a thread of its own that yields to all others, and from the disk rather
 * than from what the kernel remembers of it, where the file system allows that: damage is where the bytes lie.
 */
export class Checksums {
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Rejects with the error of the file system where the file cannot be read. */
  sum(path: string, options: ChecksumOptions): Promise<Checksum> {
    const turn = this.#last.then(() => this.#sum(path, options));
    // Whoever asked hears of a failure; the next in line has its turn all the same.
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#last;
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  async #sum(path: string, { signal, pace }: ChecksumOptions): Promise<Checksum> {
    signal.throwIfAborted();
    clearTimeout(this.#idle);
    const worker = (this.#worker ??= this.#start());
    worker.ref();
    try {
      for (let from = 0; ;) {
        const answer = await ask(worker, { path, from, length: PIECE_BYTES });
        if ('code' in answer) throw Object.assign(new Error(answer.message), { code: answer.code });
        await pace?.(answer.size - from);
        signal.throwIfAborted();
        const { size, digest } = answer;
        if (digest !== undefined) return { size, digest };
        from = size;
      }
    } finally {
      worker.unref();
      this.#idle = setTimeout(() => {
        // First, so that nobody who comes meanwhile is given one that is ending.
        this.#worker = undefined;
        void worker.terminate();
      }, IDLE).unref();
    }
  }

  #start(): Worker {
    const worker = new Worker(THREAD, { name: 'checksums', env: SHARE_ENV });
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
    });
    return worker;
  }
}

function ask(worker: Worker, piece: Piece): Promise<PieceAnswer> {
  return new Promise((resolve, reject) => {
    const done = <T>(settle: (value: T) => void) => {
      return (value: T): void => {
        worker.off('message', answered).off('error', failed).off('exit', ended);
        settle(value);
      };
    };
    const answered = done<PieceAnswer>(resolve);
    const failed = done<Error>(reject);
    const ended = done<number>((code) => reject(new Error(`the thread that reads ${piece.path} ended with ${code}`)));
    worker.on('message', answered).on('error', failed).on('exit', ended);
    worker.postMessage(piece);
  });
}
