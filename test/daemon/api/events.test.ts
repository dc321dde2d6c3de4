import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { negotiate } from '../../../src/daemon/api/media-type.ts';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

describe('GET /events', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  function open(target: string, accept?: string): Promise<IncomingMessage> {
    const headers = accept === undefined ? {} : { accept };
    return new Promise((resolve, reject) => {
      get({ socketPath: api.socket, path: target, headers }, resolve).once('error', reject);
    });
  }

  const append = (event: Partial<NewEvent> = {}): void => {
    api.events.append({ type: 'image', action: 'pull', actor: 'redis:7', attributes: { name: 'redis' }, ...event });
  };
  const parse = (body: string): Record<string, unknown>[] =>
    body
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  /** The actors of all past events that match the filters. */
  async function found(filters: Record<string, string[]>): Promise<unknown[]> {
    const query = new URLSearchParams({ since: '0', until: '0s', filters: JSON.stringify(filters) });
    const events = parse(await text(await open(`/events?${query.toString()}`)));
    return events.map(({ Actor }) => (Actor as { ID: string }).ID);
  }

  it('answers at once, and sends events as they happen until the client goes away', async () => {
    append({ actor: 'earlier' });
    const response = await open('/events');
    assert.equal(response.statusCode, 200);
    append();
    const [chunk] = (await once(response, 'data')) as [Buffer];
    const [event] = parse(chunk.toString());
    assert.deepEqual(event?.['Actor'], { ID: 'redis:7', Attributes: { name: 'redis' } });
    const subscribers = (): number => api.events.subscribers;
    assert.equal(subscribers(), 1);
    const closed = once(response, 'close');
    response.destroy();
    await closed;
    while (subscribers() > 0) await new Promise(setImmediate);
  });

  it('sends past events, and ends where that is all', async () => {
    for (const actor of ['a', 'b']) append({ actor });
    const body = await text(await open('/events?since=0&until=0s', 'application/jsonl'));
    assert.equal(parse(body).length, 2);
    contract?.checkLines('GET', '/events', body);
  });

  it('writes nanoseconds exactly', async () => {
    append();
    const [event] = api.events.read();
    const body = await text(await open('/events?since=0&until=0s'));
    assert.ok(body.includes(`"timeNano":${String(event?.time)}}`), body);
  });

  it('has the fields of before 1.22 until 1.52, and image creation from 1.46 on', async () => {
    append();
    append({ action: 'create' });
    const at = async (version: string): Promise<Record<string, unknown>[]> =>
      parse(await text(await open(`/v${version}/events?since=0&until=0s`)));
    const [old, ...none] = await at('1.45');
    assert.deepEqual(none, []);
    assert.equal(old?.['status'], 'pull');
    assert.equal(old['id'], 'redis:7');
    assert.equal((await at('1.46')).length, 2);
    assert.equal((await at('1.51'))[0]?.['status'], 'pull');
    const [newest] = await at('1.52');
    assert.deepEqual(Object.keys(newest ?? {}).sort(), ['Action', 'Actor', 'Type', 'scope', 'time', 'timeNano']);
  });

  it('speaks the content type that the client wants', async () => {
    append();
    for (const [accept, type] of [
      [undefined, 'application/json'],
      ['text/html', 'application/json'],
      ['application/jsonl', 'application/jsonl'],
      ['application/x-ndjson', 'application/x-ndjson'],
      ['application/json-seq', 'application/json-seq'],
    ] as const) {
      const response = await open('/events?since=0&until=0s', accept);
      assert.equal(response.headers['content-type'], type);
      const body = await text(response);
      assert.equal(body.startsWith('\u001e'), accept === 'application/json-seq');
    }
  });

  it('filters by type, action, image, label and scope', async () => {
    append();
    append({ actor: 'localhost:5000/team/app:1', action: 'tag', attributes: { name: 'x', team: 'a=b' } });
    append({ type: 'daemon', action: 'reload', actor: 'host-id', attributes: { name: 'host' } });
    append({ type: 'container', action: 'exec_start: ls', actor: 'c1', attributes: { image: 'redis:7' } });
    assert.deepEqual(await found({ type: ['daemon'] }), ['host-id']);
    assert.deepEqual(await found({ event: ['tag', 'reload'] }), ['localhost:5000/team/app:1', 'host-id']);
    assert.deepEqual(await found({ event: ['exec_start'] }), ['c1']);
    assert.deepEqual(await found({ image: ['redis'] }), ['redis:7', 'c1']);
    assert.deepEqual(await found({ image: ['localhost:5000/team/app'] }), ['localhost:5000/team/app:1']);
    assert.deepEqual(await found({ label: ['team=a=b'] }), ['localhost:5000/team/app:1']);
    assert.deepEqual(await found({ label: ['team', 'other'] }), []);
    assert.deepEqual(await found({ daemon: ['ho'] }), ['host-id']);
    assert.deepEqual(await found({ scope: ['swarm'] }), []);
    assert.deepEqual(await found({ type: [], scope: ['local'], event: ['pull'] }), ['redis:7']);
  });

  it('refuses times and filters that make no sense, naming them', async () => {
    for (const [query, message] of [
      ['since=yesterday', /^parameter since: .*"yesterday"/],
      ['until=x', /^parameter until: /],
      ['since=20&until=10', /since "20" cannot be after until "10"/],
      ['filters=%7B%22colour%22%3A%5B%22red%22%5D%7D', /invalid filter 'colour'/],
    ] as const) {
      const response = await open(`/events?${query}`);
      assert.equal(response.statusCode, 400, query);
      assert.match((JSON.parse(await text(response)) as { message: string }).message, message);
    }
  });

  it('breaks off where a client was overtaken by the pruning, instead of leaving a gap', async () => {
    for (const actor of ['a', 'b', 'c']) append({ actor });
    const response = await open('/events?since=0');
    assert.match(String(((await once(response, 'data')) as [Buffer])[0]), /"ID":"c"/);
    api.store.db.transaction(() => {
      append({ actor: 'd' });
      append({ actor: 'e' });
      api.store.db.run('DELETE FROM event WHERE seq <= 4');
    });
    await assert.rejects(text(response), { code: 'ECONNRESET' });
  });

  it('gives a client that reads slowly all events, without gaps', async () => {
    const count = 3000;
    const attributes = { name: 'x'.repeat(500) };
    const response = await open('/events?since=0');
    response.pause();
    api.store.db.transaction(() => {
      for (let index = 0; index < count; index += 1) append({ actor: String(index), attributes });
    });
    let body = '';
    for await (const chunk of response) {
      body += String(chunk);
      if (body.split('\n').length > count) break;
    }
    assert.deepEqual(
      parse(body).map(({ Actor }) => (Actor as { ID: string }).ID),
      Array.from({ length: count }, (_, index) => String(index)),
    );
  });
});

describe('the negotiation of a media type', () => {
  const offers = ['application/jsonl', 'application/x-ndjson', 'application/json-seq'];
  const cases: [string | undefined, string][] = [
    [undefined, 'fallback'],
    ['', 'fallback'],
    ['*/*', 'application/jsonl'],
    ['application/*;q=0.5, application/json-seq', 'application/json-seq'],
    ['application/json-seq;q=0.2, application/x-ndjson;q=0.9', 'application/x-ndjson'],
    ['application/json-seq, */*', 'application/json-seq'],
    ['application/jsonl;q=0', 'fallback'],
    ['APPLICATION/JSON-SEQ', 'application/json-seq'],
    ['application/jsonl;q=nonsense', 'fallback'],
  ];
  for (const [accept, expected] of cases) {
    it(`answers ${accept ?? 'no Accept'} by ${expected}`, () => {
      assert.equal(negotiate(accept, offers, 'fallback'), expected);
    });
  }
});
