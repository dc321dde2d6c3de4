import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hexOf, type Digest } from '../../../src/protocol/digest.ts';
import { repoDigests, repoTags } from '../../../src/daemon/images/name.ts';
import { AMD64, ARM64, Fixture, type TestManifest } from './fixture.ts';

/** An index of an amd64 and an arm64 image of which `stored` are pulled. */
async function multiPlatform(fixture: Fixture): Promise<{ amd64: TestManifest; arm64: TestManifest }> {
  const base = fixture.layer('base');
  const amd64 = await fixture.manifest([base, fixture.layer('amd64')]);
  const arm64 = await fixture.manifest([base, fixture.layer('arm64')], { platform: ARM64 });
  return { amd64, arm64 };
}

describe('an image', () => {
  it('is found by whatever its user calls it', async () => {
    using fixture = new Fixture();
    const { amd64, arm64 } = await multiPlatform(fixture);
    const attestation = await fixture.attestation(amd64);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor, attestation.descriptor]);
    fixture.put('redis:7', [amd64, arm64, attestation], { target });
    fixture.put('redis', [amd64, arm64, attestation], { target });
    const id = amd64.stored.configDigest;
    for (const name of [
      'redis',
      'redis:7',
      'library/redis:7',
      'docker.io/library/redis:7',
      `redis@${target.digest}`,
      `redis:other@${target.digest}`,
      id,
      hexOf(id),
      hexOf(id).slice(0, 12),
      `sha256:${hexOf(id).slice(0, 20)}`,
      target.digest,
      hexOf(target.digest).slice(0, 30),
      amd64.stored.digest,
      hexOf(amd64.stored.digest).slice(0, 30),
    ]) {
      const found = fixture.store.resolve(name);
      assert.equal(found.target, target.digest, name);
      assert.equal(found.id, id, name);
      assert.equal(found.listedId, id, name);
      assert.equal(found.manifest, amd64.stored.digest, name);
      assert.equal(found.bytes, target.size);
      assert.equal(found.byId, !name.includes('redis'), name);
    }
    for (const name of [arm64.stored.digest, arm64.stored.configDigest, hexOf(arm64.stored.configDigest)]) {
      const found = fixture.store.resolve(name);
      assert.equal(found.id, arm64.stored.configDigest, 'another platform of it goes by its own identifiers');
      assert.equal(found.manifest, arm64.stored.digest);
      assert.equal(found.listedId, id);
    }
  });

  it('that is not there is told of as dockerd does', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    const missing: Digest = `sha256:${'0'.repeat(64)}`;
    const cases: [string, string][] = [
      ['nginx', 'No such image: nginx:latest'],
      ['redis', 'No such image: redis:latest'],
      ['docker.io/library/redis:8', 'No such image: redis:8'],
      ['localhost:5000/redis:7', 'No such image: localhost:5000/redis:7'],
      [missing, `No such image: ${missing}`],
      [hexOf(missing), `No such image: ${missing}`],
      [`other@${image.stored.digest}`, `No such image: other@${image.stored.digest}`],
    ];
    for (const [name, message] of cases) {
      assert.throws(() => fixture.store.resolve(name), { kind: 'not-found', message }, name);
    }
    assert.throws(() => fixture.store.resolve('REDIS'), { kind: 'invalid' });
    assert.throws(() => fixture.store.resolve(`redis@sha512:${'0'.repeat(128)}`), { kind: 'invalid' });
  });

  it('is not found by the start of an identifier that several have', async () => {
    using fixture = new Fixture();
    // Seventeen image IDs cannot all begin with another digit.
    const ids: Digest[] = [];
    for (let number = 0; number < 17; number += 1) {
      ids.push((await fixture.image(`repo${number}`, [fixture.layer(`layer ${number}`)])).stored.configDigest);
    }
    const starts = ids.map((id) => hexOf(id).slice(0, 1));
    const shared = starts.find((start, index) => starts.indexOf(start) < index) ?? '';
    assert.throws(() => fixture.store.resolve(shared), { kind: 'not-found', message: /^No such image: .*give more/ });
    for (const [number, id] of ids.entries()) {
      assert.equal(fixture.store.resolve(hexOf(id).slice(0, 16)).id, id);
      assert.equal(fixture.store.resolve(`repo${number}`).id, id);
    }
  });

  it('is found by its name before its identifier', async () => {
    using fixture = new Fixture();
    const one = await fixture.image('one', [fixture.layer('one')]);
    const start = hexOf(one.stored.configDigest).slice(0, 8);
    assert.equal(fixture.store.resolve(start).id, one.stored.configDigest);
    const other = await fixture.image(start, [fixture.layer('other')]);
    assert.equal(fixture.store.resolve(start).id, other.stored.configDigest);
  });

  it('is found for a platform, if it is stored for that', async () => {
    using fixture = new Fixture();
    const { amd64, arm64 } = await multiPlatform(fixture);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    fixture.put('redis', [amd64], { target });
    const wanted = { os: 'linux', architecture: 'arm64' };
    assert.throws(() => fixture.store.resolve('redis', wanted), {
      kind: 'not-found',
      message:
        'image with reference redis was found but does not provide the specified platform (linux/arm64); ' +
        'stored of it is linux/amd64',
    });
    fixture.put('redis', [arm64], { target });
    assert.equal(fixture.store.resolve('redis', wanted).id, arm64.stored.configDigest);
    assert.equal(fixture.store.resolve('redis', AMD64).id, amd64.stored.configDigest);
    assert.throws(() => fixture.store.resolve('redis', { os: 'linux', architecture: '386' }), { kind: 'not-found' });
  });

  it('stands for the platform of the host once that is stored', async () => {
    using fixture = new Fixture();
    const { amd64, arm64 } = await multiPlatform(fixture);
    const target = await fixture.index([arm64.descriptor, amd64.descriptor]);
    fixture.put('redis', [arm64], { target });
    assert.equal(fixture.store.resolve('redis').id, arm64.stored.configDigest);
    fixture.put('redis', [amd64], { target });
    assert.equal(fixture.store.resolve('redis').id, amd64.stored.configDigest);
    fixture.put('redis', [arm64], { target });
    assert.equal(fixture.store.resolve('redis').id, amd64.stored.configDigest);
  });

  it('tells what writing it changed', async () => {
    using fixture = new Fixture();
    const { amd64, arm64 } = await multiPlatform(fixture);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    const first = await fixture.manifest([fixture.layer('first')]);
    assert.deepEqual(fixture.put('redis:7', [first]), { previous: undefined, changed: true });
    assert.deepEqual(fixture.put('redis:7', [first]), { previous: first.stored.digest, changed: false });
    assert.deepEqual(fixture.put('redis:8', [first]), { previous: undefined, changed: true }, 'a tag is new');
    assert.deepEqual(fixture.put('redis:7', [amd64], { target }), { previous: first.stored.digest, changed: true });
    assert.deepEqual(fixture.put('redis:7', [amd64], { target }), { previous: target.digest, changed: false });
    assert.deepEqual(fixture.put('redis:7', [arm64], { target }), { previous: target.digest, changed: true });
    const byDigest = `redis@${target.digest}`;
    assert.deepEqual(fixture.put(byDigest, [amd64], { target }), { previous: undefined, changed: false });
    assert.deepEqual(fixture.put(`other@${target.digest}`, [amd64], { target }), {
      previous: undefined,
      changed: true,
    });
  });

  it('keeps the digest of its repository when its tag moves on', async () => {
    using fixture = new Fixture();
    const old = await fixture.image('redis:7', [fixture.layer('old')]);
    const young = await fixture.image('redis:7', [fixture.layer('young')]);
    const oldNames = fixture.store.names(old.stored.configDigest);
    assert.deepEqual(repoTags(oldNames), []);
    assert.deepEqual(repoDigests(oldNames), [`redis@${old.stored.digest}`]);
    assert.deepEqual(repoTags(fixture.store.names(young.stored.configDigest)), ['redis:7']);
    assert.equal(fixture.store.resolve(`redis@${old.stored.digest}`).id, old.stored.configDigest);
  });

  it('that is an artifact goes by the digest of its manifest', async () => {
    using fixture = new Fixture();
    const manifest = await fixture.manifest([]);
    const artifact = { ...manifest, stored: { ...manifest.stored, kind: 'artifact' as const, platform: undefined } };
    fixture.put('chart:1', [artifact]);
    const found = fixture.store.resolve('chart:1');
    assert.equal(found.id, artifact.stored.digest);
    assert.equal(found.listedId, artifact.stored.digest);
    assert.equal(found.config, undefined);
  });

  it('is written whole or not at all', async () => {
    using fixture = new Fixture();
    const manifest = await fixture.manifest([fixture.layer('a')]);
    assert.throws(
      () =>
        fixture.db.transaction(() => {
          fixture.put('redis', [manifest]);
          throw new Error('something else of the same transaction failed');
        }),
      /something else/,
    );
    assert.throws(() => fixture.store.resolve('redis'), { kind: 'not-found' });
    assert.deepEqual(fixture.db.all('SELECT * FROM manifest'), []);
  });
});
