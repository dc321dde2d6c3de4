import { setTimeout as sleep } from 'node:timers/promises';

/** How far a transfer may get behind its limit and catch up, in milliseconds: timers come late, by more than a piece takes. */
const CREDIT = 100;
/** A limit that was changed counts after at most this, in milliseconds. */
const PATIENCE = 250;
/** Bytes are let through in pieces of at most so many, so that transfers share a limit: 64 KiB. */
const PIECE = 64 * 1024;

/** How many bytes a second may be moved, by all transfers of a direction together. */
export interface BandwidthRule {
  /** Only for that registry; without it, for all together. */
  readonly registry?: string | undefined;
  readonly bytesPerSecond: number;
  /** Only at that time of day, in minutes since midnight; an end before the begin is on the next day. */
  readonly time?: { readonly from: number; readonly to: number } | undefined;
}

/** What a limit needs of time. */
export interface BandwidthClock {
  /** Milliseconds, only growing. */
  now(): number;
  /** For the time of day. */
  date(): Date;
  /** Rejects with the signal's reason. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<unknown>;
}

const SYSTEM_CLOCK: BandwidthClock = {
  now: () => performance.now(),
  date: () => new Date(),
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
};

/**
 * The limits on the bytes that are moved in a direction: for all registries together, and for single ones, which both
 * hold. Of several rules for the same the last counts whose time it is.
 */
export class Bandwidth {
  readonly #clock: BandwidthClock;
  #rules: readonly BandwidthRule[];
  /** When the bytes that were let through are paid for, by registry; '' for all. */
  #paid = new Map<string, number>();

  constructor(rules: readonly BandwidthRule[], clock: BandwidthClock = SYSTEM_CLOCK) {
    this.#rules = rules;
    this.#clock = clock;
  }

  /** Takes other rules on, for what is under way too. */
  set rules(rules: readonly BandwidthRule[]) {
    this.#rules = rules;
    this.#paid = new Map();
  }

  /** The bytes, at the pace that is allowed for the registry. Throws the signal's reason while it waits. */
  async *limit(
    bytes: AsyncIterable<Uint8Array>,
    registry: string,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of bytes) {
      if (this.#rules.length === 0) yield chunk;
      else {
        for (let at = 0; at < chunk.byteLength; at += PIECE) {
          const piece = chunk.subarray(at, at + PIECE);
          await this.#pay(piece.byteLength, registry, signal);
          yield piece;
        }
      }
    }
  }

  async #pay(bytes: number, registry: string, signal: AbortSignal): Promise<void> {
    const paid = this.#paid;
    const now = this.#clock.now();
    let due = 0;
    for (const scope of ['', registry]) {
      const rate = this.#rate(scope);
      if (rate === undefined) continue;
      const until = Math.max(paid.get(scope) ?? 0, now - CREDIT) + (bytes * 1000) / rate;
      paid.set(scope, until);
      due = Math.max(due, until);
    }
    // What was to be paid under other rules is forgiven.
    for (let left = due - now; left > 0 && paid === this.#paid; left = due - this.#clock.now()) {
      await this.#clock.sleep(Math.min(left, PATIENCE), signal);
    }
  }

  #rate(scope: string): number | undefined {
    const time = this.#clock.date();
    const minute = time.getHours() * 60 + time.getMinutes();
    return this.#rules.findLast(
      (rule) => (rule.registry ?? '') === scope && (rule.time === undefined || isWithin(minute, rule.time)),
    )?.bytesPerSecond;
  }
}

/** Whether a minute of the day is in a span of it. */
export const isWithin = (minute: number, { from, to }: { from: number; to: number }): boolean =>
  from <= to ? minute >= from && minute < to : minute >= from || minute < to;
