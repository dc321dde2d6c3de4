import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import type { PruneReport } from '../../../src/protocol/engine.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

describe('POST /images/prune', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function prune(filters?: object, status = 200, version = 'v1.56'): Promise<PruneReport & { message: string }> {
    const query = filters === undefined ? '' : `?filters=${encodeURIComponent(JSON.stringify(filters))}`;
    const target = `/${version}/images/prune${query}`;
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .post(target)
      .buffer(true);
    assert.equal(response.status, status, response.text);
    contract?.check('POST', target, response);
    return JSON.parse(response.text) as PruneReport & { message: string };
  }
  const tags = (): string[] =>
    api.store.store
      .listing()
      .map(({ names }) => names.map(({ reference }) => reference.tag ?? reference.digest ?? '').join())
      .sort();
  const events = (): [string, string, Readonly<Record<string, string>>][] =>
    api.events.read().map(({ action, actor, attributes }) => [action, actor, attributes]);

  it('removes what has no tag, and tells what went and what that freed', async () => {
    const { store } = api;
    const base = store.layer('base');
    const own = store.layer('old');
    const old = await store.image('redis:7', [base, own], { config: { config: { Labels: { team: 'cache' } } } });
    const young = await store.image('redis:7', [base, store.layer('young')]);
    const freed = store.taken([old, young]) - store.taken([young]);
    const [, chainId] = old.stored.layers;
    assert.deepEqual(await prune(), {
      ImagesDeleted: [
        { Untagged: `redis@${old.stored.digest}` },
        { Deleted: old.stored.configDigest },
        { Deleted: chainId?.chainId },
      ],
      SpaceReclaimed: freed,
    });
    assert.deepEqual(tags(), [`7,${young.stored.digest}`]);
    const labels = { team: 'cache', name: old.stored.configDigest };
    assert.deepEqual(events(), [
      ['untag', old.stored.configDigest, labels],
      ['delete', old.stored.configDigest, labels],
      ['prune', '', { reclaimed: String(freed) }],
    ]);
    assert.deepEqual(await prune(), { ImagesDeleted: [], SpaceReclaimed: 0 });
    assert.deepEqual(events().at(-1), ['prune', '', { reclaimed: '0' }]);
  });

  it('removes all images with dangling=false, whatever names they have', async () => {
    await api.fill();
    const rows = (sql: string): unknown[] => api.store.db.all(sql);
    const loose = rows('SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM image_blob)');
    for (const value of ['true', '1']) await prune({ dangling: [value] }, 200, 'v1.25');
    assert.equal(tags().length, 3);
    const { ImagesDeleted } = await prune({ dangling: { false: true } }, 200, 'v1.25');
    assert.ok(ImagesDeleted.some(({ Untagged }) => Untagged === 'localhost:5000/team/app:1.0'));
    assert.deepEqual(tags(), []);
    assert.deepEqual(rows('SELECT digest FROM blob'), loose);
    assert.deepEqual(rows('SELECT * FROM manifest'), []);
  });

  it('removes only what the filters match', async () => {
    const { store } = api;
    store.now = Date.UTC(2025, 0, 2);
    const image = (tag: string, created: string, labels?: Record<string, string>): Promise<unknown> =>
      store.image(`app:${tag}`, [store.layer(tag)], {
        config: { created, config: labels === undefined ? {} : { Labels: labels } },
      });
    await image('ancient', '2001-01-01T00:00:00Z', { keep: 'yes' });
    await image('old', '2020-01-01T00:00:00Z', { keep: 'no' });
    await image('recent', '2025-01-01T12:00:00Z');
    await image('ageless', '');
    const left = (): string[] => tags().map((name) => name.split(',')[0] ?? '');
    await prune({ dangling: ['false'], until: ['24h'], label: ['keep'], 'label!': ['keep=yes'] });
    assert.deepEqual(left(), ['ageless', 'ancient', 'recent']);
    await prune({ dangling: ['false'], until: ['978307200'] });
    assert.deepEqual(left(), ['ageless', 'ancient', 'recent']);
    await prune({ dangling: ['false'], until: ['978307201'] });
    assert.deepEqual(left(), ['ageless', 'recent']);
    await prune({ dangling: ['false'], until: ['2025-01-01T12:00:01Z'] });
    assert.deepEqual(left(), ['ageless']);
  });

  const refused: [string, object | undefined, RegExp][] = [
    ['another filter', { reference: ['a'] }, /^invalid filter 'reference': the filters here are dangling, label/],
    [
      'a time that is none',
      { dangling: ['false'], until: ['soon'] },
      /^failed to parse value as time or duration: "soon"/,
    ],
    ['dangling that is neither', { dangling: ['maybe'] }, /^invalid filter 'dangling=\[maybe\]'/],
    ['dangling that is both', { dangling: ['true', 'false'] }, /^invalid filter 'dangling=/],
    ['filters of another form', ['dangling'], /^invalid filter: filters are JSON/],
  ];
  for (const [what, filters, message] of refused) {
    it(`refuses ${what}, and removes nothing`, async () => {
      await api.fill();
      assert.match((await prune(filters, 400)).message, message);
      assert.equal(tags().length, 4);
      assert.deepEqual(events(), []);
    });
  }

  it('leaves what a transfer, a save or a load under way needs', async () => {
    const { store, archives } = api;
    const app = await store.image('app:1', [store.layer('app')]);
    const lease = archives.leases.acquire('push:app:1');
    lease.add([app.stored.digest]);
    assert.deepEqual(await prune({ dangling: ['false'] }), { ImagesDeleted: [], SpaceReclaimed: 0 });
    lease.release();
    const taken = store.taken([app]);
    assert.equal((await prune({ dangling: ['false'] })).SpaceReclaimed, taken);
  });

  it('takes what interrupted pulls have left, unless they are under way again or a filter is given', async () => {
    const { store, archives } = api;
    const whole = store.layer('whole');
    const begun = store.layer('begun');
    store.db.run('DELETE FROM blob WHERE digest = ?', begun.digest);
    store.layers.remove([begun.diffId]);
    writeFileSync(store.content.ingestPath(begun.digest), Buffer.alloc(5000));
    const interrupt = (): void => {
      const lease = archives.leases.acquire('pull:app:1:');
      lease.add([whole.digest, begun.digest, store.layer('shared').digest]);
      lease.keep();
    };
    interrupt();
    await store.image('other:1', [store.layer('shared')]);
    await prune({ until: ['1s'] });
    await prune({ label: ['some'] });
    const again = archives.leases.acquire('pull:app:1:');
    assert.deepEqual(await prune(), { ImagesDeleted: [], SpaceReclaimed: 0 });
    assert.ok(store.content.has(whole.digest));
    again.keep();
    const { ImagesDeleted, SpaceReclaimed } = await prune();
    assert.deepEqual(new Set(ImagesDeleted.map(({ Deleted }) => Deleted)), new Set([whole.digest, begun.digest]));
    assert.equal(SpaceReclaimed, 4096 + whole.imageSize + 8192);
    assert.equal(store.content.ingestSize(begun.digest), 0);
    assert.equal(tags().length, 1);
  });

  describe('of many images', () => {
    beforeEach(async () => {
      for (let count = 0; count < 80; count += 1) {
        await api.store.image(`app:${count}`, [api.store.layer(`layer ${count}`)]);
      }
    });
    const all = new Map([['dangling', ['false']]]);
    const { signal } = new AbortController();

    it('lets other requests in between, and keeps what is pulled meanwhile', async () => {
      const pruning = api.images.prune(all, signal);
      const between = api.store.store.listing();
      assert.ok(between.length < 80 && between.length > 1, `${between.length} left after the first turn`);
      const last = between.at(-1)?.names.find(({ reference }) => reference.tag !== undefined);
      assert.ok(last !== undefined);
      // As a pull does that finds everything here already.
      const found = api.store.store.resolve(last.target);
      api.store.store.put({
        target: { digest: found.target, mediaType: found.mediaType, size: found.bytes },
        manifests: [],
        blobs: [],
        repository: 'docker.io/library/app',
        tag: last.reference.tag,
        byDigest: true,
        imageId: found.id,
        manifest: found.manifest,
      });
      await pruning;
      assert.deepEqual(
        api.store.store.listing().map(({ target }) => target),
        [last.target],
      );
    });

    it('is refused while another prune is running', async () => {
      const pruning = api.images.prune(all, signal);
      await assert.rejects(api.images.prune(all, signal), {
        kind: 'conflict',
        message: /^a prune operation is already running/,
      });
      await pruning;
      await api.images.prune(all, signal);
    });

    it('ends early when its client goes away, with an event of what it has done', async () => {
      const abort = new AbortController();
      const pruning = api.images.prune(all, abort.signal);
      abort.abort();
      const { SpaceReclaimed } = await pruning;
      assert.ok(SpaceReclaimed > 0);
      assert.ok(tags().length > 0);
      assert.deepEqual(events().at(-1), ['prune', '', { reclaimed: String(SpaceReclaimed) }]);
    });
  });
});
