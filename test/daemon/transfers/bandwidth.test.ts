import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Bandwidth, type BandwidthClock, type BandwidthRule } from '../../../src/daemon/transfers/bandwidth.ts';

const KIB = 1024;
const { signal } = new AbortController();

/** Bytes in pieces, without an end. */
async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield await Promise.resolve(new Uint8Array(16 * KIB));
}

/** A clock that goes on when everybody sleeps, whose timers come 3 ms late. */
class Clock implements BandwidthClock {
  readonly #sleepers: { readonly at: number; readonly wake: () => void }[] = [];
  readonly #date: Date;
  #now = 0;

  constructor(time: string) {
    this.#date = new Date(`2026-01-15T${time}:00`);
  }

  now(): number {
    return this.#now;
  }

  date(): Date {
    return this.#date;
  }

  sleep(milliseconds: number): Promise<void> {
    setImmediate(() => {
      const [next] = this.#sleepers.sort((a, b) => a.at - b.at).splice(0, 1);
      if (next === undefined) return;
      this.#now = Math.max(this.#now, next.at);
      next.wake();
    });
    return new Promise((wake) => this.#sleepers.push({ at: this.#now + milliseconds + 3, wake }));
  }
}

/** Bytes a second that two transfers get together over 20 s. */
async function measured(rules: readonly BandwidthRule[], registry: string, time = '12:00'): Promise<number> {
  const clock = new Clock(time);
  const bandwidth = new Bandwidth(rules, clock);
  const counts = await Promise.all(
    [1, 2].map(async () => {
      let count = 0;
      for await (const { byteLength } of bandwidth.limit(endless(), registry, signal)) {
        count += byteLength;
        if (clock.now() >= 20_000) break;
      }
      return count;
    }),
  );
  return (counts.reduce((sum, count) => sum + count, 0) * 1000) / clock.now();
}
const RATE = 1024 * KIB;
const assertNear = (rate: number, limit: number): void =>
  assert.ok(Math.abs(rate - limit) <= 0.05 * limit, `${Math.round(rate)} instead of ${limit}`);

describe('a limit of bandwidth', () => {
  it('holds within 5 % for all transfers together, and for single registries', async () => {
    const rules = [{ bytesPerSecond: 2 * RATE }, { registry: 'slow.example.com', bytesPerSecond: RATE }];
    const [slow, fast] = await Promise.all([measured(rules, 'slow.example.com'), measured(rules, 'other.example.com')]);
    assertNear(slow, RATE);
    assertNear(fast, 2 * RATE);
  });

  it('is that of the last rule whose time it is, also over midnight', async () => {
    const rules = [{ bytesPerSecond: 2 * RATE }, { bytesPerSecond: RATE, time: { from: 22 * 60, to: 6 * 60 } }];
    const [day, night, morning] = await Promise.all([
      measured(rules, 'a', '21:59'),
      measured(rules, 'a', '23:00'),
      measured(rules, 'a', '05:59'),
    ]);
    assertNear(day, 2 * RATE);
    assertNear(night, RATE);
    assertNear(morning, RATE);
  });

  it('that is lifted lets go at once what waits for it, and one that is given up throws', async () => {
    const bandwidth = new Bandwidth([{ bytesPerSecond: 1 }]);
    const next = bandwidth.limit(endless(), 'a', signal).next();
    bandwidth.rules = [];
    assert.equal((await next).value?.byteLength, 16 * KIB);
    bandwidth.rules = [{ bytesPerSecond: 1 }];
    const stop = new AbortController();
    const waiting = bandwidth.limit(endless(), 'a', stop.signal).next();
    setImmediate(() => stop.abort());
    await assert.rejects(waiting, { name: 'AbortError' });
  });
});
