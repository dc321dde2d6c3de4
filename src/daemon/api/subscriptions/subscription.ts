import type { Event } from '../../events/event.ts';
import type { Changes, Watch } from '../../transfers/watch.ts';
import type { EventFilter, EventLog } from '../../events/log.ts';

/** The parts of the log that a subscription reads. */
export type SubscribedLog = Pick<EventLog, 'page' | 'end' | 'before' | 'appended' | 'retention' | 'closed' | 'attend'>;

/** Where a subscriber begins, what it wants, and until when. */
export interface SubscriptionRequest {
  /** The sequence number after which to begin. */
  readonly place: number;
  readonly filter?: EventFilter | undefined;
  /** Unix nanoseconds: it ends there. */
  readonly until?: bigint | undefined;
  /** Whether it wants progress of transfers too. */
  readonly progress?: boolean;
}

/** How long a subscriber whom nothing concerns goes without a word, in milliseconds. */
export const IDLE_MILLISECONDS = 30_000;

/**
 * What a subscriber is given next:
 *
 * - *events*, in order, those that its filters let through of a stretch of the log;
 * - a *gap*, where the log no longer has what comes after its place: both ends inclusive;
 * - a *bookmark*: everything up to that event has been looked at, so that it need not come back to before it;
 * - that other *filters* have been taken on, for whatever comes after;
 * - *progress* of transfers, which is not in the log and so moves no place.
 */
export type Delivery =
  | { readonly kind: 'events'; readonly events: readonly Event[]; readonly last: number }
  | { readonly kind: 'gap'; readonly from: number; readonly to: number }
  | { readonly kind: 'bookmark'; readonly seq: number }
  | { readonly kind: 'filters'; readonly seq: number }
  | { readonly kind: 'progress'; readonly changes: Changes };

/**
 * One subscriber's place in the log of events, whatever transport carries them. It holds a number and no events: what it
 * has not taken yet stays in the log, however far it lags. Delivery is in order and at least once from any place; where
 * retention has passed the place, it says so and goes on with the oldest event there is. Progress of transfers comes between
 * the events, and is only ever the latest.
 */
export class Subscription {
  readonly #log: SubscribedLog;
  readonly #idle: number;
  readonly #until: bigint | undefined;
  readonly #progress: Watch | undefined;
  #place: number;
  #filter: EventFilter | undefined;
  #hasNewFilter = false;
  #wake: AbortController | undefined;
  #toldAt = performance.now();
  #isOver = false;
  /** Whether it rests no longer than until there is progress to tell. */
  #expectsProgress = false;

  /** `idle`: milliseconds between bookmarks. */
  constructor(
    log: SubscribedLog,
    { place, filter, until }: SubscriptionRequest,
    { progress, idle = IDLE_MILLISECONDS }: { progress?: Watch | undefined; idle?: number } = {},
  ) {
    this.#log = log;
    this.#progress = progress;
    this.#place = place;
    this.#filter = filter;
    this.#until = until;
    this.#idle = idle;
  }

  /** Whether everything up to its end was delivered. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Takes on another filter, for all that was not delivered yet. */
  change(filter: EventFilter | undefined): void {
    this.#filter = filter;
    this.#hasNewFilter = true;
    this.#wake?.abort();
  }

  /**
   * Everything from its place on, until its end has come, the signal is aborted or the daemon stops, as `render` has it: a
   * subscriber that does not read on holds what it was given to write, and not the events that it was made of.
   */
  async *deliveries<T>(signal: AbortSignal, render: (delivery: Delivery) => T): AsyncGenerator<T, void, undefined> {
    using _counted = this.#log.attend(() => this.#place);
    using _watched = this.#progress?.onChange(() => {
      if (!this.#expectsProgress) this.#wake?.abort();
    });
    while (!signal.aborted) {
      // In turns with the log, so that who catches up with a long one sees both.
      const changes = this.#progress?.take();
      if (changes !== undefined) yield render({ kind: 'progress', changes });
      const rendered = this.#rendered(render);
      // Its last events too, which tell of the stop.
      if (rendered === undefined && (this.#isOver || this.#log.closed)) return;
      if (rendered === undefined) await this.#rest(signal);
      else {
        this.#toldAt = performance.now();
        yield rendered.value;
        // Between two pages everybody else has a turn, also the news that the connection is gone.
        if (this.#place < this.#log.end) await new Promise(setImmediate);
      }
    }
  }

  #rendered<T>(render: (delivery: Delivery) => T): { readonly value: T } | undefined {
    const delivery = this.#next();
    return delivery === undefined ? undefined : { value: render(delivery) };
  }

  /** What is to be delivered now; undefined where nothing is. */
  #next(): Delivery | undefined {
    if (this.#hasNewFilter) {
      this.#hasNewFilter = false;
      return { kind: 'filters', seq: this.#place };
    }
    const until = this.#until;
    // Looked at before the log is, so that nothing that was appended up to then is missed.
    const hasPassed = until !== undefined && unixNanos() > until;
    const page = this.#log.page(this.#place);
    if (page === undefined) {
      const gap = { kind: 'gap', from: this.#place + 1, to: this.#log.retention().oldest - 1 } as const;
      this.#place = gap.to;
      return gap;
    }
    this.#place = page.last;
    const filter = this.#filter;
    const within = until === undefined ? page.events : page.events.filter(({ time }) => time <= until);
    if (hasPassed && within.length === 0) {
      this.#isOver = true;
      return undefined;
    }
    const events = filter === undefined ? within : within.filter((event) => filter(event));
    if (events.length > 0) return { kind: 'events', events, last: page.last };
    if (performance.now() < this.#toldAt + this.#idle) return undefined;
    return { kind: 'bookmark', seq: this.#place };
  }

  /** Waits for something to be appended, for another filter, or for the time of the next bookmark, of progress or of the end. */
  async #rest(signal: AbortSignal): Promise<void> {
    const wake = new AbortController();
    this.#wake = wake;
    const toBookmark = this.#toldAt + this.#idle - performance.now();
    const toEnd = this.#until === undefined ? Infinity : Number((this.#until - unixNanos()) / 1_000_000n) + 1;
    const toProgress = this.#progress?.due ?? Infinity;
    this.#expectsProgress = toProgress < Infinity;
    const timer = setTimeout(() => wake.abort(), Math.max(0, Math.min(toBookmark, toEnd, toProgress)));
    const stop = (): void => wake.abort();
    signal.addEventListener('abort', stop);
    try {
      await this.#log.appended(this.#place, wake.signal);
      // Between two stretches without anything for it, everybody else has a turn.
      await new Promise(setImmediate);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      this.#wake = undefined;
    }
  }
}

const unixNanos = (): bigint => BigInt(Date.now()) * 1_000_000n;
