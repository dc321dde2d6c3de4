import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, request, type IncomingMessage } from 'node:http';
import { createConnection } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { WebSocket } from 'ws';
import { Subscription } from '../../../src/daemon/api/subscriptions/subscription.ts';
import { textFrame } from '../../../src/daemon/api/subscriptions/websocket.ts';
import { EventLog } from '../../../src/daemon/events/log.ts';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import type { TransferControl } from '../../../src/daemon/transfers/queue.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import type { TransferReport } from '../../../src/protocol/engine.ts';
import { LIMITS } from '../events/limits.ts';
import { Fixture as Store } from '../images/fixture.ts';
import { Fixture, STORE_ID } from './fixture.ts';
import { Definition } from './own.ts';

type Frame = Record<string, unknown>;

/** A client that keeps what it is sent. */
class Client {
  readonly socket: WebSocket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<[code: number, reason: Buffer]>;
  #waiting: (() => void) | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('message', (data: Buffer, isBinary) => {
      assert.equal(isBinary, false);
      this.frames.push(JSON.parse(data.toString()) as Frame);
      this.#waiting?.();
    });
    this.closed = once(socket, 'close') as Promise<[number, Buffer]>;
  }

  /** The first so many frames, once they have come. */
  async first(count: number): Promise<Frame[]> {
    while (this.frames.length < count) await new Promise<void>((resolve) => (this.#waiting = resolve));
    return this.frames.slice(0, count);
  }

  /** The sequence numbers of the first so many events. */
  async events(count: number): Promise<unknown[]> {
    return (await this.first(count + 1)).slice(1).map(({ seq }) => seq);
  }
}

describe('GET /layerd/events', () => {
  let api: Fixture;
  const clients: Client[] = [];
  const runs = new Map<Digest, (run: { update: TransferControl['update']; end: () => void }) => void>();
  const definition = new Definition();
  beforeEach(async () => {
    api = await Fixture.start();
    api.download = ({ digest }, _source, control) =>
      new Promise((end) => runs.get(digest)?.({ update: (status) => control.update(status), end: () => end() }));
  });
  afterEach(async () => {
    for (const { socket } of clients.splice(0)) socket.terminate();
    await api[Symbol.asyncDispose]();
  });

  const append = (event: Partial<NewEvent> = {}): void =>
    api.events.append({ type: 'image', action: 'pull', actor: 'redis:7', attributes: { name: 'redis' }, ...event });

  /** A transfer that lasts until it is ended. `begun`: once its turn has come. */
  function transfer(number: number) {
    const digest: Digest = `sha256:${number.toString(16).padStart(64, '0')}`;
    const begun = new Promise<{ update: TransferControl['update']; end: () => void }>((resolve) => {
      runs.set(digest, resolve);
    });
    const demand = api.demands.begin({ verb: 'pull', reference: 'redis:7', client: 'ann' });
    const wanted = { digest, size: 10, remaining: 10, kind: 'layer' } as const;
    return { begun, done: api.downloads.join(wanted, 'docker.io/library/redis', demand).done };
  }

  function open(query = ''): Client {
    const client = new Client(new WebSocket(`ws+unix://${api.socket}:/v1.56/layerd/events${query}`));
    clients.push(client);
    return client;
  }

  describe('over a WebSocket', () => {
    it('says who it is, then tells what happens from now on', async () => {
      append();
      const client = open();
      const [first] = await client.first(1);
      const { hello } = first as { hello: Frame };
      assert.deepEqual(hello, { oldest: 1, newest: 1, cursor: 1, id: STORE_ID, version: '1.2.3' });
      append({ action: 'tag' });
      const [, event] = await client.first(2);
      assert.equal(typeof event?.['timeNano'], 'number');
      const { timeNano, time, ...rest } = event ?? {};
      assert.ok(Math.abs(Number(timeNano) / 1e9 - Number(time)) <= 1);
      assert.deepEqual(rest, {
        Type: 'image',
        Action: 'tag',
        Actor: { ID: 'redis:7', Attributes: { name: 'redis' } },
        scope: 'local',
        seq: 2,
      });
    });

    it('begins anywhere: at the oldest, after an event, or at a time', async () => {
      for (let count = 0; count < 5; count += 1) append();
      assert.deepEqual(await open('?cursor=0').events(5), [1, 2, 3, 4, 5]);
      assert.deepEqual(await open('?cursor=3').events(2), [4, 5]);
      assert.deepEqual(await open('?since=1h').events(5), [1, 2, 3, 4, 5]);
      const late = open('?cursor=5');
      await late.first(1);
      append();
      assert.deepEqual(await late.events(1), [6]);
    });

    it('ends at a time, that has passed or is to come', async () => {
      append();
      append();
      const past = open(`?cursor=0&until=${Date.now() / 1000 + 0.1}`);
      assert.deepEqual(await past.events(2), [1, 2]);
      const [code, reason] = await past.closed;
      assert.deepEqual([code, reason.toString()], [1000, 'until has come']);
      append();
      // Of what is after it nothing is told, and nobody waits for more.
      const before = open('?cursor=0&until=1');
      assert.equal((await before.closed)[0], 1000);
      assert.equal(before.frames.length, 1);
      assert.equal(api.events.subscribers, 0);
    });

    it('lets through what the filters do, and takes on others while it is open', async () => {
      const filters = (value: object): string => encodeURIComponent(JSON.stringify(value));
      append({ action: 'tag' });
      append({ action: 'push' });
      const client = open(`?cursor=0&filters=${filters({ event: ['push'] })}`);
      assert.deepEqual(await client.events(1), [2]);
      client.socket.send(JSON.stringify({ filters: { event: ['tag'] } }));
      assert.deepEqual((await client.first(3))[2], { filters: { seq: 2 } });
      append({ action: 'push' });
      append({ action: 'tag' });
      assert.equal((await client.first(4))[3]?.['seq'], 4);
      client.socket.send(JSON.stringify({ filters: null }));
      assert.deepEqual((await client.first(5))[4], { filters: { seq: 4 } });
      append({ action: 'push' });
      assert.equal((await client.first(6))[5]?.['seq'], 5);
    });

    for (const [message, code, reason] of [
      ['nonsense', 1008, /not JSON/],
      ['{"cursor":1}', 1008, /expected \{"filters"/],
      ['{"filters":{"nothing":["x"]}}', 1008, /invalid filter 'nothing'/],
      [`{"filters":{"${'é'.repeat(200)}":[]}}`, 1008, /^invalid filter 'é+$/],
      [Buffer.from([1, 2]), 1003, /JSON text/],
      ['x'.repeat(70_000), 1009, /^$/],
    ] as const) {
      it(`closes with ${code} on ${message.slice(0, 30).toString()}`, async () => {
        const client = open();
        await client.first(1);
        client.socket.send(message);
        const [closedWith, said] = await client.closed;
        assert.equal(closedWith, code);
        assert.match(said.toString(), reason);
      });
    }

    it('closes with 1001 when the daemon stops', async () => {
      const client = open();
      await client.first(1);
      api.events.close();
      const [code, reason] = await client.closed;
      assert.deepEqual([code, reason.toString()], [1001, 'the daemon is shutting down']);
      assert.equal(api.events.subscribers, 0);
    });

    it('tells of a gap where the log no longer reaches back', async () => {
      for (let count = 0; count < 6; count += 1) append();
      api.store.db.run('DELETE FROM event WHERE seq <= 4');
      const client = open('?cursor=1');
      const [, gap, ...rest] = await client.first(4);
      assert.deepEqual(gap, { gap: { from: 2, to: 4 } });
      assert.deepEqual(
        rest.map(({ seq }) => seq),
        [5, 6],
      );
    });

    it('delivers all of a long log in order, to one that reads late as well', async () => {
      const total = 3000;
      api.store.db.transaction(() => {
        for (let count = 0; count < total; count += 1) append({ attributes: { note: 'x'.repeat(500) } });
      });
      const late = open('?cursor=0');
      await late.first(1);
      late.socket.pause();
      const early = open('?cursor=0');
      const all = Array.from({ length: total }, (_, index) => index + 1);
      assert.deepEqual(await early.events(total), all);
      append();
      late.socket.resume();
      assert.deepEqual(await late.events(total + 1), [...all, total + 1]);
    });

    it('counts its subscribers, and lets go of those that go away', async () => {
      const client = open();
      await client.first(1);
      assert.equal(api.events.subscribers, 1);
      client.socket.terminate();
      for (let left = 1; left > 0; left = api.events.subscribers) await sleep(1);
    });

    it('holds next to nothing of what a subscriber does not read', async () => {
      const pause = open('?cursor=0');
      await pause.first(1);
      pause.socket.pause();
      const before = process.memoryUsage().arrayBuffers;
      api.store.db.transaction(() => {
        for (let count = 0; count < 5000; count += 1) append({ attributes: { note: 'x'.repeat(2000) } });
      });
      await sleep(200);
      // 10 MB of events; what is shared by all is a few pages, and of its own the subscriber has one.
      assert.ok(process.memoryUsage().arrayBuffers - before < 2_000_000);
    });

    /** The status and body that a handshake is refused with. */
    async function refused(
      path: string,
      options: { url?: string; headers?: Record<string, string> } = {},
    ): Promise<[number, string]> {
      const socket = new WebSocket(options.url ?? `ws+unix://${api.socket}:${path}`, {
        headers: options.headers ?? {},
      });
      socket.on('error', () => undefined);
      const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
      return [response.statusCode ?? 0, (JSON.parse(await text(response)) as { message: string }).message];
    }

    for (const [path, status, message] of [
      ['/layerd/events?cursor=x', 400, /parameter cursor: "x" is no sequence number/],
      ['/layerd/events?cursor=-1', 400, /is no sequence number/],
      ['/layerd/events?cursor=9', 409, /cursor 9 is ahead of the log, whose newest event is 0/],
      ['/layerd/events?cursor=0&since=1h', 400, /cursor and since both/],
      ['/layerd/events?since=never', 400, /parameter since/],
      ['/layerd/events?until=never', 400, /parameter until/],
      ['/layerd/events?since=2&until=1', 400, /since "2" cannot be after until "1"/],
      ['/layerd/events?filters=x', 400, /not JSON/],
      ['/v1.99/layerd/events', 400, /client version 1\.99 is too new/],
      ['/nothing', 404, /page not found/],
      ['/containers/x/attach/ws', 501, /does not serve containers/],
    ] as const) {
      it(`is refused with ${status} at ${path}`, async () => {
        const [is, said] = await refused(path);
        assert.equal(is, status);
        assert.match(said, message);
      });
    }

    it('tells progress where that is asked for, in frames without a place', async () => {
      const [told, untold] = [open('?progress=1'), open()];
      await Promise.all([told.first(1), untold.first(1)]);
      const { begun, done } = transfer(1);
      const { update, end } = await begun;
      update({ received: 5 });
      append();
      end();
      await done;
      const states = (frames: Frame[]): unknown[] =>
        frames.flatMap(({ progress }) => (progress === undefined ? [] : [(progress as TransferReport).state]));
      for (let count = 1; states(told.frames).at(-1) !== 'done'; count += 1) await told.first(count);
      const frames = told.frames.filter((frame) => 'progress' in frame);
      for (const frame of frames) {
        definition.checkSchema('EventsFrame', frame);
        assert.equal('seq' in frame, false);
      }
      assert.equal((frames.at(-1)?.['progress'] as TransferReport).received, 5);
      assert.deepEqual(
        told.frames.flatMap(({ seq }) => (seq === undefined ? [] : [seq])),
        [1],
      );
      assert.deepEqual(await untold.events(1), [1]);
      assert.deepEqual(states(untold.frames), []);
    });

    it('tells who does not read only the latest of transfers, and holds none of what was before', async () => {
      const client = open('?progress=1');
      await client.first(1);
      client.socket.pause();
      const total = 2000;
      for (let number = 0; number < total; number += 1) transfer(number);
      const digests = api.transfers.list().map(({ digest }) => digest);
      const before = process.memoryUsage().arrayBuffers;
      for (let priority = 1; priority <= 20; priority += 1) {
        for (const digest of digests) api.transfers.steer(digest, { priority });
        await sleep(10);
      }
      // 20 MB were it told of every change.
      assert.ok(process.memoryUsage().arrayBuffers - before < 2_000_000);
      client.socket.resume();
      const latest = new Map<string, TransferReport>();
      while (latest.size < total || [...latest.values()].some(({ priority }) => priority < 20)) {
        await client.first(1);
        for (const { progress } of client.frames.splice(0)) {
          if (progress !== undefined) latest.set((progress as TransferReport).digest, progress as TransferReport);
        }
      }
    });

    it('is refused to web pages over tcp', async () => {
      const url = `${api.url.replace('http', 'ws')}/layerd/events`;
      const [status, message] = await refused('', { url, headers: { Origin: 'http://evil.example' } });
      assert.equal(status, 403);
      assert.match(message, /web pages/);
      const socket = new WebSocket(url);
      clients.push(new Client(socket));
      await once(socket, 'open');
    });

    it('is refused with what is wrong with the handshake', async () => {
      const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' };
      const [response] = (await once(get({ socketPath: api.socket, path: '/layerd/events', headers }), 'response')) as [
        IncomingMessage,
      ];
      assert.equal(response.statusCode, 400);
      assert.match(await text(response), /malformed WebSocket handshake: Missing or invalid Sec-WebSocket-Key/);
    });

    it('leaves other upgrades alone, which are answered as requests', async () => {
      const asked = request({
        socketPath: api.socket,
        path: '/_ping',
        headers: { Connection: 'Upgrade', Upgrade: 'h2c' },
      });
      const [response] = (await once(asked.end(), 'response')) as [IncomingMessage];
      assert.equal(await text(response), 'OK');
    });

    it('survives a connection that is cut in the middle of the handshake', async () => {
      const connection = createConnection(api.socket);
      await once(connection, 'connect');
      connection.write('GET /layerd/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      connection.destroy();
      const client = open();
      await client.first(1);
    });
  });

  describe('as server-sent events', () => {
    async function listen(query = '', headers: Record<string, string> = {}): Promise<IncomingMessage> {
      const [response] = (await once(
        get({ socketPath: api.socket, path: `/layerd/events${query}`, headers }),
        'response',
      )) as [IncomingMessage];
      response.setEncoding('utf8');
      return response;
    }

    /** What the stream says until it has said as much. */
    async function until(response: IncomingMessage, end: RegExp): Promise<string> {
      let said = '';
      for await (const chunk of response as AsyncIterable<string>) {
        said += chunk;
        if (end.test(said)) return said;
      }
      return said;
    }

    it('gives each its sequence number as its ID', async () => {
      append();
      append();
      const response = await listen('?cursor=0', { Accept: 'text/event-stream' });
      assert.equal(response.headers['content-type'], 'text/event-stream');
      const said = await until(response, /id: 2\ndata: \{.*\}\n\n$/);
      assert.match(said, /^retry: 1000\nid: 0\nevent: hello\ndata: \{"hello":\{"oldest":1,"newest":2,"cursor":0,/);
      assert.match(said, /\n\nid: 1\ndata: \{"Type":"image","Action":"pull",.*"seq":1\}\n\nid: 2\n/);
    });

    it('goes on after the ID that a browser comes back with', async () => {
      for (let count = 0; count < 3; count += 1) append();
      const response = await listen('?since=1h', { 'Last-Event-ID': '2' });
      assert.match(await until(response, /"seq":3/), /^retry: 1000\nid: 2\nevent: hello\n.*\n\nid: 3\n/);
    });

    it('ends at a time', async () => {
      append();
      const said = await text(await listen(`?cursor=0&until=${Date.now() / 1000 + 0.1}`));
      assert.match(said, /"seq":1\}\n\n$/);
    });

    it('is refused where the client wants something else, or comes back with no ID', async () => {
      const other = await listen('', { Accept: 'text/html' });
      assert.equal(other.statusCode, 400);
      assert.match(await text(other), /over a WebSocket, or as text\/event-stream/);
      const odd = await listen('', { 'Last-Event-ID': 'x' });
      assert.equal(odd.statusCode, 400);
      assert.match(await text(odd), /header Last-Event-ID/);
    });

    it('names progress, which has no ID', async () => {
      const response = await listen('?progress=1');
      const { begun } = transfer(1);
      (await begun).update({ received: 5 });
      append();
      const said = await until(response, /"received":5,.*\n\n/);
      assert.match(said, /\n\nevent: progress\ndata: \{"progress":\{"digest":"sha256:0{63}1",.*\}\n\n/);
    });

    it('ends when the daemon stops', async () => {
      const response = await listen();
      setTimeout(() => api.events.close(), 20);
      assert.match(await text(response), /^retry/);
    });
  });
});

describe('a subscription', () => {
  it('bookmarks its place while nothing concerns it', async () => {
    using store = new Store();
    const log = new EventLog({ db: store.db, limits: LIMITS });
    for (let count = 0; count < 600; count += 1) log.append({ type: 'image', action: 'pull', actor: 'a' });
    const subscription = new Subscription(log, { place: 0, filter: ({ action }) => action === 'push' }, { idle: 30 });
    const abort = new AbortController();
    const deliveries = subscription.deliveries(abort.signal, (delivery) => delivery);
    // On a busy machine some come on the way.
    for (let place = 0; place < 600;) {
      const { value } = await deliveries.next();
      assert.ok(value?.kind === 'bookmark' && value.seq > place);
      place = value.seq;
    }
    assert.deepEqual((await deliveries.next()).value, { kind: 'bookmark', seq: 600 });
    log.append({ type: 'image', action: 'push', actor: 'a' });
    const { value } = await deliveries.next();
    assert.equal(value?.kind === 'events' && value.last, 601);
    abort.abort();
    assert.equal((await deliveries.next()).done, true);
  });
});

describe('a frame', () => {
  it('has the length that its text needs', () => {
    for (const length of [0, 125, 126, 65_535, 65_536]) {
      const frame = textFrame('x'.repeat(length));
      const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
      assert.equal(frame.length, head + length);
      assert.equal(frame[0], 0x81);
    }
    assert.equal(textFrame('é')[1], 2);
  });
});
