import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import request from 'supertest';
import { check, ping } from '../../../src/daemon/health/checks.ts';
import { Health } from '../../../src/daemon/health/health.ts';
import { Fixture } from './fixture.ts';

describe('the health endpoints', () => {
  let api: Fixture;
  let isFull = false;
  before(async () => {
    const reserve = check('reserve', () => {
      if (isFull) throw new Error('the disk is\nfull');
    });
    const mounts = check('layer-mounts', () => 'loop devices');
    let now = 0;
    const options = { now: () => (now += 1000) };
    const [livez, readyz] = [new Health([ping]), new Health([ping, reserve, mounts], options)];
    api = await Fixture.start({ health: { livez, readyz } });
  });
  after(() => api[Symbol.asyncDispose]());

  const get = async (path: string): Promise<[number, string]> => {
    const { status, text } = await request(api.url).get(path);
    return [status, text];
  };

  it('say ok, with and without a version', async () => {
    for (const path of ['/livez', '/readyz', '/v1.56/livez', '/livez/ping', '/readyz/reserve', '/v1.24/readyz/ping']) {
      assert.deepEqual(await get(path), [200, 'ok'], path);
      const head = await request(api.url).head(path).expect(200);
      assert.match(head.headers['content-type'] ?? '', /^text\/plain/);
      assert.equal(head.headers['cache-control'], 'no-cache, no-store');
    }
  });

  it('name each check when asked to, without those that are excluded', async () => {
    assert.deepEqual(await get('/readyz?verbose'), [
      200,
      '[+]ping ok\n[+]reserve ok\n[+]layer-mounts ok: loop devices\nreadyz check passed\n',
    ]);
    assert.deepEqual(await get('/readyz/layer-mounts?verbose'), [200, '[+]layer-mounts ok: loop devices\n']);
    assert.deepEqual(await get('/readyz?verbose&exclude=reserve&exclude=gone'), [
      200,
      '[+]ping ok\n[+]reserve excluded: ok\n[+]layer-mounts ok: loop devices\n' +
        'warn: some health checks cannot be excluded: no matches for "gone"\nreadyz check passed\n',
    ]);
  });

  it('say which check failed and why', async () => {
    isFull = true;
    try {
      assert.deepEqual(await get('/readyz'), [
        503,
        '[+]ping ok\n[-]reserve failed: the disk is full\n[+]layer-mounts ok: loop devices\nreadyz check failed\n',
      ]);
      await request(api.url).head('/readyz').expect(503);
      assert.deepEqual(await get('/readyz/reserve'), [503, '[-]reserve failed: the disk is full\n']);
      assert.deepEqual(await get('/readyz/ping'), [200, 'ok']);
      assert.deepEqual(await get('/readyz?exclude=reserve'), [200, 'ok']);
      assert.deepEqual(await get('/livez'), [200, 'ok']);
    } finally {
      isFull = false;
    }
  });

  it('refuse a check that there is not, and other methods', async () => {
    const refusal = await request(api.url).get('/readyz/nothing').expect(404);
    assert.deepEqual(refusal.body, {
      message: 'no check "nothing" in /readyz; expected one of: ping, reserve, layer-mounts',
    });
    await request(api.url).head('/readyz/nothing').expect(404);
    await request(api.url).post('/livez').expect(404);
    await request(api.url).get('/livez/').expect(404);
    await request(api.url).get('/Livez').expect(404);
  });
});
