import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import type { PullRequest } from '../../../src/daemon/api/parts.ts';
import { DetachedPulls } from '../../../src/daemon/images/detached.ts';
import { AMD64 } from '../images/fixture.ts';
import type { DemandReport } from '../../../src/protocol/engine.ts';
import { LayerdError, type ErrorKind } from '../../../src/protocol/errors.ts';
import { Fixture } from './fixture.ts';
import { Definition } from './own.ts';

const AUTH = Buffer.from(JSON.stringify({ username: 'ann', password: 'hunter2' })).toString('base64url');
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('detached pulls', () => {
  const definition = new Definition();
  let api: Fixture;
  /** The attempts that were begun. */
  let attempts: { request: PullRequest; end: (error?: Error) => void }[];
  beforeEach(async () => {
    attempts = [];
    api = await Fixture.start();
    api.remote.pull = takeAttempt;
  });
  afterEach(() => api[Symbol.asyncDispose]());

  function takeAttempt(pull: PullRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      pull.signal.addEventListener('abort', () => reject(new LayerdError('cancelled', 'stopped')));
      attempts.push({ request: pull, end: (error) => (error === undefined ? resolve() : reject(error)) });
    });
  }
  const ask = (body: string | object, headers: Record<string, string> = {}): request.Test =>
    request(api.url).post('/layerd/pulls').set('Content-Type', 'application/json').set(headers).send(body);
  const begin = async (body: object, headers?: Record<string, string>): Promise<DemandReport> =>
    (await ask(body, headers).expect(202)).body as DemandReport;
  const get = async (id: string): Promise<DemandReport> =>
    (await request(api.url).get(`/layerd/pulls/${id}`).expect(200)).body as DemandReport;
  const list = async (query = ''): Promise<DemandReport[]> =>
    (await request(api.url).get(`/layerd/pulls${query}`)).body as DemandReport[];
  async function fail(kind: ErrorKind, message: string): Promise<void> {
    attempts.at(-1)?.end(new LayerdError(kind, message));
    await turn();
  }
  /** What a daemon that is started now goes on with. */
  function restarted(): DetachedPulls {
    const { store, events, demands } = api;
    const pulls = new DetachedPulls({
      db: store.db,
      events,
      demands,
      host: AMD64,
      log: { error: () => undefined },
      pull: (pull) => takeAttempt({ ...pull, all: false }),
    });
    pulls.resume();
    return pulls;
  }

  it('are under way when they are answered, and told of when they have ended', async () => {
    const answer = await ask(
      { reference: 'redis', platform: 'linux/aarch64', priority: 5 },
      { 'X-Layerd-Client': 'ci' },
    );
    definition.check('POST', '/layerd/pulls', 202, answer.body);
    const { id, ...report } = answer.body as DemandReport;
    assert.deepEqual([answer.status, answer.headers['location']], [202, `/layerd/pulls/${id}`]);
    assert.deepEqual(
      [report.reference, report.client, report.priority, report.detached, report.state],
      ['redis:latest', 'ci', 5, true, 'running'],
    );
    const { request: asked } = attempts[0] ?? assert.fail('nothing was pulled');
    assert.deepEqual(
      [asked.platform, asked.allPlatforms, asked.client, asked.priority],
      ['linux/arm64', false, 'ci', 5],
    );
    assert.deepEqual(await list(), [await get(id)]);
    attempts[0]?.end();
    await turn();
    const ended = await get(id);
    definition.check('GET', '/layerd/pulls/{id}', 200, ended);
    assert.deepEqual([ended.state, ended.lastError, typeof ended.endedAt], ['done', undefined, 'string']);
    assert.deepEqual([await list(), (await list('?all=1')).map((each) => each.id)], [[], [id]]);
    const [event] = api.events.read();
    assert.deepEqual(
      [event?.type, event?.action, event?.actor, event?.attributes],
      ['image', 'pull-end', 'redis:latest', { name: 'redis', id, result: 'done' }],
    );
  });

  it('are joined by a request for the same, which brings what it has', async () => {
    const first = await begin({ reference: 'redis:7' });
    const second = await begin({ reference: 'docker.io/library/redis:7', priority: 3 }, { 'X-Registry-Auth': AUTH });
    assert.equal(second.id, first.id);
    assert.equal(second.priority, 3);
    for (const other of [{ platform: 'linux/arm64' }, { allPlatforms: true }]) {
      assert.notEqual((await begin({ reference: 'redis:7', ...other })).id, first.id);
    }
    assert.equal(attempts.length, 3);
    // It is refused without, which is no reason to end now: what joined is used at the next attempt.
    attempts[0]?.end(new LayerdError('unavailable', 'the registry does not answer'));
    await turn();
    await begin({ reference: 'redis:7' });
    await turn();
    assert.deepEqual(attempts[3]?.request.credentials, { username: 'ann', password: 'hunter2' });
    attempts[3].end();
    await turn();
    assert.notEqual((await begin({ reference: 'redis:7' })).id, first.id);
  });

  it('are tried again while the registry cannot be reached, and end with any other error', async () => {
    const { id } = await begin({ reference: 'redis:7' });
    for (const kind of ['unavailable', 'too-many-requests'] as const) {
      await fail(kind, `it is ${kind}`);
      const waiting = await get(id);
      definition.checkSchema('Demand', waiting);
      assert.deepEqual([waiting.state, waiting.lastError], ['retrying', `it is ${kind}`]);
      // As its pause would end.
      await begin({ reference: 'redis:7' });
      await turn();
      assert.equal((await get(id)).state, 'running');
    }
    assert.equal(attempts.length, 3);
    await fail('not-found', 'there is no such image');
    const ended = await get(id);
    assert.deepEqual([ended.state, ended.lastError], ['failed', 'there is no such image']);
    assert.deepEqual(api.events.read()[0]?.attributes, {
      name: 'redis',
      id,
      result: 'failed',
      error: 'there is no such image',
    });
  });

  it('are cancelled for good, also while they wait, before that is answered', async () => {
    for (const waits of [false, true]) {
      const { id } = await begin({ reference: 'redis:7' });
      if (waits) await fail('unavailable', 'no answer');
      const { demand } = (attempts.at(-1)?.request ?? {}) as { demand?: { signal: AbortSignal } };
      await request(api.url).delete(`/layerd/pulls/${id}`).expect(204);
      assert.equal(demand?.signal.aborted, true);
      const ended = await get(id);
      assert.deepEqual([ended.state, /cancelled through the API/.test(ended.lastError ?? '')], ['cancelled', true]);
      await request(api.url).delete(`/layerd/pulls/${id}`).expect(404);
      const went = attempts.length;
      await restarted().stop();
      assert.equal(attempts.length, went);
    }
  });

  it('are watched to their end', async () => {
    const { id } = await begin({ reference: 'redis:7' });
    setTimeout(() => attempts[0]?.end(), 50);
    const { text, headers } = await request(api.url).get(`/layerd/pulls/${id}?watch=1`).buffer(true).parse(asText);
    assert.equal(headers['content-type'], 'application/x-ndjson');
    const states = text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as DemandReport).state);
    assert.deepEqual(states, ['running', 'done']);
    await request(api.url).get('/layerd/pulls/nope?watch=1').expect(404);
  });

  it('go on after a restart as they were, but without credentials, which are nowhere on the disk', async () => {
    const wanted = { reference: 'registry.example.com/app:1', allPlatforms: true };
    const { id, since } = await begin(wanted, {
      'X-Registry-Auth': AUTH,
      'X-Layerd-Client': 'ci',
      'X-Layerd-Priority': '7',
    });
    await request(api.url).patch(`/layerd/pulls/${id}`).send({ priority: 9 }).expect(200);
    const [row] = api.store.db.all('SELECT * FROM detached_pull');
    assert.doesNotMatch(JSON.stringify(row), /hunter2|ann/);
    await api.detached.stop();
    assert.equal(api.events.end, 0);
    const pulls = restarted();
    const { request: asked } = attempts[1] ?? assert.fail('it did not go on');
    const shown = [asked.reference.path, asked.allPlatforms, asked.client, asked.priority, asked.credentials];
    assert.deepEqual(shown, ['app', true, 'ci', 9, undefined]);
    assert.deepEqual([pulls.find(id).since, pulls.find(id).detached], [since, true]);
    await fail('forbidden', 'access denied');
    assert.match(pulls.find(id).lastError ?? '', /^access denied; its credentials were kept in memory alone, .* ask/);
    await pulls.stop();
  });

  for (const [body, status, message] of [
    ['nonsense', 400, /does not say what to pull: expected a JSON object with reference/],
    [{}, 400, /field reference: expected a reference such as redis:7/],
    [{ reference: 7 }, 400, /field reference: expected/],
    [{ reference: 'No:' }, 400, /field reference: invalid reference/],
    [{ reference: 'scratch' }, 403, /'scratch' is a reserved name/],
    [{ reference: 'redis', platform: '!' }, 400, /field platform: .* invalid component/],
    [{ reference: 'redis', platform: 1 }, 400, /field platform: expected a platform such as/],
    [{ reference: 'redis', allPlatforms: 1 }, 400, /field allPlatforms: expected true or false/],
    [{ reference: 'redis', allPlatforms: true, platform: 'linux' }, 400, /cannot both be set/],
    [{ reference: 'redis', priority: 101 }, 400, /field priority: expected a whole number/],
    [{ reference: 'redis', tag: '7' }, 400, /field "tag": unknown; expected reference or platform/],
    [{ reference: 'x'.repeat(5000) }, 400, /larger than the limit of 4096 bytes/],
  ] as const) {
    it(`are refused with ${status} as ${JSON.stringify(body).slice(0, 50)}`, async () => {
      const answer = await ask(body);
      assert.equal(answer.status, status);
      assert.match((answer.body as { message: string }).message, message);
      assert.deepEqual([await list('?all=1'), attempts], [[], []]);
    });
  }

  it('are refused while the daemon stops', async () => {
    await api.detached.stop();
    assert.match((await ask({ reference: 'redis' }).expect(503)).text, /shutting down/);
  });
});

/** supertest knows no such type. */
function asText(response: request.Response, done: (error: Error | null, body: unknown) => void): void {
  let text = '';
  const stream = response as unknown as NodeJS.ReadableStream;
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => (text += chunk));
  stream.on('end', () => {
    response.text = text;
    done(null, text);
  });
}
