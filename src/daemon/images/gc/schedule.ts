import { AsyncResource } from 'node:async_hooks';
import { messageOf } from '../../../protocol/errors.ts';
import type { ImageGc } from './gc.ts';
import type { GcPolicy } from './policy.ts';

/** How full the disk is, is looked at this often, in milliseconds, and after each image that is stored: as kubelet does. */
const CHECK_INTERVAL = 10_000;
/** Images beyond the maximum age are looked for this often, and what could not be freed is tried for again: as kubelet does. */
const COLLECTION_INTERVAL = 5 * 60_000;

interface ScheduleLog {
  error(message: string, fields?: Readonly<Record<string, unknown>>): unknown;
}

/** Has images collected when the policy wants it. Where that wants nothing there is no timer. */
export class GcSchedule {
  /** Collects where it is time to, and nobody does: on the daemon's account, whoever has just stored an image. */
  readonly check = AsyncResource.bind(() => this.#check());
  readonly #gc: ImageGc;
  readonly #log: ScheduleLog;
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** Milliseconds of {@link performance.now}: not before them is the age looked at, or a disk that could not be freed. */
  #nextForAge = 0;
  #nextForPressure = 0;

  constructor(gc: ImageGc, log: ScheduleLog) {
    this.#gc = gc;
    this.#log = log;
  }

  /** Begins, once the store is in order. */
  start(): void {
    this.policy = this.#gc.policy;
  }

  /** Takes on another policy, and does at once what that wants. */
  set policy(policy: GcPolicy) {
    this.#gc.policy = policy;
    this.#nextForAge = this.#nextForPressure = 0;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#abort.signal.aborted || (policy.highThreshold ?? policy.maximumAge) === undefined) return;
    this.#timer = setInterval(() => this.check(), CHECK_INTERVAL).unref();
    this.check();
  }

  #check(): void {
    if (this.#timer === undefined || this.#gc.isRunning) return;
    const now = performance.now();
    try {
      const isPressed = now >= this.#nextForPressure && this.#gc.isPressed;
      const isTime = this.#gc.policy.maximumAge !== undefined && now >= this.#nextForAge;
      if (isPressed || isTime) this.#running = this.#collect();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Ends the collection that is under way, and waits for it. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#abort.abort();
    await this.#running;
  }

  async #collect(): Promise<void> {
    const later = performance.now() + COLLECTION_INTERVAL;
    this.#nextForAge = later;
    try {
      const { missing } = await this.#gc.collectByItself(this.#abort.signal);
      if (missing > 0) this.#nextForPressure = later;
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#nextForPressure = performance.now() + COLLECTION_INTERVAL;
    this.#log.error(`images could not be collected: ${messageOf(error)}`);
  }
}
