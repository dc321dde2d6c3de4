import { rm } from 'node:fs/promises';
import { extname } from 'node:path';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { loadIsal } from './isal.ts';
import type { Job, JobOutcome } from './job.ts';
import type { UnpackedLayer, Unpacking, UnpackRequest } from './layer.ts';
import { Ring } from './ring.ts';

/** Bytes between the main thread and a worker: enough to keep both busy while the other is not scheduled. */
const RING_BYTES = 2 * 1024 * 1024;
/** How long an idle worker stays, in milliseconds: the next layer of a pull comes sooner. */
const IDLE_MILLISECONDS = 2000;
/** How often progress is looked at, in milliseconds. */
const PROGRESS_MILLISECONDS = 100;
/** A worker's own heap; what grows with a layer is outside of it, in typed arrays. */
const WORKER_LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

/** The worker beside this file: TypeScript in a checkout, JavaScript in a package. */
const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);

/**
 * Unpacks layer blobs in worker threads, one layer in each. Workers start when they are needed and end when they have been
 * idle for a while; an unpacking beyond the most that run at once waits for its turn.
 */
export class Unpacker {
  readonly #maxWorkers: number;
  readonly #workers = new Set<UnpackWorker>();
  readonly #idle: UnpackWorker[] = [];
  readonly #waiting: WorkerUnpacking[] = [];
  readonly #unsettled = new Set<WorkerUnpacking>();
  #inflater: 'isa-l' | 'zlib' | undefined;
  #isClosed = false;

  /** `maxWorkers`: how many layers are unpacked at once. */
  constructor(options: { maxWorkers: number }) {
    this.#maxWorkers = options.maxWorkers;
  }

  /** What decompresses gzip on this host. */
  get inflater(): 'isa-l' | 'zlib' {
    this.#inflater ??= loadIsal() === undefined ? 'zlib' : 'isa-l';
    return this.#inflater;
  }

  /** Begins to unpack; what goes wrong is told by the unpacking's own methods. */
  start(request: UnpackRequest): Unpacking {
    if (this.#isClosed) throw new LayerdError('unavailable', 'cannot unpack a layer: the daemon is shutting down');
    const unpacking = new WorkerUnpacking(request);
    this.#unsettled.add(unpacking);
    void unpacking.settled.then(() => this.#unsettled.delete(unpacking));
    this.#waiting.push(unpacking);
    this.#dispatch();
    return unpacking;
  }

  /** Aborts what is under way and ends the workers. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(Array.from(this.#unsettled, (unpacking) => unpacking.abort()));
    await Promise.all(Array.from(this.#workers, (worker) => worker.end()));
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const worker = this.#idle.pop() ?? this.#spawn();
      if (worker === undefined) return;
      const unpacking = this.#waiting.shift();
      // It may have been aborted while it waited.
      if (unpacking === undefined || unpacking.isSettled) this.#rest(worker);
      else void unpacking.run(worker).then(() => this.#rest(worker));
    }
  }

  #spawn(): UnpackWorker | undefined {
    if (this.#workers.size >= this.#maxWorkers) return undefined;
    const worker = new UnpackWorker(() => {
      this.#workers.delete(worker);
      const index = this.#idle.indexOf(worker);
      if (index >= 0) this.#idle.splice(index, 1);
      this.#dispatch();
    });
    this.#workers.add(worker);
    return worker;
  }

  #rest(worker: UnpackWorker): void {
    if (!this.#workers.has(worker)) return;
    this.#idle.push(worker);
    worker.rest();
    this.#dispatch();
  }
}

/** A worker thread and the ring through which it gets its bytes. */
class UnpackWorker {
  readonly ring = Ring.allocate(RING_BYTES);
  readonly consumed = new BigUint64Array(new SharedArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT));
  readonly #worker: Worker;
  readonly #gone: Promise<void>;
  #answer: ((outcome: JobOutcome) => void) | undefined;
  #error: unknown;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(onGone: () => void) {
    this.#worker = new Worker(WORKER, { name: 'layers', env: SHARE_ENV, resourceLimits: WORKER_LIMITS });
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

  /** Has a layer unpacked; the bytes are expected in the ring. */
  async run({ blobPath, resumeAt, imagePath, expected }: UnpackRequest): Promise<JobOutcome> {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    const job: Job = {
      request: { blobPath, resumeAt, imagePath, expected },
      source: this.ring.shared,
      consumed: this.consumed.buffer,
    };
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

class WorkerUnpacking implements Unpacking {
  /** Resolves when nothing is left to come, whatever the outcome. */
  readonly settled: Promise<void>;
  isSettled = false;
  readonly #request: UnpackRequest;
  readonly #result = Promise.withResolvers<UnpackedLayer>();
  readonly #begun = Promise.withResolvers<undefined>();
  #worker: UnpackWorker | undefined;
  #reported = 0;

  constructor(request: UnpackRequest) {
    this.#request = request;
    this.settled = this.#result.promise.then(
      () => undefined,
      () => undefined,
    );
  }

  /** Has the worker do it; resolves when the worker is free again. */
  async run(worker: UnpackWorker): Promise<void> {
    this.#worker = worker;
    worker.ring.reset();
    worker.consumed[0] = 0n;
    const timer = setInterval(() => this.#report(), PROGRESS_MILLISECONDS);
    const outcome = worker.run(this.#request);
    this.#begun.resolve(undefined);
    await this.#settle(await outcome);
    clearInterval(timer);
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#worker === undefined) await this.#begun.promise;
    for (let at = 0; at < chunk.byteLength;) {
      // Once it is settled the worker and its ring may be another unpacking's.
      if (this.isSettled || this.#worker === undefined) throw await this.#failure();
      const { ring } = this.#worker;
      const space = ring.tryReserve();
      if (space === undefined) {
        await ring.room();
        continue;
      }
      const length = Math.min(space.length, chunk.byteLength - at);
      space.set(chunk.subarray(at, at + length));
      ring.commit(length);
      at += length;
    }
  }

  async finish(): Promise<UnpackedLayer> {
    if (this.#worker === undefined) await this.#begun.promise;
    if (!this.isSettled) this.#worker?.ring.end();
    return this.#result.promise;
  }

  async abort(): Promise<void> {
    if (this.#worker === undefined) await this.#settle({ stopped: true });
    else if (!this.isSettled) this.#worker.ring.close();
    await this.settled;
  }

  /** Why a write is refused. */
  async #failure(): Promise<unknown> {
    return this.#result.promise.then(
      () => new LayerdError('internal', `bytes were given for ${this.#request.expected.digest} after its end`),
      (error: unknown) => error,
    );
  }

  async #settle(outcome: JobOutcome): Promise<void> {
    const { expected, imagePath } = this.#request;
    this.isSettled = true;
    // Whoever waits for room learns it now.
    this.#worker?.ring.close();
    this.#begun.resolve(undefined);
    if ('layer' in outcome) {
      this.#report();
      this.#result.resolve(outcome.layer);
      return;
    }
    // A worker that crashed could not remove it. What cannot be removed here either goes at the next start.
    if (this.#worker !== undefined) await rm(imagePath, { force: true }).catch(() => undefined);
    this.#result.reject(
      'failure' in outcome
        ? new LayerdError(outcome.failure.kind, outcome.failure.message)
        : new LayerdError('cancelled', `the unpacking of ${expected.digest} was given up`),
    );
  }

  #report(): void {
    const consumed = Number(Atomics.load(this.#worker?.consumed ?? NOTHING_CONSUMED, 0));
    if (consumed === this.#reported) return;
    this.#reported = consumed;
    this.#request.onProgress?.({ consumed });
  }
}

const NOTHING_CONSUMED = new BigUint64Array(1);
