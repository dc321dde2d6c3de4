import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import type { PullRequest } from '../../../src/daemon/api/parts.ts';
import type { TransferControl } from '../../../src/daemon/transfers/queue.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import type { DemandReport, TransferReport } from '../../../src/protocol/engine.ts';
import { Fixture } from './fixture.ts';
import { Definition } from './own.ts';

const DIGEST: Digest = `sha256:${'a'.repeat(64)}`;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('transfers', () => {
  const definition = new Definition();
  let api: Fixture;
  let runs: { control: TransferControl; end: () => void }[];
  beforeEach(async () => {
    runs = [];
    api = await Fixture.start();
    api.download = (_request, _source, control) =>
      new Promise((resolve, reject) => {
        control.signal.addEventListener('abort', () => setImmediate(() => reject(new Error('aborted'))));
        runs.push({ control, end: resolve });
      });
  });
  afterEach(() => api[Symbol.asyncDispose]());

  const begin = (priority?: number) => {
    const demand = api.demands.begin({ verb: 'pull', reference: 'redis:7', client: 'ann', priority });
    const wanted = { digest: DIGEST, size: 1000, remaining: 900, kind: 'layer' } as const;
    return { demand, interest: api.downloads.join(wanted, 'docker.io/library/redis', demand) };
  };
  const list = async (): Promise<TransferReport[]> => (await request(api.url).get('/layerd/transfers')).body as never;
  const pulls = async (): Promise<DemandReport[]> => (await request(api.url).get('/layerd/pulls')).body as never;

  it('are listed with who wants them, and pulls with their transfers', async () => {
    assert.deepEqual([await list(), await pulls()], [[], []]);
    using demand = begin(7).demand;
    await turn();
    runs[0]?.control.update({ received: 500, attempts: 1, host: 'mirror.example.com' });
    const [transfers, demands] = [await list(), await pulls()];
    definition.check('GET', '/layerd/transfers', 200, transfers);
    definition.check('GET', '/layerd/pulls', 200, demands);
    const [transfer] = transfers;
    assert.equal(transfer?.state, 'downloading');
    assert.deepEqual([transfer.received, transfer.size, transfer.priority], [500, 1000, 7]);
    assert.deepEqual(
      transfer.wantedBy.map(({ id, reference, client }) => [id, reference, client]),
      [[demand.id, 'redis:7', 'ann']],
    );
    const [pull] = demands;
    assert.deepEqual([pull?.id, pull?.received, pull?.size, pull?.priority], [demand.id, 500, 1000, 7]);
    assert.deepEqual(pull?.transfers, [{ digest: DIGEST, state: 'downloading' }]);
  });

  it('are watched line by line, to the last of each', async () => {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(`${api.url}/layerd/transfers?watch=1`, resolve).on('error', reject);
    });
    assert.equal(response.headers['content-type'], 'application/x-ndjson');
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const { interest } = begin();
    await turn();
    runs[0]?.control.update({ received: 600 });
    runs[0]?.end();
    await interest.done;
    while (!text.includes('"done"')) await once(response, 'data');
    const updates = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as TransferReport);
    for (const update of updates) definition.checkSchema('TransferUpdate', update);
    const last = updates.at(-1);
    assert.deepEqual([last?.digest, last?.state, last?.received], [DIGEST, 'done', 600]);
    api.transfers.close();
    await once(response, 'end');
  });

  it('are on behalf of the client that a header names, or else of the program, with the priority that it asks for', async () => {
    let asked: PullRequest | undefined;
    api.remote.pull = (pull) => {
      asked = pull;
      return Promise.resolve();
    };
    const pull = (headers: Record<string, string>): request.Test =>
      request(api.url).post('/images/create?fromImage=redis&tag=7').set(headers);
    await pull({ 'X-Layerd-Client': 'ci/job-7', 'X-Layerd-Priority': '-5' }).expect(200);
    assert.deepEqual([asked?.client, asked?.priority], ['ci/job-7', -5]);
    await pull({ 'User-Agent': 'Docker-Client/28.2.2 (linux)' }).expect(200);
    assert.deepEqual([asked?.client, asked?.priority], ['127.0.0.1 Docker-Client/28.2.2 (linux)', undefined]);
    asked = undefined;
    for (const [header, value] of [
      ['X-Layerd-Priority', '101'],
      ['X-Layerd-Priority', 'high'],
      ['X-Layerd-Priority', '1.5'],
      ['X-Layerd-Client', 'a b'],
      ['X-Layerd-Client', 'x'.repeat(65)],
    ] as const) {
      const { text } = await pull({ [header]: value }).expect(400);
      assert.match(text, new RegExp(`header ${header}: .*expected`));
    }
    assert.equal(asked, undefined);
  });

  describe('can be steered', () => {
    const path = `/layerd/transfers/${DIGEST}`;

    it('to pause, go on, and go before others', async () => {
      const { interest } = begin();
      await turn();
      const paused = await request(api.url).patch(path).send({ paused: true, priority: 9 }).expect(200);
      definition.check('PATCH', '/layerd/transfers/{digest}', 200, paused.body);
      const [report] = paused.body as TransferReport[];
      assert.deepEqual([report?.state, report?.priority], ['paused', 9]);
      assert.equal(runs[0]?.control.signal.aborted, true);
      await request(api.url).patch(path).send({ paused: false }).expect(200);
      await turn();
      runs[1]?.end();
      await interest.done;
    });

    it('to end for all who wait', async () => {
      const { interest } = begin();
      await turn();
      const ended = assert.rejects(interest.done, { kind: 'cancelled', message: /redis:7.*cancelled through the API/ });
      await request(api.url).delete(path).expect(204);
      await ended;
      assert.deepEqual(await list(), []);
    });

    it('by pull', async () => {
      const { demand } = begin();
      const answer = await request(api.url).patch(`/layerd/pulls/${demand.id}`).send({ priority: -3 }).expect(200);
      definition.check('PATCH', '/layerd/pulls/{id}', 200, answer.body);
      assert.equal((await list())[0]?.priority, -3);
      await request(api.url).delete(`/layerd/pulls/${demand.id}`).expect(204);
      assert.equal(demand.signal.aborted, true);
      for (const method of ['patch', 'delete'] as const) {
        const { text } = await request(api.url)[method]('/layerd/pulls/nope').send({ priority: 1 }).expect(404);
        assert.match(text, /no pull, push or copy nope is under way/);
      }
    });

    it('only by what there is, and not at all by half', async () => {
      begin();
      const pulled = `/layerd/pulls/${api.demands.all()[0]?.id ?? ''}`;
      for (const [target, body, said] of [
        [path, { paused: true, priority: 101 }, /field priority: expected a whole number from -100 to 100/],
        [path, { paused: true, priority: '5' }, /field priority/],
        [path, { paused: 'yes', priority: 5 }, /field paused: expected true or false/],
        [path, { paused: true, speed: 5 }, /speed.*: unknown; expected priority or paused/],
        [path, {}, /expected a JSON object with priority or paused/],
        [path, [], /expected a JSON object/],
        [pulled, { paused: true }, /paused.*: unknown; expected priority/],
        [pulled, { priority: 1.5 }, /field priority/],
        ['/layerd/transfers/sha256:12', { paused: true }, /is no digest/],
      ] as const) {
        const { text } = await request(api.url).patch(target).send(body).expect(400);
        assert.match(text, said);
      }
      await request(api.url).patch(path).set('Content-Type', 'application/json').send('{"paused":').expect(400);
      await request(api.url)
        .patch(path)
        .send({ paused: 'x'.repeat(5000) })
        .expect(400);
      await request(api.url).delete('/layerd/transfers/sha256:12').expect(400);
      const [report] = await list();
      assert.deepEqual([report?.state, report?.priority], ['downloading', 0]);
      const other = `/layerd/transfers/sha256:${'b'.repeat(64)}`;
      assert.match(
        (await request(api.url).patch(other).send({ paused: true }).expect(404)).text,
        /no transfer of sha256/,
      );
      await request(api.url).delete(other).expect(404);
    });
  });
});
