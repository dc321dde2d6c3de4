import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import { parseSpec } from '../../../src/daemon/sets/spec.ts';
import type { ImageSetReport, ImageSetUpdate } from '../../../src/protocol/image-set.ts';
import { AMD64, ARM64 } from '../images/fixture.ts';
import { Fixture } from './fixture.ts';
import { Definition } from './own.ts';

const PATH = '/layerd/sets/{name}';

describe('image sets', () => {
  const definition = new Definition();
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
    await api.fill();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  const put = (name: string, spec: object | string) =>
    request(api.url)
      .put(`/v1.56/layerd/sets/${name}`)
      .set('Content-Type', 'application/json')
      .send(typeof spec === 'string' ? spec : JSON.stringify(spec));
  const set = async (name: string): Promise<ImageSetReport> => {
    const { body } = (await request(api.url).get(`/layerd/sets/${name}`).expect(200)) as { body: ImageSetReport };
    definition.check('GET', PATH, 200, body);
    return body;
  };
  const message = (response: request.Response): string => (response.body as { message: string }).message;
  const remove = (name: string, query = '') => request(api.url).delete(`/v1.56/images/${name}${query}`);
  const told = () =>
    api.events.read().flatMap(({ type, action, actor }) => (type === 'imageset' ? [`${action} ${actor}`] : []));

  it('are created, replaced, listed and deleted, each with its event', async () => {
    const created = await put('base', { images: ['redis:7', 'nothing:1'] }).expect(201);
    definition.check('PUT', PATH, 201, created.body);
    const { generation, observedGeneration, conditions, images } = await set('base');
    assert.deepEqual([generation, observedGeneration, conditions], [1, 0, []]);
    assert.deepEqual(
      images.map(({ reference, state }) => [reference, state]),
      [
        ['redis:7', 'present'],
        ['nothing:1', 'missing'],
      ],
    );
    assert.equal(images[0]?.imageId, api.store.store.resolve('redis:7').listedId);

    // The same again is no change.
    definition.check('PUT', PATH, 200, (await put('base', { images: ['redis:7', 'nothing:1'] }).expect(200)).body);
    assert.deepEqual(told(), ['create base']);
    await put('base', { images: [{ reference: 'redis:7', pullPolicy: 'Always', schedule: '0 3 * * *' }] }).expect(200);
    assert.equal((await set('base')).generation, 2);
    const { body: list } = (await request(api.url).get('/layerd/sets').expect(200)) as { body: ImageSetReport[] };
    definition.check('GET', '/layerd/sets', 200, list);
    assert.deepEqual(
      list.map(({ name }) => name),
      ['base'],
    );

    await request(api.url).delete('/layerd/sets/base').expect(204);
    assert.match(message(await request(api.url).delete('/layerd/sets/base').expect(404)), /there is no image set base/);
    assert.match(message(await request(api.url).get('/layerd/sets/base').expect(404)), /there is no image set base/);
    assert.deepEqual(told(), ['create base', 'update base', 'delete base']);
    // Nothing but the set went.
    assert.equal(api.store.store.resolve('redis:7').byId, false);
  });

  it('are refused with the field that is wrong, and then nothing changes', async () => {
    await put('base', { images: ['redis:7'] }).expect(201);
    for (const [name, spec, expected] of [
      ['base', '{"images":[', /it is not JSON/],
      ['base', '{"images":[],"images":["redis:7"]}', /the key "images" is given twice/],
      ['base', '', /it is not JSON/],
      ['base', { images: ['redis:7'], colour: 'red' }, /^field colour: unknown; expected images, platform/],
      ['base', { images: [{ reference: 'redis', platform: 'x/y/z/a' }] }, /^field images\[0\]\.platform: /],
      ['-base', { images: [] }, /no name of an image set: expected 1 to 63 small letters/],
      ['Base', { images: [] }, /no name of an image set/],
      ['a'.repeat(64), { images: [] }, /no name of an image set/],
      ['base', ' '.repeat(1024 * 1024 + 1), /larger than the limit of 1048576 bytes/],
    ] as const) {
      assert.match(message(await put(name, spec).expect(400)), expected);
    }
    const { generation, spec } = await set('base');
    assert.deepEqual([generation, spec], [1, { images: ['redis:7'] }]);
    assert.deepEqual(told(), ['create base']);
  });

  it('that come from a file are changed there alone', async () => {
    const file = '/etc/layerd/image-sets.d/base.json';
    api.sets.put('base', parseSpec({ images: ['redis:7'] }, AMD64), { file });
    const expected = /the image set base comes from the file \/etc\/layerd\/image-sets\.d\/base\.json/;
    assert.match(message(await put('base', { images: [] }).expect(409)), expected);
    assert.match(message(await request(api.url).delete('/layerd/sets/base').expect(409)), expected);
    assert.equal((await set('base')).file, file);
  });

  it('are watched: all of them, then what changes, then that one is gone', async () => {
    await put('one', { images: [] }).expect(201);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(`${api.url}/layerd/sets?watch=1`, resolve).on('error', reject);
    });
    const lines = createInterface({ input: response })[Symbol.asyncIterator]();
    const next = async (): Promise<ImageSetUpdate> => {
      const { value } = (await lines.next()) as { value: string };
      const update = JSON.parse(value) as ImageSetUpdate;
      definition.checkSchema('ImageSetUpdate', update);
      return update;
    };
    assert.equal(response.headers['content-type'], 'application/x-ndjson');
    assert.equal((await next()).name, 'one');
    await put('two', { images: ['redis:7'] }).expect(201);
    assert.equal((await next()).name, 'two');
    api.sets.settle('two');
    const settled = (await next()) as ImageSetReport;
    assert.deepEqual(
      settled.conditions.map(({ status }) => status),
      ['True', 'False', 'False'],
    );
    await request(api.url).delete('/layerd/sets/one').expect(204);
    assert.deepEqual(await next(), { name: 'one', deleted: true });
    response.destroy();
    await once(response, 'close');
  });

  describe('keep their images', () => {
    const held = /conflict: unable to delete .* \(must be forced\) - it is pinned by image set base/;
    beforeEach(() => put('base', { images: ['redis:7'] }).expect(201));

    it('from removal by name and by ID, unless it is forced', async () => {
      const { listedId } = api.store.store.resolve('redis:7');
      for (const name of ['redis:7', listedId, listedId.slice(7, 19)]) {
        assert.match(message(await remove(name).expect(409)), held);
      }
      assert.match(message(await remove('redis:7').expect(409)), /unpin it there, or force it with -f/);
      await remove('redis:7', '?force=1').expect(200);
      assert.equal((await set('base')).images[0]?.state, 'missing');
    });

    it('and let go of other names of theirs', async () => {
      await api.images.tag('redis:7', { registry: 'docker.io', path: 'library/other', tag: '1', digest: undefined });
      await remove('other:1').expect(200);
      assert.match(message(await remove('redis:7').expect(409)), held);
      // Not by its last name alone: it is by this one that the set goes.
      await api.images.tag('redis:7', { registry: 'docker.io', path: 'library/other', tag: '1', digest: undefined });
      assert.match(message(await remove('redis:7').expect(409)), held);
    });

    it('by a digest, while tags of theirs go', async () => {
      const { target } = api.store.store.resolve('redis:7');
      await put('base', { images: [`redis@${target}`] }).expect(200);
      await remove('redis:7').expect(200);
      assert.match(message(await remove(`redis@${target}`).expect(409)), held);
      assert.equal((await set('base')).images[0]?.state, 'present');
    });

    it('from a prune, which says nothing of them', async () => {
      const filters = encodeURIComponent('{"dangling":["false"]}');
      const { body } = (await request(api.url).post(`/images/prune?filters=${filters}`).expect(200)) as {
        body: { ImagesDeleted: { Untagged?: string }[] };
      };
      const { ImagesDeleted: gone } = body;
      const names = gone.flatMap(({ Untagged: name }) => name ?? []);
      assert.ok(names.includes('debian:12'));
      assert.ok(!names.includes('redis:7'));
      assert.equal((await set('base')).images[0]?.state, 'present');
    });

    it('until they are no longer asked for, or another set asks for them too', async () => {
      await put('other', { images: ['redis:7', 'debian:12'] }).expect(201);
      await put('base', { images: [] }).expect(200);
      assert.match(message(await remove('redis:7').expect(409)), /pinned by image set other:/);
      await request(api.url).delete('/layerd/sets/other').expect(204);
      await remove('redis:7').expect(200);
    });

    it('also for a single platform', async () => {
      const { store } = api;
      const [amd, arm] = [
        await store.manifest([store.layer('amd')]),
        await store.manifest([store.layer('arm')], { platform: ARM64 }),
      ];
      store.put('both:1', [amd, arm], { target: await store.index([amd.descriptor, arm.descriptor]) });
      await put('base', { images: [{ reference: 'both:1', platform: 'linux/arm64' }] }).expect(200);
      const platform = (architecture: string) =>
        `?platforms=${encodeURIComponent(JSON.stringify({ os: 'linux', architecture }))}`;
      assert.match(message(await remove('both:1', platform('arm64')).expect(409)), held);
      assert.match(message(await remove(arm.stored.configDigest).expect(409)), held);
      await remove('both:1', platform('amd64')).expect(200);
      assert.equal((await set('base')).images[0]?.state, 'present');
    });
  });

  it('have no part in the events of the Engine API, and are in layerd’s own', async () => {
    await put('base', { images: [] }).expect(201);
    const { text } = await request(api.url).get('/v1.56/events?since=1h&until=0s').buffer(true).expect(200);
    assert.doesNotMatch(text, /imageset/);
  });

  it('are counted by their conditions', async () => {
    await put('base', { images: ['redis:7'] }).expect(201);
    await put('lacking', { images: ['nothing:1'] }).expect(201);
    for (const name of ['base', 'lacking']) api.sets.settle(name);
    const { text } = await request(api.url).get('/metrics').expect(200);
    assert.match(text, /^layerd_image_sets 2$/m);
    assert.match(text, /^layerd_image_set_conditions\{condition="ready"\} 1$/m);
    assert.match(text, /^layerd_image_set_conditions\{condition="progressing"\} 1$/m);
  });
});
