import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import type { LimitsReport } from '../../../src/protocol/engine.ts';
import { Fixture } from './fixture.ts';
import { Definition } from './own.ts';

const INITIAL: LimitsReport = {
  downloads: { concurrency: 3, registries: {}, bandwidth: [] },
  uploads: { concurrency: 5, registries: { 'registry.example.com': 2 }, bandwidth: ['5m'] },
};

describe('limits', () => {
  const definition = new Definition();
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  const patch = (body: string | object) =>
    request(api.url).patch('/layerd/limits').set('Content-Type', 'application/merge-patch+json').send(body);

  it('are told', async () => {
    const answer = await request(api.url).get('/layerd/limits');
    const [status, body] = [answer.status, answer.body as LimitsReport];
    assert.equal(status, 200);
    definition.check('GET', '/layerd/limits', 200, body);
    assert.deepEqual(body, INITIAL);
  });

  it('are changed one by one, taken away by null, and that is an event', async () => {
    const bandwidth = ['20m', 'registry.example.com:5000=1000', '2m@22:00-06:30'];
    const registries = { '*': 4, 'index.docker.io': 1 };
    const answer = await patch({ downloads: { concurrency: 7, registries, bandwidth } });
    const [status, body] = [answer.status, answer.body as LimitsReport];
    assert.equal(status, 200);
    definition.check('PATCH', '/layerd/limits', 200, body);
    const downloads = { concurrency: 7, registries: { '*': 4, 'docker.io': 1 }, bandwidth };
    assert.deepEqual(body, { ...INITIAL, downloads });
    assert.deepEqual((await request(api.url).get('/layerd/limits')).body, body);
    const [event] = api.events.read();
    assert.deepEqual([event?.type, event?.action], ['daemon', 'limit']);
    assert.deepEqual(event?.attributes, {
      'downloads.concurrency': '7',
      'downloads.registries': '{"*":4,"docker.io":1}',
      'downloads.bandwidth': JSON.stringify(bandwidth),
    });
    const less = await patch({ downloads: { registries: { '*': null, absent: null }, bandwidth: null } });
    assert.deepEqual((less.body as LimitsReport).downloads, {
      concurrency: 7,
      registries: { 'docker.io': 1 },
      bandwidth: [],
    });
    const none = await patch({ uploads: { registries: null } });
    assert.deepEqual((none.body as LimitsReport).uploads.registries, {});
  });

  it('stay, without an event, where nothing differs', async () => {
    for (const same of [{}, { downloads: {} }, { uploads: { concurrency: 5 } }]) {
      assert.deepEqual((await patch(same)).body, INITIAL);
    }
    assert.equal(api.events.end, 0);
  });

  for (const [body, message] of [
    ['nonsense', /expected a JSON object with downloads or uploads/],
    ['[]', /expected a JSON object with downloads or uploads/],
    [{ up: {} }, /field "up": unknown; expected downloads or uploads/],
    [{ downloads: null }, /field downloads: expected an object/],
    [{ downloads: { speed: 1 } }, /field "downloads.speed": unknown; expected concurrency or registries or bandwidth/],
    [{ downloads: { concurrency: 0 } }, /field downloads.concurrency: "0" must be a whole number from 1 to 1000/],
    [{ downloads: { concurrency: null } }, /field downloads.concurrency: "null" must be/],
    [{ downloads: { registries: [] } }, /field downloads.registries: expected an object/],
    [{ downloads: { registries: { 'https://x/y': 1 } } }, /field downloads.registries: .* must be the host of a reg/],
    [{ downloads: { registries: { 'a.example': 0 } } }, /field downloads.registries.a.example: "0" must be a whole/],
    [{ downloads: { bandwidth: '5m' } }, /field downloads.bandwidth: expected a list/],
    [{ uploads: { bandwidth: ['5m', 'x@8'] } }, /field uploads.bandwidth\[1\]: .* must be like 20m/],
    [{ uploads: { bandwidth: [5] } }, /field uploads.bandwidth\[0\]: "5" must be a text/],
    [{ downloads: { concurrency: 9 }, uploads: { concurrency: 'x' } }, /field uploads.concurrency/],
    ['x'.repeat(70_000), /larger than the limit of 65536 bytes/],
  ] as const) {
    const shown = (typeof body === 'string' ? body : JSON.stringify(body)).slice(0, 60);
    it(`are left as they are by ${shown}`, async () => {
      const answer = await patch(body);
      assert.equal(answer.status, 400);
      assert.match((answer.body as { message: string }).message, message);
      assert.deepEqual((await request(api.url).get('/layerd/limits')).body, INITIAL);
      assert.equal(api.events.end, 0);
    });
  }
});
