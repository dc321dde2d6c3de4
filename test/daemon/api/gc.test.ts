import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import { GcSchedule } from '../../../src/daemon/images/gc/schedule.ts';
import type { GcReport } from '../../../src/protocol/engine.ts';
import type { TestLayer, TestManifest } from '../images/fixture.ts';
import { Fixture } from './fixture.ts';
import { Definition } from './own.ts';

const definition = new Definition();
const MINUTE = 60_000;
const NOW = Date.UTC(2026, 0, 2);
const CAPACITY = 1_000_000;
const { signal } = new AbortController();

describe('POST /layerd/gc', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
    api.disk = { capacity: CAPACITY, available: 100_000 };
    api.store.now = NOW;
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function gc(query: string, status = 200): Promise<GcReport & { message: string }> {
    const socket = `http+unix://${encodeURIComponent(api.socket)}`;
    const response = await request(socket).post(`/layerd/gc?${query}`).buffer(true);
    assert.equal(response.status, status, response.text);
    const body = JSON.parse(response.text) as GcReport & { message: string };
    if (status === 200) definition.check('POST', '/layerd/gc', status, body);
    return body;
  }
  /** An image that was last used so many minutes ago. */
  async function used(name: string, minutes: number, layers?: readonly TestLayer[]): Promise<TestManifest> {
    api.store.now = NOW - minutes * MINUTE;
    const image = await api.store.image(name, layers ?? [api.store.layer(name)]);
    api.store.now = NOW;
    return image;
  }
  const tags = (): string[] =>
    api.store.store
      .listing()
      .flatMap(({ tags }) => tags)
      .sort();
  const names = (images: readonly { names: string[]; reason: string }[]): [string, string][] =>
    images.map(({ names: [name = ''], reason }) => [name, reason]);
  const events = (): [string, Readonly<Record<string, string>>][] =>
    api.events.read().map(({ action, attributes }) => [action, attributes]);

  it('removes the least recently used down to the low threshold, and tells what went and what stayed', async () => {
    const second = await used('app:2', 20);
    const first = await used('app:1', 30);
    await used('app:3', 10);
    const bytes = [api.store.taken([first]), api.store.taken([second])] as const;
    const report = await gc('high=90&low=87');
    assert.deepEqual(report, {
      dryRun: false,
      before: { capacity: CAPACITY, available: 100_000, percent: 90 },
      after: { capacity: CAPACITY, available: 100_000 + bytes[0] + bytes[1], percent: 85 },
      wanted: 30_000,
      reclaimed: bytes[0] + bytes[1],
      missing: 0,
      removed: [
        {
          id: first.stored.configDigest,
          names: ['app:1'],
          lastUsed: '2026-01-01T23:30:00.000Z',
          bytes: bytes[0],
          reason: 'least-recently-used',
        },
        {
          id: second.stored.configDigest,
          names: ['app:2'],
          lastUsed: '2026-01-01T23:40:00.000Z',
          bytes: bytes[1],
          reason: 'least-recently-used',
        },
      ],
      kept: report.kept,
      interrupted: 0,
    });
    assert.deepEqual(names(report.kept), [['app:3', 'enough']]);
    assert.deepEqual(tags(), ['app:3']);
    const reclaimed = String(bytes[0] + bytes[1]);
    assert.deepEqual(events().at(-1), ['gc', { trigger: 'request', removed: '2', reclaimed, use: '90' }]);
    assert.deepEqual(
      events()
        .map(([action]) => action)
        .slice(-2),
      ['delete', 'gc'],
    );
    assert.match(api.metrics.expose('text/plain'), /^layerd_image_gc_removed_images_total\{trigger="request"\} 2$/m);
    const [line] = api.lines.filter(({ level }) => level === 'info');
    assert.deepEqual(
      [line?.message, line?.fields['image'], line?.fields['reason']],
      ['removed an image to free space', 'app:1', 'least-recently-used'],
    );
  });

  it('foresees in a dry run what a run does, and changes nothing', async () => {
    const shared = api.store.layer('shared');
    const gone = api.store.layer('same tree');
    const other = api.store.layer('same tree', { compression: 'zstd' });
    await used('app:1', 50, [shared, api.store.layer('1')]);
    await used('app:2', 40, [shared, gone]);
    await used('app:3', 30, [other]);
    await used('app:4', 20, [shared]);
    await used('young:1', 1, [api.store.layer('1')]);
    for (const query of ['low=89', 'low=0']) {
      const before = api.store.db.all('SELECT * FROM blob');
      const foreseen = await gc(`dryRun=1&${query}`);
      assert.deepEqual(api.store.db.all('SELECT * FROM blob'), before);
      assert.ok(foreseen.removed.length > 0);
      const done = await gc(query);
      assert.deepEqual({ ...foreseen, dryRun: false }, done);
    }
    assert.deepEqual(tags(), ['young:1']);
    assert.equal(events().filter(([action]) => action === 'gc').length, 2);
  });

  it('does nothing below the high threshold, and says so', async () => {
    await used('app:1', 30);
    const report = await gc('high=91&low=50');
    assert.deepEqual([report.wanted, report.reclaimed, names(report.kept)], [0, 0, [['app:1', 'enough']]]);
    assert.deepEqual(tags(), ['app:1']);
  });

  it('takes what has no tag first, and what interrupted pulls have kept last', async () => {
    await used('app:1', 40);
    await used('old:1', 20);
    // Another image of the name, so that this one loses it.
    await used('old:1', 10, [api.store.layer('newer')]);
    const begun = api.store.layer('begun');
    api.store.db.run('DELETE FROM blob WHERE digest = ?', begun.digest);
    api.store.layers.remove([begun.diffId]);
    writeFileSync(api.store.content.ingestPath(begun.digest), Buffer.alloc(5000));
    const lease = api.archives.leases.acquire('pull:app:9:');
    lease.add([begun.digest]);
    lease.keep();
    const once = await gc('low=89');
    assert.deepEqual(
      once.removed.map(({ reason }) => reason),
      ['dangling'],
    );
    assert.equal(once.interrupted, 0);
    const foreseen = await gc('dryRun=true&low=0');
    assert.equal(foreseen.interrupted, 8192);
    const all = await gc('low=0');
    assert.deepEqual(names(all.removed), [
      ['app:1', 'least-recently-used'],
      ['old:1', 'least-recently-used'],
    ]);
    assert.equal(all.interrupted, 8192);
    assert.equal(api.store.content.ingestSize(begun.digest), 0);
    assert.equal(all.missing, 900_000 - all.reclaimed);
    assert.equal(events().at(-1)?.[1]['missing'], String(all.missing));
  });

  it('keeps what is held, in use, young, stood on or known to no registry, and says why', async () => {
    const held = await used('held:1', 50);
    api.holders.set(held.stored.configDigest, ['image set base']);
    const pushed = await used('pushed:1', 50);
    api.archives.leases.acquire('push:pushed:1').add([pushed.stored.digest]);
    await used('young:1', 1);
    const below = await used('below:1', 60);
    const child = await used('child:1', 1);
    api.store.store.setParent(child.stored.configDigest, below.stored.configDigest);
    const local = await api.store.manifest([api.store.layer('local')]);
    api.store.now = NOW - 50 * MINUTE;
    api.store.put('local:1', [local], { byDigest: false });
    api.store.now = NOW;
    await used('goes:1', 50);
    const kept = [
      ['below:1', 'parent'],
      ['child:1', 'young'],
      ['held:1', 'held'],
      ['local:1', 'local'],
      ['pushed:1', 'in-use'],
      ['young:1', 'young'],
    ];
    for (const query of ['dryRun=1&low=0', 'low=0']) {
      const report = await gc(query);
      assert.deepEqual(names(report.removed), [['goes:1', 'least-recently-used']]);
      assert.deepEqual(names(report.kept).sort(), kept);
      assert.deepEqual(report.kept.find(({ reason }) => reason === 'held')?.holders, ['image set base']);
    }
    assert.deepEqual(names((await gc('low=0&local=1')).removed), [['local:1', 'least-recently-used']]);
    const rest = await gc('low=0&minimumAge=0s');
    assert.deepEqual(names(rest.removed).sort(), [
      ['child:1', 'least-recently-used'],
      ['young:1', 'least-recently-used'],
    ]);
    assert.deepEqual(tags(), ['below:1', 'held:1', 'pushed:1']);
  });

  it('removes what was not used for longer than the maximum age, however much is free', async () => {
    await used('ancient:1', 3 * 60);
    await used('old:1', 100);
    const held = await used('held:1', 3 * 60);
    api.holders.set(held.stored.configDigest, ['image set base']);
    for (const query of ['dryRun=1&maximumAge=2h', 'maximumAge=2h']) {
      const report = await gc(query);
      assert.deepEqual(names(report.removed), [['ancient:1', 'maximum-age']]);
      assert.deepEqual(names(report.kept), [
        ['held:1', 'held'],
        ['old:1', 'enough'],
      ]);
    }
    assert.deepEqual(tags(), ['held:1', 'old:1']);
  });

  it('collects until so much is free', async () => {
    for (const minutes of [10, 20, 30]) await used(`app:${minutes}`, minutes);
    assert.equal((await gc('free=100000')).removed.length, 0);
    const report = await gc('free=100001');
    assert.deepEqual([report.wanted, names(report.removed)], [1, [['app:30', 'least-recently-used']]]);
    assert.ok(report.reclaimed > 4096 && report.missing === 0);
  });

  it('counts a pull, a load, a tag and a save as use, and no list or inspection', async () => {
    const image = await used('app:1', 30);
    await used('app:2', 20);
    const least = async (): Promise<string | undefined> => (await gc('dryRun=1&low=89')).removed[0]?.names[0];
    await api.images.inspect('app:1', { manifests: false });
    await api.images.list({});
    assert.equal(await least(), 'app:1');
    const uses = [
      () => api.store.put('app:1', [image]),
      async () => api.images.tag('app:1', { registry: 'docker.io', path: 'library/app', tag: 'x', digest: undefined }),
    ];
    for (const [index, use] of uses.entries()) {
      api.store.now = NOW - (15 - index) * MINUTE;
      await use();
      const lastUsed = new Date(api.store.now).toISOString();
      api.store.now = NOW;
      assert.equal(await least(), 'app:2');
      const { kept } = await gc('dryRun=1&low=89');
      assert.ok(kept.some((each) => each.id === image.stored.configDigest && each.lastUsed === lastUsed));
    }
  });

  describe('of many images', () => {
    beforeEach(async () => {
      for (let count = 0; count < 40; count += 1) await used(`app:${count}`, 60 - count);
    });

    it('lets other requests in between, and keeps what is pulled meanwhile', async () => {
      const last = api.store.store.resolve('app:39');
      const collecting = api.gc.collect({ dryRun: false, free: 2 ** 40, signal });
      for (let left = 40; left === 40; left = api.store.store.count()) await new Promise(setImmediate);
      const between = api.store.store.count();
      assert.ok(between > 1, `${between} left after the first turn`);
      api.store.store.db.transaction(() => api.store.store.tag('docker.io/library/app', '39', last.target));
      await collecting;
      assert.deepEqual(tags(), ['app:39']);
    });

    it('is refused while another one is running', async () => {
      const collecting = api.gc.collect({ dryRun: false, free: 2 ** 40, signal });
      await assert.rejects(api.gc.collect({ dryRun: false, free: 2 ** 40, signal }), {
        kind: 'conflict',
        message: /^a collection of images is already running/,
      });
      await api.gc.collect({ dryRun: true, free: 2 ** 40, signal });
      await collecting;
      await api.gc.collect({ dryRun: false, free: 2 ** 40, signal });
    });

    it('ends early when its client goes away, with an event of what it has done', async () => {
      const abort = new AbortController();
      const collecting = api.gc.collect({ dryRun: false, free: 2 ** 40, signal: abort.signal });
      for (let left = 40; left === 40; left = api.store.store.count()) await new Promise(setImmediate);
      abort.abort();
      const { removed, reclaimed } = await collecting;
      assert.equal(tags().length, 40 - removed.length);
      const attributes = {
        trigger: 'request',
        removed: String(removed.length),
        reclaimed: String(reclaimed),
        use: '90',
      };
      assert.deepEqual(events().at(-1), ['gc', attributes]);
    });
  });

  const refused: [string, RegExp][] = [
    ['', /^nothing says how far to go: no thresholds are configured \(image-gc-high-threshold\)/],
    ['high=101', /^parameter high: "101" is outside the range of \[0, 100\]/],
    ['low=x', /^parameter low: "x"/],
    ['high=80&low=81', /^the low threshold 81 is above the high threshold 80/],
    ['free=-1', /^parameter free: "-1"/],
    ['free=1&high=80', /^conflicting options: free and thresholds/],
    ['low=0&minimumAge=2', /^parameter minimumAge: "2" is no span of time/],
    ['maximumAge=-2h', /^parameter maximumAge: "-2h" is no span of time/],
    ['maximumAge=1m', /^the maximum age is not above the minimum age/],
  ];
  for (const [query, message] of refused) {
    it(`refuses ${JSON.stringify(query)}, and removes nothing`, async () => {
      await used('app:1', 30);
      assert.match((await gc(query, 400)).message, message);
      assert.deepEqual(tags(), ['app:1']);
      assert.deepEqual(events(), []);
    });
  }

  describe('as it is configured', () => {
    const policy = { lowThreshold: 88, minimumAge: 2 * MINUTE, maximumAge: undefined, localImages: false };

    const collected = async (): Promise<void> => {
      while (api.gc.isRunning) await new Promise(setImmediate);
    };

    it('takes from the configuration what nobody says', async () => {
      await used('app:1', 30);
      api.gc.policy = { ...policy, highThreshold: 90 };
      assert.equal((await gc('dryRun=1')).wanted, 20_000);
      assert.equal((await gc('dryRun=1&high=91')).wanted, 0);
      assert.equal((await gc('dryRun=1&high=80')).wanted, 150_000);
      assert.equal((await gc('dryRun=1&low=70')).wanted, 200_000);
    });

    it('collects by itself from the high threshold on, and tells once that it came short', async (t) => {
      const schedule = new GcSchedule(api.gc, {
        error: (message) => api.lines.push({ level: 'error', message, fields: {} }),
      });
      t.after(() => schedule.stop());
      const told = (): number =>
        api.lines.filter(({ message }) => /no more images that may be removed/.test(message)).length;
      await used('app:1', 30);
      schedule.start();
      await collected();
      schedule.policy = { ...policy, highThreshold: 91 };
      await collected();
      assert.deepEqual([tags(), events()], [['app:1'], []]);

      schedule.policy = { ...policy, highThreshold: 90 };
      await collected();
      assert.deepEqual(tags(), []);
      assert.deepEqual(events().at(-1)?.[0], 'gc');
      assert.equal(events().at(-1)?.[1]['trigger'], 'high-threshold');
      assert.equal(told(), 0);

      // The disk of the fixture is as full as before.
      api.disk = { capacity: CAPACITY, available: 99_000 };
      schedule.check();
      await collected();
      assert.equal(told(), 1);
      const count = events().length;
      await api.gc.collectByItself(signal);
      assert.deepEqual([told(), events().length], [1, count]);
      assert.match(
        api.metrics.expose('text/plain'),
        /^layerd_image_gc_runs_total\{trigger="high-threshold",result="short"\} 2$/m,
      );

      await used('app:2', 30);
      schedule.check();
      assert.equal(api.gc.isRunning, false, 'it waits before it tries again');
      schedule.policy = { ...policy, highThreshold: 90 };
      await collected();
      assert.deepEqual(tags(), []);
    });

    it('collects by itself what is beyond the maximum age', async (t) => {
      const schedule = new GcSchedule(api.gc, { error: () => undefined });
      t.after(() => schedule.stop());
      await used('old:1', 121);
      await used('app:1', 119);
      schedule.policy = { ...policy, highThreshold: undefined, lowThreshold: undefined, maximumAge: 120 * MINUTE };
      await collected();
      assert.deepEqual(tags(), ['app:1']);
      assert.equal(events().at(-1)?.[1]['trigger'], 'maximum-age');
    });

    it('says what went wrong, and goes on later', async (t) => {
      const schedule = new GcSchedule(api.gc, {
        error: (message) => api.lines.push({ level: 'error', message, fields: {} }),
      });
      t.after(() => schedule.stop());
      await used('app:1', 30);
      api.gc.policy = { ...policy, highThreshold: 90 };
      api.store.db.run(`CREATE TEMP TRIGGER broken BEFORE DELETE ON image BEGIN SELECT RAISE(ABORT, 'broken'); END`);
      schedule.start();
      await collected();
      await schedule.stop();
      assert.match(api.lines.at(-1)?.message ?? '', /^images could not be collected: .*broken/);
      assert.deepEqual(tags(), ['app:1']);
      assert.match(
        api.metrics.expose('text/plain'),
        /^layerd_image_gc_runs_total\{trigger="high-threshold",result="failed"\} 1$/m,
      );
    });
  });
});
