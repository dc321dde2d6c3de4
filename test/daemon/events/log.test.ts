import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { hasRebooted, noteBoot } from '../../../src/daemon/metadata/boot.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';
import type { Event } from '../../../src/daemon/events/event.ts';
import { EventLog } from '../../../src/daemon/events/log.ts';
import { LIMITS } from './limits.ts';

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

  it('is read by page', () => {
    for (const actor of ['a', 'b', 'c', 'd']) append(actor);
    assert.deepEqual(actors(log.read(0, 2)), ['a', 'b']);
    assert.deepEqual(actors(log.read(2, 2)), ['c', 'd']);
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

  it('shows a subscriber nothing before the commit, and wakes it for everything in order after it', async () => {
    const { signal } = new AbortController();
    const woken = log.appended(0, signal);
    db.transaction(() => {
      append('a');
      append('b');
      assert.equal(log.page(0)?.events.length, 0);
    });
    append('c');
    await woken;
    assert.deepEqual(actors(log.page(0)?.events ?? []), ['a', 'b', 'c']);
    await log.appended(2, signal);
  });

  it('wakes a subscriber that waits for nothing when it is aborted, or the daemon stops', async () => {
    const abort = new AbortController();
    const waiting = [log.appended(0, abort.signal), log.appended(0, new AbortController().signal)] as const;
    abort.abort();
    await waiting[0];
    log.close();
    await waiting[1];
    await log.appended(0, new AbortController().signal);
  });

  it('finds the place before a time, wherever the clock was set to among the events', () => {
    for (const seconds of [0n, 10n, 20n, -3600n, -3590n, 30n]) {
      clock = START + seconds * SECOND;
      append(String(seconds));
    }
    const places = [-4000n, -3600n, 0n, 5n, 20n, 25n, 30n].map((seconds) => log.before(START + seconds * SECOND));
    assert.deepEqual(places, [0, 0, 0, 1, 2, 5, 5]);
    assert.equal(log.before(clock + 1n), 6);
    // The oldest events go, and what stays may be older than they were: none of it is passed over.
    db.run('DELETE FROM event WHERE seq <= 3');
    assert.equal(log.before(START + 5n * SECOND), 3);
    assert.equal(log.before(START - 3600n * SECOND), 3);
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

  describe('after a power loss', () => {
    /** What a disk has that was synced when these files were: the WAL up to a length, of which all else is lost. */
    const lose = (from: string, to: string, walBytes: number): Database => {
      copyFileSync(join(directory, from), join(directory, to));
      writeFileSync(join(directory, `${to}-wal`), readFileSync(join(directory, `${from}-wal`)).subarray(0, walBytes));
      return new Database(join(directory, to));
    };
    const synced = (name: string): number => statSync(join(directory, `${name}-wal`)).size;

    it('gives no number again, and none twice if the power is lost again at once', () => {
      append('a');
      const before = synced('metadata.db');
      for (const actor of ['b', 'c']) append(actor);
      using stack = new DisposableStack();
      const first = stack.adopt(lose('metadata.db', 'first.db', before), (lost) => lost.close());
      const restarted = new EventLog({ db: first, limits: LIMITS, rebooted: true });
      const durable = synced('first.db');
      append('d', restarted);
      const [a, d] = restarted.read();
      assert.deepEqual([a?.actor, d?.actor], ['a', 'd']);
      assert.ok((d?.seq ?? 0) > log.end);
      assert.deepEqual(actors(restarted.page(log.end)?.events ?? []), ['d']);

      const second = stack.adopt(lose('first.db', 'second.db', durable), (lost) => lost.close());
      const again = new EventLog({ db: second, limits: LIMITS, rebooted: true });
      append('e', again);
      assert.ok(again.end > (d?.seq ?? 0));
    });

    it('lets nobody wait in vain or spin before the first event, though all were lost', async () => {
      const restarted = new EventLog({ db, limits: LIMITS, rebooted: true });
      const { oldest, newest } = restarted.retention();
      assert.ok(newest > 0);
      assert.equal(oldest, newest + 1);
      assert.equal(restarted.page(0), undefined);
      const place = restarted.end;
      assert.deepEqual(restarted.page(place), { events: [], last: place });
      const woken = restarted.appended(place, new AbortController().signal);
      append('a', restarted);
      await woken;
      assert.equal(restarted.end, place + 1);
    });

    it('leaves no number out where the host was not booted', () => {
      append('a');
      assert.equal(hasRebooted(db, 'this'), false);
      noteBoot(db, 'this');
      assert.equal(hasRebooted(db, 'this'), false);
      assert.equal(hasRebooted(db, 'the next'), true);
      append('b', new EventLog({ db, limits: LIMITS }));
      assert.deepEqual(
        log.read().map(({ seq }) => seq),
        [1, 2],
      );
    });
  });

  it('knows what an empty log reaches back to', () => {
    assert.deepEqual(log.retention(), { oldest: 1, newest: 0 });
  });
});
