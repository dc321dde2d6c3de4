import { extname } from 'node:path';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { messageOf } from '../../protocol/errors.ts';
import type { Job, JobOutcome } from './job.ts';
import { Ring } from './ring.ts';

/** Bytes on the way to a thread: enough to keep both sides busy while the other is not scheduled. */
const RING_BYTES = 2 * 1024 * 1024;
/** How long an idle thread stays, in milliseconds: the next layer of a pull comes sooner. */
const IDLE_MILLISECONDS = 2000;
/** A thread's own heap; what grows with a layer is outside of it, in typed arrays. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

/** The worker beside this file: TypeScript in a checkout, JavaScript in a package. */
const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);

/** A worker thread, from the main thread's side, and the ring through which it gets its bytes. */
export class LayerThread {
  readonly ring = Ring.allocate(RING_BYTES);
  readonly #worker: Worker;
  readonly #gone: Promise<void>;
  #answer: ((outcome: JobOutcome) => void) | undefined;
  #error: unknown;
  #idleTimer: NodeJS.Timeout | undefined;

  /** `onGone` is called when the thread has ended, of itself or not. */
  constructor(onGone: () => void) {
    this.#worker = new Worker(WORKER, { name: 'layers', env: SHARE_ENV, resourceLimits: LIMITS });
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#gone = promise;
    this.#worker.on('message', (outcome: JobOutcome) => this.#answer?.(outcome));
    this.#worker.on('error', (error: unknown) => (this.#error = error));
    this.#worker.on('exit', (code) => {
      clearTimeout(this.#idleTimer);
      const reason = this.#error === undefined ? `exit code ${code}` : messageOf(this.#error);
      this.#answer?.({
        failure: { kind: 'internal', message: `the thread that unpacks a layer ended: ${reason}; try again` },
      });
      resolve(undefined);
      onGone();
    });
  }

  /** Has a job done; its bytes are expected in the ring. */
  async run(job: Job): Promise<JobOutcome> {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    const outcome = await new Promise<JobOutcome>((resolve) => {
      this.#answer = resolve;
      this.#worker.postMessage(job);
    });
    this.#answer = undefined;
    return outcome;
  }

  /** Nothing is to be done; ends after a while. */
  rest(): void {
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => void this.end(), IDLE_MILLISECONDS).unref();
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
    await this.#gone;
  }
}
