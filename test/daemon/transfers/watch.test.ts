import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Digest } from '../../../src/protocol/digest.ts';
import type { TransferReport } from '../../../src/protocol/engine.ts';
import { Demands } from '../../../src/daemon/transfers/demand.ts';
import { TransferQueue, type TransferControl } from '../../../src/daemon/transfers/queue.ts';
import { Reports } from '../../../src/daemon/transfers/reports.ts';
import { Watch } from '../../../src/daemon/transfers/watch.ts';

const digest = (number: number): Digest => `sha256:${number.toString(16).padStart(64, '0')}`;

/** A queue whose transfers are ended by hand, and a clock that is set by hand, in milliseconds. */
function setUp() {
  const runs: { control: TransferControl; end: () => void }[] = [];
  const demands = new Demands();
  const queue = new TransferQueue<string>({
    direction: 'download',
    repositoryOf: () => 'some',
    concurrency: 10_000,
    work: (_request, _source, control) => new Promise((resolve) => runs.push({ control, end: resolve })),
  });
  const reports = new Reports([queue]);
  const clock = { time: 0 };
  const join = (number: number): Promise<void> => {
    const demand = demands.begin({ verb: 'pull', reference: 'some:1', client: 'someone' });
    return queue.join({ digest: digest(number), size: 10, remaining: 10, kind: 'layer' }, 'source', demand).done;
  };
  return { queue, runs, join, clock, reports, watch: () => new Watch(reports, () => clock.time) };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
const brief = (reports: readonly TransferReport[] = []): unknown[] =>
  reports.map(({ digest, state, received }) => [Number(digest.slice(-4)), state, received]);

describe('a watch over transfers', () => {
  it('tells what is there, then only the latest of what has changed, and the last of what ended', async () => {
    const { runs, join, clock, watch } = setUp();
    const done = join(1);
    await turn();
    const watched = watch();
    assert.deepEqual(brief(watched.take()?.reports), [[1, 'downloading', 0]]);
    assert.equal(watched.due, Infinity);
    for (let received = 1; received <= 9; received += 1) runs[0]?.control.update({ received });
    assert.deepEqual([watched.take(), watched.due], [undefined, 100]);
    clock.time = 100;
    assert.deepEqual(brief(watched.take()?.reports), [[1, 'downloading', 9]]);
    runs[0]?.control.update({ received: 10 });
    runs[0]?.end();
    await done;
    clock.time = 199;
    assert.equal(watched.take(), undefined);
    clock.time = 200;
    assert.deepEqual(brief(watched.take()?.reports), [[1, 'done', 10]]);
    assert.equal(watched.take(), undefined);
  });

  it('tells of many a few at a time, of none twice, and of the end of one before it begins anew', async () => {
    const { runs, join, clock, watch } = setUp();
    for (let number = 0; number < 70; number += 1) void join(number);
    await turn();
    const watched = watch();
    const first = watched.take();
    assert.equal(first?.reports.length, 32);
    // Told already, and to be told; both change before the rest is asked for, and one ends and begins anew.
    runs[0]?.control.update({ received: 3 });
    runs[69]?.control.update({ received: 3 });
    runs[40]?.end();
    await turn();
    void join(40);
    const told = [...first.reports];
    for (let changes = watched.take(); changes !== undefined; changes = watched.take()) told.push(...changes.reports);
    assert.equal(new Set(told.map((report) => report.digest)).size, 69);
    assert.equal(told.length, 69);
    assert.deepEqual(brief(told).at(-1), [45, 'downloading', 3]);
    clock.time = 100;
    const next = brief(watched.take()?.reports) as [number, string, number][];
    assert.deepEqual(next.map(([, state]) => state).sort(), ['done', 'downloading', 'downloading', 'downloading']);
    assert.equal(next[0]?.[1], 'done');
  });

  it('counts what ended for a reader that does not read, beyond what is kept', async () => {
    const { runs, join, clock, watch } = setUp();
    const watched = watch();
    const ends = Array.from({ length: 1500 }, (_, number) => join(number));
    await turn();
    for (const { end } of runs) end();
    await Promise.all(ends);
    clock.time = 100;
    const told: TransferReport[] = [];
    let missed = 0;
    for (let changes = watched.take(); changes !== undefined; changes = watched.take()) {
      assert.ok(changes.reports.length <= 32);
      told.push(...changes.reports);
      missed += changes.missed;
    }
    assert.deepEqual([told.length, missed], [1000, 500]);
    assert.equal(told.at(-1)?.digest, digest(1499));
  });

  it('tells a few of those who want a transfer, and makes a report once for all', async () => {
    const { join, watch } = setUp();
    for (let count = 0; count < 20; count += 1) void join(1);
    await turn();
    const [one, other] = [watch().take(), watch().take()];
    assert.equal(one?.reports[0]?.wantedBy.length, 8);
    assert.equal(one.reports[0], other?.reports[0]);
  });

  it('waits for changes until it is told to stop', async () => {
    const { runs, join, reports } = setUp();
    const stop = new AbortController();
    const changes = new Watch(reports).changes(stop.signal);
    const first = changes.next();
    void join(1);
    assert.deepEqual(brief((await first).value?.reports), [[1, 'downloading', 0]]);
    const next = changes.next();
    runs[0]?.control.update({ received: 4 });
    assert.deepEqual(brief((await next).value?.reports), [[1, 'downloading', 4]]);
    const last = changes.next();
    stop.abort();
    assert.equal((await last).done, true);
  });
});
