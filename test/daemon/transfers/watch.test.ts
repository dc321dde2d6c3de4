import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Digest } from '../../../src/protocol/digest.ts';
import { Demands } from '../../../src/daemon/transfers/demand.ts';
import { TransferQueue, type TransferControl } from '../../../src/daemon/transfers/queue.ts';
import { Watch } from '../../../src/daemon/transfers/watch.ts';

const digest = (number: number): Digest => `sha256:${number.toString(16).padStart(64, '0')}`;

/** A queue whose transfers are ended by hand. */
function setUp() {
  const runs: { control: TransferControl; end: () => void }[] = [];
  const demand = new Demands().begin({ verb: 'pull', reference: 'some:1', client: 'someone' });
  const queue = new TransferQueue<string>({
    direction: 'download',
    repositoryOf: () => 'some',
    concurrency: 10_000,
    work: (_request, _source, control) => new Promise((resolve) => runs.push({ control, end: resolve })),
  });
  const join = (number: number): Promise<void> =>
    queue.join({ digest: digest(number), size: 10, remaining: 10, kind: 'layer' }, 'source', demand).done;
  return { queue, runs, join };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('a watch over transfers', () => {
  it('tells what is there, then only the latest of what has changed, and the last of what ended', async () => {
    const { queue, runs, join } = setUp();
    const done = join(1);
    await turn();
    const stop = new AbortController();
    const changes = new Watch([queue]).changes(stop.signal);
    const first = (await changes.next()).value;
    assert.deepEqual(
      first?.reports.map(({ state, received }) => [state, received]),
      [['downloading', 0]],
    );
    const next = changes.next();
    for (let received = 1; received <= 9; received += 1) runs[0]?.control.update({ received });
    assert.deepEqual(
      (await next).value?.reports.map(({ received }) => received),
      [9],
    );
    runs[0]?.control.update({ received: 10 });
    runs[0]?.end();
    await done;
    const { reports } = (await changes.next()).value ?? assert.fail('the watch ended');
    assert.deepEqual(
      reports.map(({ state, received }) => [state, received]),
      [['done', 10]],
    );
    const last = changes.next();
    stop.abort();
    assert.equal((await last).done, true);
  });

  it('holds no more than a number for a reader that does not read', async () => {
    const { queue, runs, join } = setUp();
    const stop = new AbortController();
    const changes = new Watch([queue]).changes(stop.signal);
    await changes.next();
    const pending = changes.next();
    const ends = Array.from({ length: 1500 }, (_, number) => join(number));
    await pending;
    await turn();
    for (const { end } of runs) end();
    await Promise.all(ends);
    const { reports, missed } = (await changes.next()).value ?? assert.fail('the watch ended');
    assert.equal(reports.length, 1000);
    assert.equal(missed, 500);
    stop.abort();
    await changes.return();
  });
});
