import { AsyncLocalStorage } from 'node:async_hooks';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Digest } from '../../../src/protocol/digest.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { TransferQueue, type TransferControl, type TransferRequest } from '../../../src/daemon/transfers/queue.ts';

const digest = (digit: string): Digest => `sha256:${digit.repeat(64)}`;
const request = (digit: string, more: Partial<TransferRequest> = {}): TransferRequest => ({
  digest: digest(digit),
  size: 10_000_000,
  remaining: 10_000_000,
  kind: 'layer',
  ...more,
});
const ignore = (): void => undefined;

/** A queue whose work waits to be told how it ends. */
function controlled(concurrency = 3) {
  const runs: { digest: Digest; source: string; control: TransferControl; end: (error?: Error) => void }[] = [];
  const queue = new TransferQueue<string>({
    concurrency,
    work: ({ digest }, source, control) =>
      new Promise((resolve, reject) => {
        control.signal.addEventListener('abort', () =>
          setImmediate(() => reject(new LayerdError('cancelled', 'aborted'))),
        );
        runs.push({ digest, source, control, end: (error) => (error === undefined ? resolve() : reject(error)) });
      }),
  });
  return { queue, runs };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('the transfer queue', () => {
  it('runs one transfer for everyone who wants the same blob', async () => {
    const { queue, runs } = controlled();
    const first = queue.join(request('a'), 'one', ignore);
    const second = queue.join(request('a'), 'two', ignore);
    await turn();
    assert.equal(runs.length, 1);
    runs[0]?.end();
    await Promise.all([first.done, second.done]);
  });

  it('has at most `concurrency` layers under way, and takes a new limit while running', async () => {
    const { queue, runs } = controlled(2);
    for (const digit of ['a', 'b', 'c', 'd', 'e']) queue.join(request(digit), 'one', ignore);
    await turn();
    assert.equal(runs.length, 2);
    queue.concurrency = 4;
    await turn();
    assert.equal(runs.length, 4);
    runs[0]?.end();
    await turn();
    assert.equal(runs.length, 5);
    for (const run of runs) run.end();
  });

  it('does not let documents wait behind layers, nor a nearly complete layer behind others that wait', async () => {
    const { queue, runs } = controlled(1);
    queue.join(request('a'), 'one', ignore);
    queue.join(request('b'), 'one', ignore);
    queue.join(request('c', { remaining: 1000 }), 'one', ignore);
    queue.join(request('d', { kind: 'document' }), 'one', ignore);
    await turn();
    assert.deepEqual(
      runs.map((run) => run.digest),
      [digest('a'), digest('d')],
    );
    runs[0]?.end();
    await turn();
    assert.equal(runs[2]?.digest, digest('c'));
    runs[2].end();
    await turn();
    for (const run of runs) run.end();
  });

  it('goes on with the next source when one fails, and fails everyone only when all have', async () => {
    const { queue, runs } = controlled();
    const refused = queue.join(request('a'), 'bad credentials', ignore);
    const accepted = queue.join(request('a'), 'good credentials', ignore);
    await turn();
    runs[0]?.end(new LayerdError('unauthorized', 'who are you?'));
    await turn();
    assert.equal(runs[1]?.source, 'good credentials');
    runs[1].end();
    await Promise.all([refused.done, accepted.done]);

    const lost = [queue.join(request('b'), 'x', ignore), queue.join(request('b'), 'y', ignore)];
    await turn();
    runs[2]?.end(new Error('from x'));
    await turn();
    runs[3]?.end(new Error('from y'));
    const ends = await Promise.allSettled(lost.map((interest) => interest.done));
    assert.deepEqual(
      ends.map((end) => (end.status === 'rejected' ? (end.reason as Error).message : 'resolved')),
      ['from x', 'from y'],
      'each party hears what came of its own source',
    );
  });

  it('stops only when the last interest is released', async () => {
    const { queue, runs } = controlled();
    const first = queue.join(request('a'), 'one', ignore);
    const second = queue.join(request('a'), 'two', ignore);
    await turn();
    void first.release();
    await assert.rejects(first.done, { kind: 'cancelled' });
    assert.equal(runs[0]?.control.signal.aborted, false);
    void second.release();
    assert.equal(runs[0].control.signal.aborted, true);
  });

  it('starts anew for a blob whose stopped transfer still winds down, but not before that has ended', async () => {
    const { queue, runs } = controlled();
    const first = queue.join(request('a'), 'one', ignore);
    await turn();
    void first.release();
    const second = queue.join(request('a'), 'two', ignore);
    await Promise.resolve();
    assert.equal(runs.length, 1, 'the file of the ingest has one writer');
    await turn();
    await turn();
    assert.equal(runs.length, 2);
    runs[1]?.end();
    await second.done;
  });

  it('is not blocked by a transfer that was stopped before its turn', async () => {
    const { queue, runs } = controlled(1);
    queue.join(request('a'), 'one', ignore);
    const stopped = queue.join(request('b'), 'one', ignore);
    void stopped.release();
    const again = queue.join(request('b', { remaining: 10 }), 'two', ignore);
    await turn();
    runs[0]?.end();
    await turn();
    await turn();
    assert.equal(runs[1]?.source, 'two');
    runs[1].end();
    await again.done;
  });

  it('tells every party the latest status, also one that joins late', async () => {
    const { queue, runs } = controlled();
    const seen: string[] = [];
    queue.join(request('a'), 'one', ignore);
    await turn();
    runs[0]?.control.update({ state: 'downloading', received: 5 });
    const late = queue.join(request('a'), 'two', ({ state, received }) => seen.push(`${state} ${received}`));
    runs[0]?.control.update({ received: 7 });
    runs[0]?.end();
    await late.done;
    assert.deepEqual(seen, ['downloading 5', 'downloading 7', 'done 7']);
  });

  it('tells as waiting only what waits behind others', async () => {
    const { queue, runs } = controlled(2);
    const seen: string[] = [];
    for (const digit of ['a', 'b', 'c']) {
      queue.join(request(digit), 'one', ({ state }) => seen.push(`${digit} ${state}`));
    }
    await turn();
    assert.deepEqual(seen, ['a downloading', 'b downloading', 'c waiting']);
    runs[0]?.end();
    await turn();
    assert.deepEqual(seen.slice(3), ['a done', 'c downloading']);
    for (const run of runs) run.end();
  });

  it('ends with a clear error for all when the daemon shuts down', async () => {
    const { queue, runs } = controlled();
    const interest = queue.join(request('a'), 'one', ignore);
    await turn();
    const closed = queue.close();
    await assert.rejects(interest.done, { kind: 'unavailable', message: /shutting down/ });
    await closed;
    assert.equal(runs.length, 1);
  });

  it('lets other movements of blobs take places under its limit', async () => {
    const { queue, runs } = controlled(2);
    const { signal } = new AbortController();
    const leave = await queue.occupy(signal);
    for (const digit of ['a', 'b']) queue.join(request(digit), 'one', ignore);
    await turn();
    assert.equal(runs.length, 1);
    const given = new AbortController();
    const waiting = queue.occupy(given.signal);
    const next = queue.occupy(signal);
    given.abort(new LayerdError('cancelled', 'no longer wanted'));
    await assert.rejects(waiting, { message: 'no longer wanted' });
    leave();
    await turn();
    assert.equal(runs.length, 2);
    runs[0]?.end();
    (await next)();
    runs[1]?.end();
    await turn();
    await queue.close();
  });

  it('works on the account of the party whose source it uses, whoever made room', async () => {
    const account = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const queue = new TransferQueue<string>({
      concurrency: 1,
      work: async (_request, source) => {
        await turn();
        seen.push([source, account.getStore()]);
        if (source === 'bad') throw new LayerdError('unavailable', 'no');
      },
    });
    const join = (digit: string, source: string, name: string): Promise<void> =>
      account.run(name, () => queue.join(request(digit), source, ignore).done);
    const joined = [join('a', 'one', 'A'), join('b', 'bad', 'B'), join('b', 'good', 'C')];
    await Promise.allSettled(joined);
    assert.deepEqual(seen, [
      ['one', 'A'],
      ['bad', 'B'],
      ['good', 'C'],
    ]);
  });

  it('knows by its key what is the same, and gives everyone the result', async () => {
    const started: string[] = [];
    const queue = new TransferQueue<string, TransferRequest & { readonly to: string }, string>({
      concurrency: 3,
      keyOf: ({ digest, to }) => `${to} ${digest}`,
      work: ({ to }) => {
        started.push(to);
        return Promise.resolve(`at ${to}`);
      },
    });
    const join = (to: string): Promise<string> => queue.join({ ...request('a'), to }, 'source', ignore).done;
    assert.deepEqual(await Promise.all([join('one'), join('two'), join('one')]), ['at one', 'at two', 'at one']);
    assert.deepEqual(started, ['one', 'two']);
  });
});
