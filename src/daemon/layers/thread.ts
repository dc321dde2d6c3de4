import { extname } from 'node:path';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Job, JobOutcome } from './job.ts';
import { Ring } from './ring.ts';

/** Bytes on the way to a thread: enough to keep both sides busy while the other is not scheduled. */
const RING_BYTES = 2 * 1024 * 1024;
/** A thread's own heap; what grows with a layer is outside of it, in typed arrays. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

/** The worker beside this file: TypeScript in a checkout, JavaScript in a package. */
const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);

/** A worker thread, from the main thread's side, and the ring through which it gets its bytes. */
export class LayerThread {
  readonly ring = Ring.allocate(RING_BYTES);
  readonly #worker: Worker;
  readonly #onGone: () => void;
  readonly #gone: Promise<void>;
  /** The blob that the job is about. */
  #blob = '';
  #answer: ((outcome: JobOutcome) => void) | undefined;
  #error: unknown;
  #idleTimer: NodeJS.Timeout | undefined;

  /** `onGone` is called when the thread is not to be given jobs any more: it is ending, or has ended of itself. */
  constructor(onGone: () => void) {
    this.#onGone = onGone;
    this.#worker = new Worker(WORKER, { name: 'layers', env: SHARE_ENV, resourceLimits: LIMITS });
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#gone = promise;
    this.#worker.on('message', (outcome: JobOutcome) => this.#answer?.(outcome));
    this.#worker.on('error', (error: unknown) => (this.#error = error));
    this.#worker.on('exit', (code) => {
      clearTimeout(this.#idleTimer);
      this.#answer?.({ failure: this.#failure(code) });
      resolve(undefined);
      onGone();
    });
  }

  /** Has a job about a blob, called so, done; its bytes are expected in the ring. */
  async run(job: Job, blob: string): Promise<JobOutcome> {
    clearTimeout(this.#idleTimer);
    this.#blob = blob;
    this.#worker.ref();
    const outcome = await new Promise<JobOutcome>((resolve) => {
      this.#answer = resolve;
      this.#worker.postMessage(job);
    });
    this.#answer = undefined;
    return outcome;
  }

  /** Nothing is to be done; ends after that many milliseconds. */
  rest(idle: number): void {
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => void this.end(), idle).unref();
  }

  async end(): Promise<void> {
    // Now, not when it has ended: a job that was given to it in between would fail.
    this.#onGone();
    await this.#worker.terminate();
    await this.#gone;
  }

  /** What to say of a thread that ended in the middle of a job. */
  #failure(code: number): LayerdError {
    const error = this.#error;
    if (error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
      // The layer's own doing, and so again with the next try.
      const limit = `the ${LIMITS.maxOldGenerationSizeMb} MiB that a layer is given`;
      return new LayerdError('invalid', `cannot unpack ${this.#blob}: it needs more memory than ${limit}`);
    }
    const reason = error === undefined ? `exit code ${code}` : messageOf(error);
    return new LayerdError('internal', `cannot unpack ${this.#blob}: its thread ended: ${reason}`);
  }
}
