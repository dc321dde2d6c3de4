import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import type { DiskUsage, ImageSummary, UsageReport } from '../../../src/protocol/engine.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const NOTHING = { ActiveCount: 0, TotalCount: 0, TotalSize: 0, Reclaimable: 0 };

/** What versions before 1.52 answer. */
interface OlderUsage {
  readonly LayersSize?: number;
  readonly Images?: (ImageSummary & { VirtualSize?: number })[];
  readonly BuildCache?: unknown[];
}

describe('GET /system/df', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function get<T = DiskUsage & OlderUsage>(target: string, status = 200): Promise<T> {
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .get(target)
      .buffer(true);
    assert.equal(response.status, status, response.text);
    if (!target.includes('/layerd/')) contract?.check('GET', target, response);
    return JSON.parse(response.text) as T;
  }

  /** Two images that share a layer, and what they take together. */
  async function fill(): Promise<{ total: number; own: number[]; shared: number }> {
    const { store } = api;
    const base = store.layer('base');
    const one = await store.image('app:1', [base, store.layer('one', { size: 50_000 })]);
    const two = await store.image('app:2', [base, store.layer('two')]);
    const total = store.taken([one, two]);
    const shared = store.taken([one]) + store.taken([two]) - total;
    return { total, shared, own: [store.taken([one]) - shared, store.taken([two]) - shared].sort((a, b) => a - b) };
  }
  const unique = (images: readonly ImageSummary[] = []): number[] =>
    images.map(({ Size, SharedSize }) => Size - SharedSize).sort((a, b) => a - b);

  it('tells zeros of an empty store', async () => {
    const totals = {
      ImageUsage: NOTHING,
      ContainerUsage: NOTHING,
      VolumeUsage: NOTHING,
      BuildCacheUsage: NOTHING,
    };
    assert.deepEqual(await get('/v1.56/system/df?verbose=0'), totals);
    assert.deepEqual(await get('/v1.56/system/df?verbose=true'), totals);
    const lists = { LayersSize: 0, Images: [], Containers: [], Volumes: [], BuildCache: [] };
    assert.deepEqual(await get('/v1.51/system/df'), lists);
    assert.deepEqual(await get('/v1.41/system/df'), { ...lists, BuilderSize: 0 });
    assert.deepEqual(await get('/v1.52/system/df'), { ...totals, ...lists });
  });

  it('counts what images share once, and says of each what is its own', async () => {
    const { total, own, shared } = await fill();
    const usage = { ActiveCount: 0, TotalCount: 2, TotalSize: total, Reclaimable: total };
    assert.deepEqual((await get('/system/df?verbose=false')).ImageUsage, usage);
    const { ImageUsage, Images } = await get('/system/df?verbose=1');
    assert.equal(Images, undefined);
    assert.deepEqual({ ...ImageUsage, Items: undefined }, { ...usage, Items: undefined });
    assert.deepEqual(unique(ImageUsage?.Items), own);
    assert.deepEqual(
      ImageUsage?.Items?.map(({ SharedSize, Containers }) => [SharedSize, Containers]),
      Array(2).fill([shared, 0]),
    );
    for (const version of ['1.25', '1.41', '1.50']) {
      const older = await get(`/v${version}/system/df?verbose=maybe`);
      assert.equal(older.LayersSize, total);
      assert.deepEqual(unique(older.Images), own);
      assert.deepEqual(
        older.Images?.map((image) => [image.Containers, image.VirtualSize === image.Size]),
        Array(2).fill([0, version !== '1.50']),
      );
      assert.equal(older.ImageUsage, undefined);
    }
    // What was told is not told again once it has changed.
    await api.images.prune(new Map([['dangling', ['false']]]), new AbortController().signal);
    assert.deepEqual((await get('/system/df?verbose=1')).ImageUsage, NOTHING);
  });

  it('tells of the types that are asked for', async () => {
    await fill();
    assert.deepEqual(Object.keys(await get('/v1.50/system/df?type=image')), ['LayersSize', 'Images']);
    assert.deepEqual(Object.keys(await get('/v1.50/system/df?type=volume&type=build-cache')), [
      'Volumes',
      'BuildCache',
    ]);
    assert.deepEqual(Object.keys(await get('/v1.56/system/df?type=container&verbose=1')), ['ContainerUsage']);
    assert.deepEqual(Object.keys(await get('/v1.41/system/df?type=image')).length, 6);
  });

  it('refuses other types, and verbose that is neither', async () => {
    const refused: [string, RegExp][] = [
      ['type=network', /^unknown object type: "network"; expected image, container, volume, build-cache$/],
      ['type=image&type=', /^unknown object type: ""/],
      ['verbose=yes', /^invalid value for verbose: "yes"; expected true or false$/],
    ];
    for (const [query, message] of refused) {
      assert.match((await get<{ message: string }>(`/v1.56/system/df?${query}`, 400)).message, message);
    }
  });

  it('counts what no image has yet: under way it cannot be reclaimed, interrupted it can', async () => {
    const { total } = await fill();
    const { store, archives } = api;
    const whole = store.layer('whole');
    const begun = store.layer('begun');
    store.db.run('DELETE FROM blob WHERE digest = ?', begun.digest);
    store.layers.remove([begun.diffId]);
    const files = [
      store.content.ingestPath(begun.digest),
      store.content.stagingPath(),
      store.layers.temporaryPath(begun.digest),
    ];
    for (const file of files) writeFileSync(file, Buffer.alloc(5000, 1));
    const wholeBytes = 4096 + whole.imageSize;
    const lease = archives.leases.acquire('pull:app:3:');
    lease.add([whole.digest, begun.digest, store.layer('base').digest]);

    const size = wholeBytes + 3 * 8192;
    assert.deepEqual(await get<UsageReport>('/layerd/usage'), {
      images: { count: 2, size: total },
      interrupted: { count: 0, size: 0 },
      underWay: { count: 1, size },
    });
    const { ImageUsage } = await get('/v1.56/system/df?verbose=0');
    assert.deepEqual(ImageUsage, { ActiveCount: 0, TotalCount: 2, TotalSize: total + size, Reclaimable: total });

    lease.keep();
    assert.deepEqual(await get<UsageReport>('/layerd/usage'), {
      images: { count: 2, size: total },
      interrupted: { count: 1, size: wholeBytes + 8192 },
      underWay: { count: 0, size: 2 * 8192 },
    });
    assert.equal((await get('/v1.56/system/df?verbose=0')).ImageUsage?.Reclaimable, total + wholeBytes + 8192);
  });
});
