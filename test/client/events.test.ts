import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, beforeEach, describe, it, type TestContext } from 'node:test';
import { EngineError, EventsGapError, LayerdClient, type EventMessage, type Outage } from '../../src/client/index.ts';
import type { NewEvent } from '../../src/daemon/events/event.ts';
import type { Digest } from '../../src/protocol/digest.ts';
import { Fixture, STORE_ID } from '../daemon/api/fixture.ts';
import { layerctl, scriptedEngine, stream, temporaryDirectory } from './support.ts';

/** A way to the daemon over TCP that can be cut. */
async function cuttable(context: TestContext, socketPath: string) {
  const open = new Set<Socket>();
  let refuses = false;
  let accepted = 0;
  const server = createServer((near) => {
    accepted += 1;
    if (refuses) near.destroy();
    const far = createConnection(socketPath);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from);
      from
        .on('error', () => undefined)
        .on('close', () => {
          open.delete(from);
          to.destroy();
        });
      from.pipe(to);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  context.after(() => {
    server.close();
    cut();
  });
  return {
    host: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    accepted: () => accepted,
    refuse: (whether: boolean) => (refuses = whether),
  };
}

describe('events of layerd', () => {
  let api: Fixture;
  before(async () => {
    api = await Fixture.start();
  });
  after(() => api[Symbol.asyncDispose]());
  beforeEach(() => api.store.db.run('DELETE FROM event'));

  /** Appends so many events; resolves with their sequence numbers. */
  function append(count = 1, event: Partial<NewEvent> = {}): number[] {
    const first = api.events.end + 1;
    api.store.db.transaction(() => {
      for (let left = count; left > 0; left -= 1) {
        api.events.append({ type: 'image', action: 'tag', actor: 'a', attributes: { name: 'a' }, ...event });
      }
    });
    return Array.from({ length: count }, (_, index) => first + index);
  }
  const host = (): string => `unix://${api.socket}`;

  /** The sequence numbers of the next so many. */
  async function take(events: AsyncGenerator<EventMessage>, count: number): Promise<unknown[]> {
    const taken: unknown[] = [];
    while (taken.length < count) {
      const { value } = (await events.next()) as IteratorResult<EventMessage, undefined>;
      taken.push(value?.seq);
    }
    return taken;
  }

  it('come with their sequence numbers and all digits, from anywhere in the log', async () => {
    await using client = new LayerdClient({ host: host() });
    const seqs = append(600);
    const all = client.events({ cursor: (seqs[0] ?? 0) - 1 });
    const { value } = await all.next();
    assert.equal(typeof value?.timeNano, 'bigint');
    assert.equal(value?.seq, seqs[0]);
    assert.deepEqual(await take(all, 599), seqs.slice(1));
    await all.return();
    const since = client.events({ since: '1', filters: { event: ['tag'] } });
    assert.deepEqual(await take(since, 2), seqs.slice(0, 2));
    const subscribed = Promise.withResolvers<unknown>();
    const late = client.events({ onHello: subscribed.resolve });
    const next = late.next();
    await subscribed.promise;
    const [seq] = append();
    assert.equal((await next).value?.seq, seq);
    await Promise.all([since.return(), late.return()]);
  });

  it('end when until has come', async () => {
    await using client = new LayerdClient({ host: host() });
    const seqs = append(3);
    const until = String(Date.now() / 1000 + 0.2);
    const told = await Array.fromAsync(client.events({ since: '1', until }));
    assert.deepEqual(
      told.map(({ seq }) => seq),
      seqs,
    );
  });

  it('go on after a cut, none twice and none left out, of a slow reader too', async (context) => {
    const way = await cuttable(context, api.socket);
    await using client = new LayerdClient({ host: way.host });
    const outages: Outage[] = [];
    const hellos: number[] = [];
    const expected = append(1000, { attributes: { note: 'x'.repeat(2000) } });
    const events = client.events({
      cursor: (expected[0] ?? 0) - 1,
      onHello: ({ cursor, id }) => {
        assert.equal(id, STORE_ID);
        hellos.push(cursor);
      },
      onOutage: (outage) => outages.push(outage),
    });
    const told = await take(events, 10);
    way.cut();
    told.push(...(await take(events, 500)));
    way.cut();
    expected.push(...append(20));
    told.push(...(await take(events, 510)));
    assert.deepEqual(told, expected);
    // While nothing happens as well.
    const next = events.next();
    way.cut();
    const [seq] = append();
    assert.equal((await next).value?.seq, seq);
    assert.ok(hellos.length >= 3);
    assert.ok(outages.every(({ error, failures }) => error.kind === 'unavailable' && failures >= 1));
    await events.return();
  });

  it('are waited for while the daemon is away, ever longer, until the client is closed', async (context) => {
    const way = await cuttable(context, api.socket);
    const client = new LayerdClient({ host: way.host });
    const away = Promise.withResolvers<Outage[]>();
    const outages: Outage[] = [];
    const events = client.events({
      cursor: api.events.end,
      onOutage: (outage) => {
        outages.push(outage);
        if (outages.length === 4) away.resolve(outages);
      },
    });
    append();
    await events.next();
    way.refuse(true);
    way.cut();
    const next = events.next();
    const [first, , , last] = await away.promise;
    assert.deepEqual([first?.failures, last?.failures], [1, 4]);
    assert.ok((last?.pause ?? 0) > (first?.pause ?? 0));
    client.close();
    await assert.rejects(next, /the client was closed/);
  });

  it('reject where the first connection fails, or reconnecting is not wanted', async (context) => {
    const nowhere = new LayerdClient({ host: `unix://${await temporaryDirectory(context)}/none.sock` });
    await assert.rejects(nowhere.events().next(), /there is no such socket/);
    const way = await cuttable(context, api.socket);
    await using client = new LayerdClient({ host: way.host });
    const events = client.events({ cursor: api.events.end, reconnect: false });
    append();
    await events.next();
    way.cut();
    await assert.rejects(events.next(), /the connection was lost/);
  });

  it('end with the signal’s reason, while they wait and while they are not read', async () => {
    await using client = new LayerdClient({ host: host() });
    for (const waits of [true, false]) {
      const stop = new AbortController();
      const events = client.events({ cursor: api.events.end, signal: stop.signal });
      append();
      await events.next();
      const next = waits ? events.next() : undefined;
      stop.abort(new Error('enough'));
      await assert.rejects(next ?? events.next(), /enough/);
    }
  });

  it('let go of the daemon when the iteration is left', async () => {
    await using client = new LayerdClient({ host: host() });
    append();
    for await (const { seq } of client.events({ since: '1' })) {
      assert.equal(api.events.subscribers, 1);
      assert.ok(Number(seq) > 0);
      break;
    }
    while (api.events.subscribers > 0) await new Promise(setImmediate);
  });

  it('tell of a gap, which ends them where nobody listens; the beginning of all there is, is none', async () => {
    await using client = new LayerdClient({ host: host() });
    const [first = 0, second = 0, third = 0, fourth = 0] = append(4);
    api.store.db.run('DELETE FROM event WHERE seq < ?', third);
    const gaps: unknown[] = [];
    const told = client.events({ cursor: first, onGap: (gap) => gaps.push(gap) });
    assert.deepEqual(await take(told, 2), [third, fourth]);
    assert.deepEqual(gaps, [{ from: second, to: second }]);
    await assert.rejects(client.events({ cursor: first }).next(), (error) => {
      assert.ok(error instanceof EventsGapError);
      assert.deepEqual(error.gap, { from: second, to: second });
      assert.match(error.message, /^event \d+ is lost/);
      return true;
    });
    const all = client.events({ cursor: 0 });
    assert.deepEqual(await take(all, 2), [third, fourth]);
    await Promise.all([told.return(), all.return()]);
  });

  it('refuse a cursor of another store, or ahead of the log, and what the daemon refuses', async () => {
    await using client = new LayerdClient({ host: host() });
    const conflict = (pattern: RegExp) => (error: unknown) =>
      error instanceof EngineError && error.kind === 'conflict' && pattern.test(error.message);
    append();
    await assert.rejects(client.events({ cursor: 0, store: 'other' }).next(), conflict(/another store/));
    await assert.rejects(client.events({ cursor: 999_999 }).next(), conflict(/ahead of the log/));
    await assert.rejects(client.events({ cursor: 0, since: '1' }).next(), /cursor and since both/);
    await assert.rejects(client.events({ filters: { nothing: ['x'] } }).next(), /invalid filter 'nothing'/);
    assert.equal(api.events.subscribers, 0);
  });

  const digest: Digest = `sha256:${'b'.repeat(64)}`;
  const download = (): Promise<void> => {
    const demand = api.demands.begin({ verb: 'pull', reference: 'redis:7', client: 'ann' });
    return api.downloads.join({ digest, size: 5_000_000, remaining: 10, kind: 'layer' }, 'docker.io/redis', demand)
      .done;
  };

  it('come with progress of transfers where somebody listens to it', async () => {
    await using client = new LayerdClient({ host: host() });
    const subscribed = Promise.withResolvers<unknown>();
    const ended = Promise.withResolvers<unknown>();
    const states: string[] = [];
    const events = client.events({
      onHello: subscribed.resolve,
      onProgress: (update) => {
        assert.ok('digest' in update);
        states.push(update.state);
        if (update.state === 'done') ended.resolve(undefined);
      },
    });
    const next = events.next();
    await subscribed.promise;
    await download();
    await ended.promise;
    const [seq] = append();
    assert.equal((await next).value?.seq, seq);
    assert.equal(states.at(-1), 'done');
    await events.return();
  });

  describe('with layerctl', () => {
    const run = (...args: string[]) => layerctl(['-H', host(), 'events', ...args], { now: Date.now() });
    const soon = (): string => String(Date.now() / 1000 + 0.3);

    it('show layers too, and their numbers in formats', async () => {
      const [seq] = append(1, { type: 'layer', action: 'create' });
      const plain = await run('--since', '1h', '--until', soon());
      assert.match(plain.out, /^\S+ layer create a \(name=a\)\n$/);
      assert.equal((await run('--since', '1h', '--until', soon(), '--format', '{{.Seq}}')).out, `${seq}\n`);
      const { out } = await run('--since', '1h', '--until', soon(), '--format', 'json');
      assert.equal((JSON.parse(out) as EventMessage).seq, seq);
    });

    it('show transfers with --progress, for people and for programs', async () => {
      for (const [format, told] of [
        [[], /^\S+ transfer done b{12} \(5MB\/5MB, from docker.io\/redis, for redis:7\)\n$/],
        [['--format', 'json'], /^\{"progress":\{"digest":"sha256:b{64}",.*"state":"done".*\}\}\n$/],
      ] as const) {
        api.download = (_request, _source, control) => {
          control.update({ received: 5_000_000 });
          return Promise.resolve();
        };
        const showing = run('--progress', '--until', soon(), ...format);
        while (api.events.subscribers === 0) await sleep(1);
        await download();
        const { out, status } = await showing;
        assert.equal(status, 0);
        assert.match(out, told);
      }
      const template = await run('--progress', '--format', '{{.Seq}}');
      assert.deepEqual([template.status, template.out], [2, '']);
      assert.match(template.err, /--progress is shown without --format, or with --format json/);
    });

    it('keep their place in a file and go on from there', async (context) => {
      const file = join(await temporaryDirectory(context), 'place');
      const follow = (...more: string[]) =>
        run('--cursor-file', file, '--follow', '--format', '{{.Seq}}', '--until', soon(), ...more);
      const first = append(3);
      assert.equal((await follow('--since', '1h')).out, first.map((seq) => `${seq}\n`).join(''));
      assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), { store: STORE_ID, seq: first[2] });
      const second = append(2);
      assert.equal((await follow('--since', '1h')).out, second.map((seq) => `${seq}\n`).join(''));
      // What was pruned meanwhile is said, on standard error.
      const third = append(3);
      api.store.db.run('DELETE FROM event WHERE seq < ?', third[2] ?? 0);
      const { out, err, status } = await follow();
      assert.deepEqual([status, out], [0, `${third[2]}\n`]);
      assert.match(err, /^layerctl: events \d+ to \d+ are lost: the daemon no longer keeps them\n$/);
    });

    it('begin from now where there is no file yet, and keep that', async (context) => {
      const file = join(await temporaryDirectory(context), 'place');
      append();
      const { out } = await run('--cursor-file', file, '--until', soon());
      assert.equal(out, '');
      assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), { store: STORE_ID, seq: api.events.end });
    });

    it('refuse a file that holds something else, or another store’s place, and leave it alone', async (context) => {
      const file = join(await temporaryDirectory(context), 'place');
      for (const [text, status, message] of [
        ['', 2, /keeps no place in a log of events; name another file/],
        ['{"store":"a"}', 2, /keeps no place/],
        ['{"store":"other","seq":0}', 1, /another store, .* than other, .*; to do so remove \/.*place\n/],
        [`{"store":"${STORE_ID}","seq":999999}`, 1, /cursor 999999 is ahead of the log/],
      ] as const) {
        await writeFile(file, text);
        const result = await run('--cursor-file', file, '--until', soon());
        assert.deepEqual([result.status, result.out], [status, '']);
        assert.match(result.err, message);
        assert.equal(await readFile(file, 'utf8'), text);
      }
      const missing = await run('--cursor-file', join(file, 'below'), '--until', soon());
      assert.match(missing.err, /cannot read the cursor file .*ENOTDIR/);
      const unwritable = await run('--cursor-file', '/proc/place', '--until', soon());
      assert.deepEqual([unwritable.status, /cannot write the cursor file/.test(unwritable.err)], [1, true]);
    });
  });
});

describe('events of another engine', () => {
  it('are its stream, without a place to go on from', async (context) => {
    const event = { Type: 'image', Action: 'pull', Actor: { ID: 'a', Attributes: {} }, scope: 'local', time: 1 };
    const engine = await scriptedEngine(context, (_request, response) => stream(response, [event]));
    await using client = new LayerdClient({ host: engine.host });
    assert.equal((await Array.fromAsync(client.events({ since: '1' }))).length, 1);
    assert.equal(engine.seen[0]?.path, '/events');
    await assert.rejects(client.events({ cursor: 1 }).next(), /is not layerd but scripted, and does not keep a log/);
    for (const flag of ['--follow', '--progress', '--cursor-file=/nonexistent/place']) {
      const { status, err } = await layerctl(['-H', engine.host, 'events', flag]);
      assert.equal(status, 1);
      assert.match(err, /is not layerd but scripted, and does not keep a log of events to go on in/);
    }
    const { out } = await layerctl(['-H', engine.host, 'events', '--format', '{{.Action}}{{.Seq}}']);
    assert.equal(out, 'pull\n');
  });
});
