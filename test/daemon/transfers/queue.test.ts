import { AsyncLocalStorage } from 'node:async_hooks';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Digest } from '../../../src/protocol/digest.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { Demands } from '../../../src/daemon/transfers/demand.ts';
import {
  TransferQueue,
  type TransferControl,
  type TransferRequest,
  type VisibleTransfer,
} from '../../../src/daemon/transfers/queue.ts';

const digest = (digit: string): Digest => `sha256:${digit.repeat(64)}`;
const request = (digit: string, more: Partial<TransferRequest> = {}): TransferRequest => ({
  digest: digest(digit),
  size: 10_000_000,
  remaining: 10_000_000,
  kind: 'layer',
  ...more,
});
const demands = new Demands();
const demand = demands.begin({ verb: 'pull', reference: 'some:1', client: 'someone' });
const CANDIDATE = { priority: 0, isSmall: false, clients: ['someone'] };
/** What every queue of these tests is. */
const KIND = { direction: 'download', repositoryOf: () => 'localhost:5000/some' } as const;

/** A queue whose work waits to be told how it ends. */
function controlled(concurrency = 3) {
  const runs: { digest: Digest; source: string; control: TransferControl; end: (error?: Error) => void }[] = [];
  const queue = new TransferQueue<string>({
    ...KIND,
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
    const first = queue.join(request('a'), 'one', demand);
    const second = queue.join(request('a'), 'two', demand);
    await turn();
    assert.equal(runs.length, 1);
    runs[0]?.end();
    await Promise.all([first.done, second.done]);
  });

  it('has at most `concurrency` layers under way, and takes a new limit while running', async () => {
    const { queue, runs } = controlled(2);
    for (const digit of ['a', 'b', 'c', 'd', 'e']) queue.join(request(digit), 'one', demand);
    await turn();
    assert.equal(runs.length, 2);
    queue.concurrency = { total: 4, registries: {} };
    await turn();
    assert.equal(runs.length, 4);
    runs[0]?.end();
    await turn();
    assert.equal(runs.length, 5);
    for (const run of runs) run.end();
  });

  it('does not let documents wait behind layers, nor a nearly complete layer behind others that wait', async () => {
    const { queue, runs } = controlled(1);
    queue.join(request('a'), 'one', demand);
    queue.join(request('b'), 'one', demand);
    queue.join(request('c', { remaining: 1000 }), 'one', demand);
    queue.join(request('d', { kind: 'document' }), 'one', demand);
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
    const refused = queue.join(request('a'), 'bad credentials', demand);
    const accepted = queue.join(request('a'), 'good credentials', demand);
    await turn();
    runs[0]?.end(new LayerdError('unauthorized', 'who are you?'));
    await turn();
    assert.equal(runs[1]?.source, 'good credentials');
    runs[1].end();
    await Promise.all([refused.done, accepted.done]);

    const lost = [queue.join(request('b'), 'x', demand), queue.join(request('b'), 'y', demand)];
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
    const first = queue.join(request('a'), 'one', demand);
    const second = queue.join(request('a'), 'two', demand);
    await turn();
    void first.release();
    await assert.rejects(first.done, { kind: 'cancelled' });
    assert.equal(runs[0]?.control.signal.aborted, false);
    void second.release();
    assert.equal(runs[0].control.signal.aborted, true);
  });

  it('starts anew for a blob whose stopped transfer still winds down, but not before that has ended', async () => {
    const { queue, runs } = controlled();
    const first = queue.join(request('a'), 'one', demand);
    await turn();
    void first.release();
    const second = queue.join(request('a'), 'two', demand);
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
    queue.join(request('a'), 'one', demand);
    const stopped = queue.join(request('b'), 'one', demand);
    void stopped.release();
    const again = queue.join(request('b', { remaining: 10 }), 'two', demand);
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
    queue.join(request('a'), 'one', demand);
    await turn();
    runs[0]?.control.update({ state: 'downloading', received: 5 });
    const late = queue.join(request('a'), 'two', demand, ({ state, received }) => seen.push(`${state} ${received}`));
    runs[0]?.control.update({ received: 7 });
    runs[0]?.end();
    await late.done;
    assert.deepEqual(seen, ['downloading 5', 'downloading 7', 'done 7']);
  });

  it('tells as waiting only what waits behind others', async () => {
    const { queue, runs } = controlled(2);
    const seen: string[] = [];
    for (const digit of ['a', 'b', 'c']) {
      queue.join(request(digit), 'one', demand, ({ state }) => seen.push(`${digit} ${state}`));
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
    const interest = queue.join(request('a'), 'one', demand);
    await turn();
    const closed = queue.close();
    await assert.rejects(interest.done, { kind: 'unavailable', message: /shutting down/ });
    await closed;
    assert.equal(runs.length, 1);
  });

  it('lets other movements of blobs take places under its limit', async () => {
    const { queue, runs } = controlled(2);
    const { signal } = new AbortController();
    const leave = await queue.occupy(CANDIDATE, 'localhost:5000', signal);
    for (const digit of ['a', 'b']) queue.join(request(digit), 'one', demand);
    await turn();
    assert.equal(runs.length, 1);
    const given = new AbortController();
    const waiting = queue.occupy(CANDIDATE, 'localhost:5000', given.signal);
    const next = queue.occupy(CANDIDATE, 'localhost:5000', signal);
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

  describe('with limits of registries', () => {
    /** A source is a repository here. */
    function limited(total: number, registries: Record<string, number>) {
      const runs: { name: string; source: string; control: TransferControl; end: (error?: Error) => void }[] = [];
      const queue = new TransferQueue<string>({
        direction: 'download',
        repositoryOf: (_request, source) => source,
        isResumable: true,
        concurrency: total,
        work: (wanted, source, control) =>
          new Promise((resolve, reject) => {
            const run = {
              name: wanted.digest.slice(-1),
              source,
              control,
              end: (error?: Error) => {
                const at = runs.indexOf(run);
                if (at !== -1) runs.splice(at, 1);
                if (error === undefined) resolve();
                else reject(error);
              },
            };
            control.signal.addEventListener('abort', () => setImmediate(() => run.end(new Error('aborted'))));
            runs.push(run);
          }),
      });
      queue.concurrency = { total, registries };
      return { queue, runs, running: () => runs.map(({ name }) => name).join('') };
    }

    it('has no more of a registry under way than its limit, and that holds up nobody else', async () => {
      const { queue, runs, running } = limited(4, { 'one.example': 1, '*': 2 });
      for (const digit of ['a', 'b', 'c']) queue.join(request(digit), 'one.example/x', demand);
      for (const digit of ['d', 'e', 'f']) queue.join(request(digit), 'two.example/x', demand);
      queue.join(request('1'), 'three.example/x', demand);
      queue.join(request('2', { kind: 'document' }), 'one.example/x', demand);
      await turn();
      assert.equal(running(), 'ade12');
      runs[0]?.end();
      await turn();
      assert.equal(running(), 'de12b');
      runs.find(({ name }) => name === 'e')?.end();
      await turn();
      assert.equal(running(), 'd12bf');
      await queue.close();
    });

    it('takes other limits on at once, in either direction, and loses nothing', async () => {
      const { queue, runs, running } = limited(3, { 'one.example': 3 });
      const first = queue.join(request('a'), 'one.example/x', demand);
      const urgent = demands.begin({ verb: 'pull', reference: 'some:2', client: 'someone', priority: 1 });
      queue.join(request('b'), 'one.example/x', urgent);
      queue.join(request('c'), 'one.example/x', demand);
      queue.join(request('d'), 'two.example/x', demand);
      await turn();
      assert.equal(running(), 'abc');
      runs[2]?.control.update({ received: 5 });
      queue.concurrency = { total: 3, registries: { 'one.example': 1 } };
      await turn();
      await turn();
      assert.equal(running(), 'bd');
      assert.deepEqual(
        queue.transfers().map((transfer) => transfer.report().state),
        ['waiting', 'downloading', 'waiting', 'downloading'],
      );
      assert.equal(queue.transfers()[2]?.report().received, 5);
      queue.concurrency = { total: 1, registries: {} };
      await turn();
      await turn();
      assert.equal(running(), 'b');
      queue.concurrency = { total: 4, registries: {} };
      await turn();
      assert.deepEqual(runs.map(({ name }) => name).sort(), ['a', 'b', 'c', 'd']);
      for (const run of [...runs]) run.end();
      await first.done;
      await queue.close();
    });

    it('fetches from whichever registry has room, and counts for the one that it goes on with', async () => {
      const { queue, runs, running } = limited(4, { '*': 1 });
      queue.join(request('a'), 'one.example/x', demand);
      queue.join(request('b'), 'one.example/x', demand);
      await turn();
      assert.equal(running(), 'a');
      // Somebody who would have it from elsewhere.
      const both = queue.join(request('b'), 'two.example/x', demand);
      await turn();
      assert.deepEqual(
        runs.map(({ source }) => source),
        ['one.example/x', 'two.example/x'],
      );
      queue.join(request('c'), 'two.example/x', demand);
      await turn();
      assert.equal(running(), 'ab');
      // It can be had from the first alone now, which is at its limit.
      runs[1]?.end(new Error('gone'));
      await turn();
      assert.equal(running(), 'ac');
      runs[0]?.end();
      await turn();
      assert.deepEqual(
        runs.map(({ name, source }) => name + source),
        ['ctwo.example/x', 'bone.example/x'],
      );
      runs[1]?.end();
      await both.done;
      await queue.close();
    });

    it('leaves those alone that could not go on where they are', async () => {
      const { queue, runs } = controlled(3);
      for (const digit of ['a', 'b', 'c']) queue.join(request(digit), 'one', demand);
      await turn();
      queue.concurrency = { total: 1, registries: {} };
      await turn();
      assert.ok(runs.every(({ control }) => !control.signal.aborted));
      for (const run of runs) run.end();
      await queue.close();
    });
  });

  it('works on the account of the party whose source it uses, whoever made room', async () => {
    const account = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    const queue = new TransferQueue<string>({
      ...KIND,
      concurrency: 1,
      work: async (_request, source) => {
        await turn();
        seen.push([source, account.getStore()]);
        if (source === 'bad') throw new LayerdError('unavailable', 'no');
      },
    });
    const join = (digit: string, source: string, name: string): Promise<void> =>
      account.run(name, () => queue.join(request(digit), source, demand).done);
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
      ...KIND,
      concurrency: 3,
      keyOf: ({ digest, to }) => `${to} ${digest}`,
      work: ({ to }) => {
        started.push(to);
        return Promise.resolve(`at ${to}`);
      },
    });
    const join = (to: string): Promise<string> => queue.join({ ...request('a'), to }, 'source', demand).done;
    assert.deepEqual(await Promise.all([join('one'), join('two'), join('one')]), ['at one', 'at two', 'at one']);
    assert.deepEqual(started, ['one', 'two']);
  });

  it('serves clients in turn, however much one of them asks for', async () => {
    const { queue, runs } = controlled(1);
    const other = demands.begin({ verb: 'pull', reference: 'other:1', client: 'someone else' });
    for (const digit of ['a', 'b', 'c', 'd']) queue.join(request(digit), 'one', demand);
    queue.join(request('e'), 'two', other);
    queue.join(request('f'), 'two', other);
    for (let at = 0; at < 6; at += 1) {
      await turn();
      runs[at]?.end();
    }
    assert.deepEqual(
      runs.map((run) => run.digest),
      ['a', 'e', 'b', 'f', 'c', 'd'].map(digest),
    );
  });

  it('begins with the highest priority, also when it is changed while it waits', async () => {
    const { queue, runs } = controlled(1);
    const urgent = demands.begin({ verb: 'pull', reference: 'urgent:1', client: 'someone', priority: 5 });
    for (const digit of ['a', 'b', 'c']) queue.join(request(digit), 'one', demand);
    queue.join(request('d'), 'one', urgent);
    queue
      .transfers()
      .find((transfer) => transfer.digest === digest('c'))
      ?.prioritize(6);
    for (let at = 0; at < 4; at += 1) {
      await turn();
      runs[at]?.end();
    }
    assert.deepEqual(
      runs.map((run) => run.digest),
      ['a', 'c', 'd', 'b'].map(digest),
    );
  });

  describe('pauses', () => {
    const named = (queue: TransferQueue<string>, digit: string): VisibleTransfer => {
      const found = queue.transfers().find((transfer) => transfer.digest === digest(digit));
      assert.ok(found);
      return found;
    };

    it('what runs, whose place another takes, and goes on in its turn', async () => {
      const { queue, runs } = controlled(1);
      const paused = queue.join(request('a'), 'one', demand);
      queue.join(request('b'), 'one', demand);
      await turn();
      const transfer = named(queue, 'a');
      runs[0]?.control.update({ received: 7, attempts: 1 });
      transfer.pause();
      assert.equal(runs[0]?.control.signal.aborted, true);
      runs[0].control.update({ state: 'retrying' });
      await turn();
      assert.deepEqual([transfer.report().state, transfer.report().received], ['paused', 7]);
      assert.equal(runs[1]?.digest, digest('b'));
      transfer.resume();
      assert.equal(transfer.report().state, 'waiting');
      runs[1].end();
      await turn();
      assert.equal(runs[2]?.digest, digest('a'));
      runs[2].end();
      await paused.done;
      assert.deepEqual(queue.transfers(), []);
    });

    it('what waits, and what is resumed before it has let go', async () => {
      const { queue, runs } = controlled(1);
      const first = queue.join(request('a'), 'one', demand);
      const second = queue.join(request('b'), 'one', demand);
      await turn();
      named(queue, 'b').pause();
      named(queue, 'a').pause();
      named(queue, 'a').resume();
      await turn();
      await turn();
      assert.deepEqual(
        runs.map((run) => run.digest),
        ['a', 'a'].map(digest),
      );
      runs[1]?.end();
      await first.done;
      await turn();
      assert.equal(runs.length, 2);
      named(queue, 'b').resume();
      await turn();
      runs[2]?.end();
      await second.done;
    });

    it('nothing that nobody wants any more, and begins anew for the next', async () => {
      const { queue, runs } = controlled();
      const first = queue.join(request('a'), 'one', demand);
      await turn();
      named(queue, 'a').pause();
      await turn();
      void first.release();
      assert.deepEqual(queue.transfers(), []);
      const second = queue.join(request('a'), 'two', demand);
      await turn();
      assert.equal(runs[1]?.source, 'two');
      runs[1].end();
      await second.done;
    });
  });

  it('ends a transfer for all who wait when it is cancelled, and resolves once nothing is written any more', async () => {
    const { queue, runs } = controlled();
    const interests = ['one', 'two'].map((source) => queue.join(request('a'), source, demand));
    await turn();
    const [transfer] = queue.transfers();
    const cancelled = transfer?.cancel();
    for (const { done } of interests) {
      await assert.rejects(done, { kind: 'cancelled', message: /some:1.* was cancelled through the API/ });
    }
    await cancelled;
    assert.equal(transfer?.report().state, 'cancelled');
    assert.equal(runs.length, 1);
  });

  it('reports what is wanted by whom, how far it is and where it comes from', async () => {
    const { queue, runs } = controlled();
    const interest = queue.join(request('a', { remaining: 9_000_000 }), 'one', demand);
    await turn();
    runs[0]?.control.update({ received: 2_000_000, attempts: 2, lastError: 'cut', host: 'mirror.example.com' });
    const [report] = queue.transfers().map((transfer) => transfer.report());
    const { since, wantedBy, ...rest } = report ?? assert.fail('there is no transfer');
    assert.ok(Date.parse(since) <= Date.now());
    const [wish] = wantedBy;
    assert.deepEqual([wish?.id, wish?.reference, wish?.client, wish?.verb], [demand.id, 'some:1', 'someone', 'pull']);
    assert.deepEqual(rest, {
      digest: digest('a'),
      direction: 'download',
      state: 'downloading',
      repository: 'localhost:5000/some',
      host: 'mirror.example.com',
      size: 10_000_000,
      received: 2_000_000,
      rate: 0,
      priority: 0,
      attempts: 2,
      lastError: 'cut',
    });
    runs[0]?.end();
    await interest.done;
  });
});
