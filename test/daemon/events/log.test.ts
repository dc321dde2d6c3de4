import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Database } from '../../../src/daemon/metadata/database.ts';
import type { Event } from '../../../src/daemon/events/event.ts';
import { EventLog, type FollowOptions } from '../../../src/daemon/events/log.ts';
import { LIMITS } from './limits.ts';
import { isKind } from '../../../src/protocol/errors.ts';

const START = 1_800_000_000_000_000_000n;
const SECOND = 1_000_000_000n;

describe('the log of events', () => {
  let directory: string;
  let db: Database;
  let clock: bigint;
  let log: EventLog;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'layerd-events-'));
    db = new Database(join(directory, 'metadata.db'));
    clock = START;
    log = new EventLog({ db, now: () => clock, limits: LIMITS });
  });
  afterEach(() => {
    db.close();
    rmSync(directory, { recursive: true });
  });

  const append = (actor: string, to = log): void => {
    to.append({ type: 'image', action: 'pull', actor, attributes: { name: actor } });
  };
  const actors = (events: Iterable<Event>): string[] => [...events].map(({ actor }) => actor);

  /** The actor of the next event; undefined at the end. */
  async function next(reader: AsyncIterator<Event>): Promise<string | undefined> {
    const result = await reader.next();
    return result.done === true ? undefined : result.value.actor;
  }

  /** Reads so many events of a subscription, then leaves it. */
  async function take(count: number, options: FollowOptions = {}, from = log): Promise<string[]> {
    const seen: string[] = [];
    for await (const { actor } of from.follow(options, new AbortController().signal)) {
      seen.push(actor);
      if (seen.length === count) break;
    }
    return seen;
  }

  it('keeps an event with its place, time to the nanosecond, actor and attributes', () => {
    clock = START + 123_456_789n;
    append('redis:7');
    assert.deepEqual(log.read(), [
      {
        seq: 1,
        time: START + 123_456_789n,
        type: 'image',
        action: 'pull',
        actor: 'redis:7',
        attributes: { name: 'redis:7' },
      },
    ]);
  });

  it('gives events of the same instant different, growing times', () => {
    for (const actor of ['a', 'b', 'c']) append(actor);
    assert.deepEqual(
      log.read().map(({ time }) => time - START),
      [0n, 1n, 2n],
    );
  });

  it('goes on with the growing times after a restart, and follows a clock that was set far back', () => {
    append('a');
    const restarted = new EventLog({ db, now: () => clock, limits: LIMITS });
    append('b', restarted);
    clock -= 3600n * SECOND;
    append('c', restarted);
    assert.deepEqual(
      restarted.read().map(({ time }) => time - START),
      [0n, 1n, -3600n * SECOND],
    );
  });

  it('is read by page and by time', () => {
    for (const actor of ['a', 'b', 'c', 'd']) {
      append(actor);
      clock += SECOND;
    }
    assert.deepEqual(actors(log.read({}, 2)), ['a', 'b']);
    assert.deepEqual(actors(log.read({ after: 2 }, 2)), ['c', 'd']);
    assert.deepEqual(actors(log.read({ since: START + SECOND, until: START + 2n * SECOND })), ['b', 'c']);
  });

  it('has an event if and only if the transaction that it tells of was committed', () => {
    assert.throws(
      () =>
        db.transaction(() => {
          append('undone');
          throw new Error('rolled back');
        }),
      /rolled back/,
    );
    db.transaction(() => append('done'));
    assert.deepEqual(actors(log.read()), ['done']);
  });

  it('shows a subscriber nothing before the commit, and everything in order after it', async () => {
    const abort = new AbortController();
    const seen: string[] = [];
    const reader = (async () => {
      for await (const { actor } of log.follow({}, abort.signal)) {
        seen.push(actor);
        if (seen.length === 3) abort.abort();
      }
    })();
    await new Promise(setImmediate);
    db.transaction(() => {
      append('a');
      append('b');
      assert.deepEqual(seen, []);
    });
    append('c');
    await reader;
    assert.deepEqual(seen, ['a', 'b', 'c']);
  });

  it('lets a subscription begin where it was asked for, not where it is first read', async () => {
    append('before');
    const events = log.follow({}, new AbortController().signal);
    append('after');
    for await (const { actor } of events) {
      assert.equal(actor, 'after');
      break;
    }
  });

  it('begins at a time, or after an event', async () => {
    for (const actor of ['a', 'b', 'c']) {
      append(actor);
      clock += SECOND;
    }
    assert.deepEqual(await take(2, { since: START + SECOND }), ['b', 'c']);
    assert.deepEqual(await take(1, { after: 2 }), ['c']);
    assert.deepEqual(await take(3, { since: 0n }), ['a', 'b', 'c']);
  });

  it('loses nothing when the clock was set back among the events', async () => {
    append('a');
    clock -= 3600n * SECOND;
    append('b');
    clock += 3600n * SECOND;
    append('c');
    assert.deepEqual(await take(3, { since: START - SECOND }), ['a', 'b', 'c']);
  });

  it('ends at a time that has passed, and at one that comes while it waits', async () => {
    append('a');
    clock += SECOND;
    append('late');
    assert.deepEqual(await take(5, { since: 0n, until: START }), ['a']);

    const real = new EventLog({ db, limits: LIMITS });
    const soon = BigInt(Date.now()) * 1_000_000n + 20_000_000n;
    assert.deepEqual(await take(5, { until: soon }, real), []);
    assert.equal(real.subscribers, 0);
  });

  it('wakes a subscriber that waits for nothing when it is aborted', async () => {
    const abort = new AbortController();
    const events = log.follow({}, abort.signal)[Symbol.asyncIterator]();
    const next = events.next();
    assert.equal(log.subscribers, 1);
    abort.abort();
    assert.deepEqual(await next, { done: true, value: undefined });
    assert.equal(log.subscribers, 0);
  });

  it('gives a slow reader every event, page by page, with many readers at their own pace', async () => {
    const count = 1000;
    db.transaction(() => {
      for (let index = 0; index < count; index += 1) append(String(index));
    });
    const expected = Array.from({ length: count }, (_, index) => String(index));
    const slow = log.follow({ after: 0 }, new AbortController().signal)[Symbol.asyncIterator]();
    assert.equal(await next(slow), '0');
    assert.deepEqual(await take(count, { after: 0 }), expected);
    const rest: string[] = ['0'];
    while (rest.length < count) rest.push((await next(slow)) ?? '');
    assert.deepEqual(rest, expected);
    await slow.return?.();
  });

  it('does not miss an event that comes while the reader is busy with the one before', async () => {
    const reader = log.follow({}, new AbortController().signal)[Symbol.asyncIterator]();
    const first = next(reader);
    append('a');
    assert.equal(await first, 'a');
    append('b');
    assert.equal(await next(reader), 'b');
    await reader.return?.();
  });

  it('passes only what the filter wants', async () => {
    for (const actor of ['a', 'b', 'a', 'c']) append(actor);
    assert.deepEqual(await take(2, { after: 0, filter: ({ actor }) => actor !== 'a' }), ['b', 'c']);
  });

  it('keeps to its limits of number and age, from the old end', () => {
    const small = new EventLog({ db, now: () => clock, limits: { ...LIMITS, events: 100, age: 3600n * SECOND } });
    for (let index = 0; index < 1000; index += 1) append(String(index), small);
    small.prune();
    assert.deepEqual(small.retention(), { oldest: 901, newest: 1000 });
    clock += 7200n * SECOND;
    append('young', small);
    small.prune();
    assert.deepEqual(actors(small.read()), ['young']);
    assert.deepEqual(small.retention(), { oldest: 1001, newest: 1001 });
  });

  it('keeps to its limit of bytes, and to another one when told', () => {
    const small = new EventLog({ db, now: () => clock, limits: { ...LIMITS, bytes: 20_000 } });
    const bytes = (): number => db.get<{ bytes: number }>('SELECT bytes FROM event_size')?.bytes ?? 0;
    for (let index = 0; index < 640; index += 1) append(`${index} ${'x'.repeat(100)}`, small);
    const { oldest, newest } = small.retention();
    assert.equal(newest, 640);
    assert.ok(bytes() <= 20_000 && bytes() > 18_000, `${bytes()} bytes`);
    assert.equal(db.all('SELECT 1 FROM event').length, newest - oldest + 1);
    small.limits = { ...LIMITS, bytes: 1000 };
    small.prune();
    assert.ok(bytes() <= 1000 && bytes() > 0);
    db.run('DELETE FROM event');
    assert.equal(bytes(), 0);
  });

  it('tells a reader that was overtaken by the pruning, instead of leaving a gap', async () => {
    const small = new EventLog({ db, now: () => clock, limits: { ...LIMITS, events: 10, age: 3600n * SECOND } });
    append('first', small);
    const reader = small.follow({ after: 0 }, new AbortController().signal)[Symbol.asyncIterator]();
    await reader.next();
    for (let index = 0; index < 400; index += 1) append(String(index), small);
    await assert.rejects(
      async () => {
        for (;;) await reader.next();
      },
      (error) => isKind(error, 'unavailable') && /fell behind/.test(error.message),
    );
  });

  it('knows what an empty log reaches back to', () => {
    assert.deepEqual(log.retention(), { oldest: 1, newest: 0 });
  });
});
