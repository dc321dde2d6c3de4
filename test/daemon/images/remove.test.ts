import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { existsSync } from 'node:fs';
import { hexOf, shortId, type Digest } from '../../../src/protocol/digest.ts';
import type { DeleteItem } from '../../../src/protocol/engine.ts';
import { attestedDigests } from '../../../src/daemon/images/manifest-summary.ts';
import { listImages } from '../../../src/daemon/images/list.ts';
import { ARM64, Fixture, type TestLayer, type TestManifest } from './fixture.ts';

const digestName = (name: string, { stored }: TestManifest): string => `${name}@${stored.digest}`;

/** The lines of an image that goes with these of its layers, top first. */
const deleted = ({ stored }: TestManifest, layers: readonly TestLayer[]): DeleteItem[] => [
  { Deleted: stored.configDigest },
  ...stored.layers
    .filter(({ diffId }) => layers.some((layer) => layer.diffId === diffId))
    .map(({ chainId }) => ({ Deleted: chainId ?? '' }))
    .reverse(),
];

const untagged = (...names: string[]): DeleteItem[] => names.map((name) => ({ Untagged: name }));

/** Checks that the store holds exactly the images, and the blobs and layers that they need. */
async function assertHolds(fixture: Fixture, ...images: readonly TestManifest[]): Promise<void> {
  const list = await listImages(fixture.store);
  assert.deepEqual(list.map((image) => image.Id).sort(), images.map(({ stored }) => stored.configDigest).sort());
  const sorted = (sql: string): Digest[] =>
    fixture.db
      .all<{ digest: Digest }>(sql)
      .map((row) => row.digest)
      .sort();
  const blobs = new Set(images.flatMap((image) => image.blobs));
  const trees = new Set(images.flatMap(({ stored }) => stored.layers.flatMap((layer) => layer.diffId ?? [])));
  assert.deepEqual(sorted('SELECT digest FROM blob'), [...blobs].sort());
  assert.deepEqual(sorted('SELECT diff_id AS digest FROM layer'), [...trees].sort());
  assert.deepEqual(sorted('SELECT digest FROM manifest'), images.map(({ stored }) => stored.digest).sort());
}

const events = (fixture: Fixture): string[] => fixture.events.map(({ action, actor }) => `${action} ${actor}`);

describe('removing an image', () => {
  it('by its only tag removes it, its digest and what nothing else holds', async () => {
    using fixture = new Fixture();
    const [base, own, top] = [fixture.layer('base'), fixture.layer('own'), fixture.layer('top')];
    const kept = await fixture.image('other', [base]);
    const image = await fixture.image('redis:7', [base, own, top], { config: { config: { Labels: { a: 'b' } } } });
    const id = image.stored.configDigest;
    assert.deepEqual(fixture.remover.remove('redis:7'), [
      ...untagged('redis:7', digestName('redis', image)),
      ...deleted(image, [own, top]),
    ]);
    await assertHolds(fixture, kept);
    assert.deepEqual(fixture.events, [
      { type: 'image', action: 'untag', actor: id, attributes: { a: 'b', name: id } },
      { type: 'image', action: 'delete', actor: id, attributes: { a: 'b', name: id } },
    ]);
    assert.ok(!existsSync(fixture.content.path(id)));
    assert.throws(() => fixture.remover.remove('redis:7'), { kind: 'not-found', message: 'No such image: redis:7' });
  });

  it('by one of its tags takes that alone away', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    fixture.put('redis:latest', [image]);
    fixture.put('reg.io/redis:7', [image]);
    assert.deepEqual(fixture.remover.remove('redis'), untagged('redis:latest'));
    // With the last tag of the repository its digest goes too.
    assert.deepEqual(fixture.remover.remove('redis:7'), untagged('redis:7', digestName('redis', image)));
    await assertHolds(fixture, image);
    const [listed] = await listImages(fixture.store);
    assert.deepEqual(listed?.RepoTags, ['reg.io/redis:7']);
    assert.deepEqual(listed.RepoDigests, [digestName('reg.io/redis', image)]);
    assert.deepEqual(events(fixture), Array(2).fill(`untag ${image.stored.configDigest}`));
  });

  it('by its digest in a repository takes that alone away', async () => {
    using fixture = new Fixture();
    const layer = fixture.layer('a');
    const image = await fixture.image('redis:7', [layer]);
    const name = digestName('redis', image);
    assert.deepEqual(fixture.remover.remove(name), untagged(name));
    await assertHolds(fixture, image);
    assert.deepEqual(fixture.remover.remove('redis:7'), [...untagged('redis:7'), ...deleted(image, [layer])]);
    await assertHolds(fixture);
  });

  it('by tag and digest is by the digest', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    const name = digestName('redis:whatever', image);
    assert.deepEqual(fixture.remover.remove(name), untagged(name));
    assert.deepEqual((await listImages(fixture.store))[0]?.RepoTags, ['redis:7']);
  });

  it('by identifier removes all names in one repository', async () => {
    for (const identify of [
      ({ stored }: TestManifest) => stored.configDigest,
      ({ stored }: TestManifest) => hexOf(stored.configDigest).slice(0, 12),
      ({ stored }: TestManifest) => stored.digest,
    ]) {
      using fixture = new Fixture();
      const layer = fixture.layer('a');
      const image = await fixture.image('redis:7', [layer]);
      assert.deepEqual(fixture.remover.remove(identify(image)), [
        ...untagged('redis:7', digestName('redis', image)),
        ...deleted(image, [layer]),
      ]);
      assert.deepEqual(events(fixture), [
        `untag ${image.stored.configDigest}`,
        `untag ${image.stored.configDigest}`,
        `delete ${image.stored.configDigest}`,
      ]);
      await assertHolds(fixture);
    }
  });

  it('by identifier is refused while several names are left, unless it is forced', async () => {
    for (const other of ['redis:latest', 'reg.io/redis:7']) {
      using fixture = new Fixture();
      const layer = fixture.layer('a');
      const image = await fixture.image('redis:7', [layer]);
      fixture.put(other, [image]);
      const id = image.stored.configDigest;
      assert.throws(() => fixture.remover.remove(id), {
        kind: 'conflict',
        message: `conflict: unable to delete ${shortId(id)} (must be forced) - image is referenced in multiple repositories`,
      });
      await assertHolds(fixture, image);
      assert.deepEqual(fixture.events, []);
      const done = fixture.remover.remove(id, { force: true });
      const names = ['redis:7', digestName('redis', image), other];
      if (other !== 'redis:latest') names.push(digestName('reg.io/redis', image));
      assert.deepEqual(new Set(done.flatMap((item) => item.Untagged ?? [])), new Set(names));
      assert.deepEqual(done.slice(-2), deleted(image, [layer]));
      await assertHolds(fixture);
    }
  });

  it('by its tag does not remove it though forced while other tags are left', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    fixture.put('redis:8', [image]);
    assert.deepEqual(fixture.remover.remove('redis:7', { force: true }), untagged('redis:7'));
    await assertHolds(fixture, image);
  });

  it('without a name is by identifier', async () => {
    using fixture = new Fixture();
    const layer = fixture.layer('a');
    const image = await fixture.manifest([layer]);
    fixture.put('app', [image], { byDigest: false });
    const young = await fixture.manifest([fixture.layer('b')]);
    fixture.put('app', [young], { byDigest: false });
    assert.deepEqual(fixture.remover.remove(image.stored.configDigest), deleted(image, [layer]));
    await assertHolds(fixture, young);
    assert.deepEqual(events(fixture), [`delete ${image.stored.configDigest}`]);
  });

  it('that a tag left, by identifier, takes the digest that is left', async () => {
    using fixture = new Fixture();
    const [old, young] = [fixture.layer('old'), fixture.layer('young')];
    const image = await fixture.image('redis:7', [old]);
    const next = await fixture.image('redis:7', [young]);
    assert.deepEqual(fixture.remover.remove(shortId(image.stored.configDigest)), [
      ...untagged(digestName('redis', image)),
      ...deleted(image, [old]),
    ]);
    await assertHolds(fixture, next);
  });

  it('that several indexes hold removes all of them with the last name', async () => {
    using fixture = new Fixture();
    const layer = fixture.layer('a');
    const image = await fixture.manifest([layer]);
    const first = await fixture.index([image.descriptor]);
    const second = await fixture.index([image.descriptor], { rebuilt: 'yes' });
    fixture.put('redis:7', [image], { target: first });
    fixture.put('redis:7', [image], { target: second });
    const digests = [`redis@${first.digest}`, `redis@${second.digest}`].sort();
    assert.deepEqual(fixture.remover.remove('redis:7'), [
      ...untagged('redis:7', ...digests),
      ...deleted(image, [layer]),
    ]);
    await assertHolds(fixture);
  });

  it('keeps of several indexes those that still have a name', async () => {
    using fixture = new Fixture();
    const image = await fixture.manifest([fixture.layer('a')]);
    const first = await fixture.index([image.descriptor]);
    const second = await fixture.index([image.descriptor], { rebuilt: 'yes' });
    fixture.put('redis:7', [image], { target: first });
    fixture.put('mirror:7', [image], { target: second });
    assert.deepEqual(fixture.remover.remove('redis:7'), untagged('redis:7', `redis@${first.digest}`));
    assert.ok(!fixture.content.has(first.digest));
    assert.ok(fixture.content.has(second.digest));
    assert.equal(fixture.store.resolve('mirror:7').id, image.stored.configDigest);
  });

  it('leaves what a pull has in a lease, and does not claim it was deleted', async () => {
    using fixture = new Fixture();
    const [leased, free] = [fixture.layer('leased'), fixture.layer('free')];
    const image = await fixture.image('redis:7', [leased, free]);
    fixture.db.run(`INSERT INTO lease (id, expires_at) VALUES ('pull', 1)`);
    fixture.db.run(`INSERT INTO lease_content (lease, digest) VALUES ('pull', ?)`, leased.digest);
    assert.deepEqual(fixture.remover.remove('redis:7').slice(2), deleted(image, [free]));
    assert.ok(fixture.content.has(leased.digest));
  });

  it('names a layer that repeats in it once for each place', async () => {
    using fixture = new Fixture();
    const [empty, own] = [fixture.layer('empty'), fixture.layer('own')];
    const image = await fixture.image('redis:7', [empty, own, empty]);
    const done = fixture.remover.remove('redis:7').slice(2);
    assert.equal(done.length, 4);
    assert.deepEqual(done, deleted(image, [empty, own]));
  });

  it('keeps a layer whose other compression another image holds', async () => {
    using fixture = new Fixture();
    const [gzip, zstd] = [fixture.layer('a'), fixture.layer('a', { compression: 'zstd' })];
    const image = await fixture.image('gzip', [gzip], { config: { author: 'gzip' } });
    const other = await fixture.image('zstd', [zstd], { config: { author: 'zstd' } });
    assert.deepEqual(fixture.remover.remove('gzip').slice(2), deleted(image, []));
    assert.ok(!fixture.content.has(gzip.digest));
    await assertHolds(fixture, other);
  });

  it('is all or nothing', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    assert.throws(
      () =>
        fixture.db.transaction(() => {
          fixture.remover.remove('redis:7');
          throw new Error('the disk is full');
        }),
      /the disk is full/,
    );
    await assertHolds(fixture, image);
    assert.ok(existsSync(fixture.content.path(image.stored.configDigest)));
  });
});

describe('removing platforms of an image', () => {
  const setUp = async (
    fixture: Fixture,
  ): Promise<Record<'amd64' | 'arm64', TestManifest> & { layers: TestLayer[] }> => {
    const [base, one, other] = [fixture.layer('base'), fixture.layer('amd64'), fixture.layer('arm64')];
    const amd64 = await fixture.manifest([base, one]);
    const arm64 = await fixture.manifest([base, other], { platform: ARM64 });
    const attestation = await fixture.attestation(amd64);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor, attestation.descriptor]);
    fixture.put('redis', [amd64, arm64, attestation], { target });
    return { amd64, arm64, layers: [base, one, other] };
  };

  it('leaves the others', async () => {
    using fixture = new Fixture();
    const { amd64, arm64, layers } = await setUp(fixture);
    const [base, one, other] = layers;
    const done = fixture.remover.remove('redis', { platforms: [amd64.descriptor.platform ?? ARM64] });
    assert.deepEqual(done, deleted(amd64, one === undefined ? [] : [one]));
    assert.equal(fixture.store.resolve('redis').id, arm64.stored.configDigest);
    const kept = fixture.db.all<{ diff_id: string }>('SELECT diff_id FROM layer').map((row) => row.diff_id);
    assert.deepEqual(kept.sort(), [base?.diffId, other?.diffId].sort());
    assert.ok(!fixture.content.has(amd64.stored.digest));
    assert.deepEqual(events(fixture), [`delete ${amd64.stored.configDigest}`]);
  });

  it('takes what attests to a platform with it, and nothing that attests to others', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const about = await fixture.attestation(amd64);
    const other = await fixture.attestation(arm64);
    const all = [amd64, arm64, about, other] as const;
    const target = await fixture.index(all.map(({ descriptor }) => descriptor));
    fixture.put('redis', all, { target });
    const attested = await attestedDigests(fixture.store, [target.digest]);
    assert.deepEqual(
      [...attested],
      [
        [about.stored.digest, new Set([amd64.stored.digest])],
        [other.stored.digest, new Set([arm64.stored.digest])],
      ],
    );
    const done = fixture.remover.remove('redis', { platforms: [{ os: 'linux', architecture: 'amd64' }], attested });
    assert.deepEqual(done[0], { Deleted: amd64.stored.configDigest });
    const kept = fixture.store.manifests(target.digest).map(({ digest }) => digest);
    assert.deepEqual(kept, [arm64.stored.digest, other.stored.digest].sort());
    // Their configs are one blob.
    const own = about.blobs.filter((blob) => !other.blobs.includes(blob));
    assert.equal(own.length, 2);
    for (const blob of own) assert.ok(!fixture.content.has(blob));
    for (const blob of other.blobs) assert.ok(fixture.content.has(blob));
  });

  it('leaves what attests to one that stays, too', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const shared = await fixture.attestation(amd64);
    const annotations = { ...shared.descriptor.annotations, 'vnd.docker.reference.digest': arm64.stored.digest };
    const descriptors = [amd64, arm64, shared].map(({ descriptor }) => descriptor);
    const target = await fixture.index([...descriptors, { ...shared.descriptor, annotations }]);
    fixture.put('redis', [amd64, arm64, shared], { target });
    const attested = await attestedDigests(fixture.store, [target.digest]);
    fixture.remover.remove('redis', { platforms: [{ os: 'linux', architecture: 'amd64' }], attested });
    const kept = fixture.store.manifests(target.digest).map(({ digest }) => digest);
    assert.deepEqual(kept, [arm64.stored.digest, shared.stored.digest].sort());
  });

  it('removes the image with the last of them', async () => {
    using fixture = new Fixture();
    const { amd64 } = await setUp(fixture);
    const done = fixture.remover.remove('redis', {
      platforms: [
        { os: 'linux', architecture: 'amd64' },
        { os: 'linux', architecture: 'arm64' },
      ],
    });
    assert.deepEqual(done[0], { Untagged: 'redis:latest' });
    assert.deepEqual(done[2], { Deleted: amd64.stored.configDigest });
    assert.equal(done.length, 2 + 1 + 3);
    assert.deepEqual(await listImages(fixture.store), []);
    assert.deepEqual(fixture.db.all('SELECT * FROM blob'), []);
  });

  it('refuses one that is not stored, and removes none then', async () => {
    using fixture = new Fixture();
    const { amd64 } = await setUp(fixture);
    const platforms = [amd64.descriptor.platform ?? ARM64, { os: 'linux', architecture: 's390x' }];
    assert.throws(() => fixture.remover.remove('redis', { platforms }), { kind: 'not-found', message: /s390x/ });
    assert.equal(fixture.store.resolve('redis').id, amd64.stored.configDigest);
  });

  it('by an identifier of one of them leaves the others', async () => {
    for (const identify of [
      ({ stored }: TestManifest) => stored.configDigest,
      ({ stored }: TestManifest) => hexOf(stored.configDigest).slice(0, 12),
      ({ stored }: TestManifest) => stored.digest,
    ]) {
      using fixture = new Fixture();
      const { amd64, arm64, layers } = await setUp(fixture);
      const [base, one, other] = layers;
      assert.deepEqual(fixture.remover.remove(identify(arm64)), deleted(arm64, other === undefined ? [] : [other]));
      assert.deepEqual((await listImages(fixture.store))[0]?.RepoTags, ['redis:latest']);
      assert.equal(fixture.store.resolve('redis').id, amd64.stored.configDigest);
      const kept = fixture.db.all<{ diff_id: string }>('SELECT diff_id FROM layer').map((row) => row.diff_id);
      assert.deepEqual(kept.sort(), [base?.diffId, one?.diffId].sort());
      assert.ok(!fixture.content.has(arm64.stored.digest));
      assert.deepEqual(events(fixture), [`delete ${arm64.stored.configDigest}`]);
      // What is left is the whole image.
      assert.deepEqual(fixture.remover.remove(amd64.stored.digest)[0], { Untagged: 'redis:latest' });
      assert.deepEqual(fixture.db.all('SELECT * FROM blob'), []);
    }
  });

  it('by the ID that the image is listed under removes all of it', async () => {
    using fixture = new Fixture();
    const { amd64 } = await setUp(fixture);
    assert.deepEqual(fixture.remover.remove(amd64.stored.configDigest)[0], { Untagged: 'redis:latest' });
    assert.deepEqual(fixture.db.all('SELECT * FROM blob'), []);
  });

  it('removes them from all indexes that are one image to the user', async () => {
    for (const options of [{ platforms: [ARM64] }, {}]) {
      using fixture = new Fixture();
      const { amd64, arm64 } = await setUp(fixture);
      const second = await fixture.index([amd64.descriptor, arm64.descriptor]);
      fixture.put('redis:second', [amd64, arm64], { target: second });
      fixture.remover.remove(options.platforms === undefined ? arm64.stored.configDigest : 'redis', options);
      assert.ok(!fixture.content.has(arm64.stored.digest));
      const [image, ...others] = await listImages(fixture.store, { manifests: true });
      assert.deepEqual(others, []);
      assert.deepEqual(image?.RepoTags, ['redis:latest', 'redis:second']);
      assert.deepEqual(
        image.Manifests?.filter(({ Available, Kind }) => Available && Kind === 'image').map(({ ID }) => ID),
        [amd64.stored.digest],
      );
    }
  });

  it('by an identifier is refused where it is part of several images, and says how to remove it', async () => {
    using fixture = new Fixture();
    const { arm64 } = await setUp(fixture);
    const other = await fixture.manifest([fixture.layer('other')]);
    const target = await fixture.index([other.descriptor, arm64.descriptor]);
    fixture.put('other:1', [other, arm64], { target });
    const id = arm64.stored.configDigest;
    for (const force of [false, true]) {
      assert.throws(() => fixture.remover.remove(id, { force }), {
        kind: 'conflict',
        message: new RegExp(
          `^conflict: unable to delete ${id} - it is part of several images \\((other:1, redis:latest|redis:latest, other:1)\\): remove it from each by name, such as docker rmi --platform linux/arm64/v8 (other:1|redis:latest)$`,
        ),
      });
    }
    assert.deepEqual(fixture.events, []);
    fixture.remover.remove('other:1', { platforms: [ARM64] });
    fixture.remover.remove('redis', { platforms: [ARM64] });
    assert.ok(!fixture.content.has(arm64.stored.digest));
  });

  it('by an identifier is refused where it is all that another index has', async () => {
    using fixture = new Fixture();
    const { amd64, arm64 } = await setUp(fixture);
    fixture.put('alone:1', [amd64], { target: await fixture.index([amd64.descriptor]) });
    const refused = {
      kind: 'conflict',
      message: /\(redis:latest, alone:1\).* docker rmi --platform linux\/amd64 redis:latest$/,
    };
    assert.throws(() => fixture.remover.remove(hexOf(amd64.stored.digest).slice(0, 12)), refused);
    const platforms = [{ os: 'linux', architecture: 'amd64' }];
    assert.throws(() => fixture.remover.remove(amd64.stored.configDigest, { platforms }), refused);
    fixture.remover.remove('redis', { platforms });
    assert.equal(fixture.store.resolve('alone:1').id, amd64.stored.configDigest);
    assert.ok(fixture.content.has(amd64.stored.digest));

    const other = await fixture.manifest([], { platform: { os: 'linux', architecture: 's390x' } });
    const target = await fixture.index([amd64.descriptor, arm64.descriptor, other.descriptor]);
    fixture.put('three:1', [amd64, arm64, other], { target });
    assert.throws(() => fixture.remover.remove(amd64.stored.configDigest, { platforms: [ARM64, ...platforms] }), {
      kind: 'conflict',
      message: / docker rmi --platform linux\/arm64\/v8 --platform linux\/amd64 three:1$/,
    });
  });
});
