import { rm } from 'node:fs/promises';
import { LayerdError } from '../../protocol/errors.ts';
import { loadIsal } from './isal.ts';
import type { JobOutcome } from './job.ts';
import { asPublished, nameOf, type UnpackedLayer, type Unpacking, type UnpackRequest } from './layer.ts';
import { RingClosed } from './ring.ts';
import { LayerThread } from './thread.ts';

/** How often progress is looked at, in milliseconds. */
const PROGRESS_MILLISECONDS = 100;
/** How long an idle thread stays, in milliseconds: the next layer of a pull comes sooner. */
const IDLE_MILLISECONDS = 2000;
/**
 * A blob with this much to unpack, in bytes, gets two threads: one that receives and decompresses, one that hashes the tar
 * and builds the image. A smaller one is done before a second thread would pay.
 */
const PAIR_BYTES = 4 * 1024 * 1024;

/**
 * Unpacks layer blobs in worker threads. Threads start when they are needed and end when they have been idle for a while;
 * an unpacking beyond the most that run at once waits for its turn.
 */
export class Unpacker {
  readonly #pairBytes: number;
  readonly #idleMilliseconds: number;
  readonly #threads = new Set<LayerThread>();
  readonly #idle: LayerThread[] = [];
  readonly #waiting: ThreadUnpacking[] = [];
  readonly #unsettled = new Set<ThreadUnpacking>();
  #concurrency: number;
  #running = 0;
  #inflater: 'isa-l' | 'zlib' | undefined;
  #isClosed = false;

  /** `concurrency`: how many layers are unpacked at once. `pairBytes`: from which size on one has two threads. */
  constructor(options: { concurrency: number; pairBytes?: number; idleMilliseconds?: number }) {
    this.#concurrency = options.concurrency;
    this.#pairBytes = options.pairBytes ?? PAIR_BYTES;
    this.#idleMilliseconds = options.idleMilliseconds ?? IDLE_MILLISECONDS;
  }

  /** How many layers may be unpacked at once. Takes effect as running ones end. */
  set concurrency(value: number) {
    this.#concurrency = value;
    this.#dispatch();
  }

  /** What decompresses gzip on this host. */
  get inflater(): 'isa-l' | 'zlib' {
    this.#inflater ??= loadIsal() === undefined ? 'zlib' : 'isa-l';
    return this.#inflater;
  }

  /** Begins to unpack; what goes wrong is told by the unpacking's own methods. */
  start(request: UnpackRequest): Unpacking {
    if (this.#isClosed) throw new LayerdError('unavailable', 'cannot unpack a layer: the daemon is shutting down');
    const unpacking = new ThreadUnpacking(request);
    this.#unsettled.add(unpacking);
    void unpacking.settled.then(() => this.#unsettled.delete(unpacking));
    this.#waiting.push(unpacking);
    this.#dispatch();
    return unpacking;
  }

  /** Aborts what is under way and ends the threads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(Array.from(this.#unsettled, (unpacking) => unpacking.abort()));
    await Promise.all(Array.from(this.#threads, (thread) => thread.end()));
  }

  #dispatch(): void {
    while (this.#running < this.#concurrency) {
      const unpacking = this.#waiting.shift();
      if (unpacking === undefined) return;
      // It may have been aborted while it waited.
      if (!unpacking.isSettled) void this.#run(unpacking);
    }
  }

  async #run(unpacking: ThreadUnpacking): Promise<void> {
    this.#running += 1;
    const receiver = this.#take();
    const builder = unpacking.size >= this.#pairBytes ? this.#take() : undefined;
    await unpacking.run(receiver, builder);
    for (const thread of [receiver, builder]) {
      if (thread === undefined || !this.#threads.has(thread)) continue;
      this.#idle.push(thread);
      thread.rest(this.#idleMilliseconds);
    }
    this.#running -= 1;
    this.#dispatch();
  }

  #take(): LayerThread {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const thread = new LayerThread(() => {
      this.#threads.delete(thread);
      const index = this.#idle.indexOf(thread);
      if (index >= 0) this.#idle.splice(index, 1);
    });
    this.#threads.add(thread);
    return thread;
  }
}

class ThreadUnpacking implements Unpacking {
  /** Resolves when nothing is left to come, whatever the outcome. */
  readonly settled: Promise<void>;
  isSettled = false;
  readonly #request: UnpackRequest;
  readonly #result = Promise.withResolvers<UnpackedLayer>();
  readonly #begun = Promise.withResolvers<undefined>();
  readonly #consumed = new BigUint64Array(new SharedArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT));
  #receiver: LayerThread | undefined;
  #reported = 0;

  constructor(request: UnpackRequest) {
    this.#request = request;
    this.settled = this.#result.promise.then(
      () => undefined,
      () => undefined,
    );
  }

  /** Bytes of the blob; where nobody knows, as if there were no end of them. */
  get size(): number {
    return this.#request.expected.size ?? Infinity;
  }

  /** Has the thread do it, with the help of another if there is one; resolves when both are free again. */
  async run(receiver: LayerThread, builder: LayerThread | undefined): Promise<void> {
    this.#receiver = receiver;
    receiver.ring.reset();
    builder?.ring.reset();
    const { blobPath, resumeAt, imagePath, expected } = this.#request;
    const timer = setInterval(() => this.#report(), PROGRESS_MILLISECONDS);
    const name = nameOf(expected.digest);
    const received = receiver.run(
      {
        task: 'receive',
        request: { blobPath, resumeAt, imagePath, expected },
        source: receiver.ring.shared,
        consumed: this.#consumed.buffer,
        tar: builder?.ring.shared,
      },
      name,
    );
    const built = builder?.run({ task: 'build', imagePath, tar: builder.ring.shared }, name);
    this.#begun.resolve(undefined);
    if (builder === undefined || built === undefined) await this.#settle(await received);
    else await this.#settle(await this.#both(received, built, builder));
    clearInterval(timer);
  }

  /** What becomes of the two halves; one that fails ends the other. */
  async #both(
    receiving: Promise<JobOutcome>,
    building: Promise<JobOutcome>,
    builder: LayerThread,
  ): Promise<JobOutcome> {
    const stop = (outcome: JobOutcome): JobOutcome => {
      // After a success the ring has ended, and what is still in it is needed.
      if ('failure' in outcome || 'stopped' in outcome) builder.ring.close();
      return outcome;
    };
    const [received, built] = await Promise.all([receiving.then(stop), building.then(stop)]);
    if ('failure' in built) {
      const { kind, message } = built.failure;
      if (kind !== 'corrupt') return built;
      if ('digest' in received) {
        const error = asPublished(this.#request.expected.digest, message);
        return { failure: { kind: error.kind, message: error.message } };
      }
    }
    return 'digest' in received ? { ...built, ...received } : received;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#receiver === undefined) await this.#begun.promise;
    try {
      for (let at = 0; at < chunk.byteLength;) {
        // Once it is settled the thread and its ring may be another unpacking's.
        if (this.isSettled || this.#receiver === undefined) throw new RingClosed();
        const { ring } = this.#receiver;
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
    } catch (error) {
      throw error instanceof RingClosed ? await this.#failure() : error;
    }
  }

  async finish(): Promise<UnpackedLayer> {
    if (this.#receiver === undefined) await this.#begun.promise;
    if (!this.isSettled) this.#receiver?.ring.end();
    return this.#result.promise;
  }

  async abort(): Promise<void> {
    if (this.#receiver === undefined) await this.#settle({ stopped: true });
    else if (!this.isSettled) this.#receiver.ring.close();
    await this.settled;
  }

  /** Why a write is refused. */
  async #failure(): Promise<unknown> {
    return this.#result.promise.then(
      () => new LayerdError('internal', `bytes were given for ${nameOf(this.#request.expected.digest)} after its end`),
      (error: unknown) => error,
    );
  }

  async #settle(outcome: JobOutcome): Promise<void> {
    const { imagePath, expected } = this.#request;
    this.isSettled = true;
    // Whoever waits for room learns it now.
    this.#receiver?.ring.close();
    this.#begun.resolve(undefined);
    if ('digest' in outcome && outcome.layer !== undefined) {
      this.#report();
      this.#result.resolve({ ...outcome.layer, digest: outcome.digest, blobSize: this.#reported });
      return;
    }
    // A thread that crashed could not remove it. What cannot be removed here either goes at the next start.
    if (this.#receiver !== undefined) await rm(imagePath, { force: true }).catch(() => undefined);
    this.#result.reject(
      'failure' in outcome
        ? new LayerdError(outcome.failure.kind, outcome.failure.message)
        : new LayerdError('cancelled', `the unpacking of ${nameOf(expected.digest)} was given up`),
    );
  }

  #report(): void {
    const consumed = Number(Atomics.load(this.#consumed, 0));
    if (consumed === this.#reported) return;
    this.#reported = consumed;
    this.#request.onProgress?.({ consumed });
  }
}
