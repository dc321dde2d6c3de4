import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ImageSummary } from '../../../src/protocol/engine.ts';
import { inspectImage } from '../../../src/daemon/images/inspect.ts';
import { listImages, type ListedSummary } from '../../../src/daemon/images/list.ts';
import { MAX_INDEX_DEPTH } from '../../../src/daemon/registry/manifest.ts';
import { ARM64, Fixture } from './fixture.ts';

const filter = (values: Record<string, string[]>): { filters: ReadonlyMap<string, readonly string[]> } => ({
  filters: new Map(Object.entries(values)),
});

/** What `docker images` would show in its first columns. */
const shown = (images: readonly ListedSummary[]): string[] =>
  images.map((image) => image.RepoTags.join(' ') || image.RepoDigests.map((name) => name.split('@')[0]).join(' '));

const config = (created: string, labels: Record<string, string> = {}): { config: object } => ({
  config: { created, config: { Labels: labels } },
});

describe('a list of images', () => {
  it('has each image once, the newest first, with all its names', async () => {
    using fixture = new Fixture();
    const old = await fixture.image('old:1', [fixture.layer('old')], config('2020-01-01T00:00:00Z'));
    const young = await fixture.image(
      'b/young:2',
      [fixture.layer('young')],
      config('2024-05-06T07:08:09.5Z', { a: 'b' }),
    );
    fixture.put('a.io/young', [young]);
    fixture.put('young:1', [young]);
    const list = await listImages(fixture.store);
    assert.deepEqual(list, [
      {
        Id: young.stored.configDigest,
        ParentId: '',
        RepoTags: ['a.io/young:latest', 'b/young:2', 'young:1'],
        RepoDigests: ['a.io/young', 'b/young', 'young'].map((name) => `${name}@${young.stored.digest}`),
        Created: Date.UTC(2024, 4, 6, 7, 8, 9) / 1000,
        Size: fixture.taken([young]),
        SharedSize: -1,
        Labels: { a: 'b' },
        Containers: -1,
        Descriptor: {
          mediaType: young.descriptor.mediaType,
          digest: young.descriptor.digest,
          size: young.descriptor.size,
        },
      },
      {
        Id: old.stored.configDigest,
        ParentId: '',
        RepoTags: ['old:1'],
        RepoDigests: [`old@${old.stored.digest}`],
        Created: Date.UTC(2020, 0, 1) / 1000,
        Size: fixture.taken([old]),
        SharedSize: -1,
        Labels: {},
        Containers: -1,
        Descriptor: { mediaType: old.descriptor.mediaType, digest: old.descriptor.digest, size: old.descriptor.size },
      },
    ]);
  });

  it('has an image once that several indexes hold', async () => {
    using fixture = new Fixture();
    const image = await fixture.manifest([fixture.layer('a')]);
    const first = await fixture.index([image.descriptor]);
    const second = await fixture.index([image.descriptor], { rebuilt: 'yes' });
    fixture.put('redis:7', [image], { target: first });
    fixture.now += 1000;
    fixture.put('redis:7', [image], { target: second });
    const [only, ...others] = await listImages(fixture.store);
    assert.deepEqual(others, []);
    assert.equal(only?.Descriptor?.digest, second.digest);
    assert.deepEqual(only.RepoTags, ['redis:7']);
    assert.deepEqual(only.RepoDigests, [`redis@${first.digest}`, `redis@${second.digest}`].sort());
    assert.equal(only.Size, fixture.taken([image], first, second));
  });

  it('counts what platforms, images and layers share once', async () => {
    using fixture = new Fixture();
    const base = fixture.layer('base', { size: 1_000_000 });
    const empty = fixture.layer('empty', { size: 1024 });
    const amd64 = await fixture.manifest([base, empty, fixture.layer('amd64', { size: 500 }), empty]);
    const arm64 = await fixture.manifest([base, fixture.layer('arm64', { size: 700 })], { platform: ARM64 });
    const attestation = await fixture.attestation(amd64);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor, attestation.descriptor]);
    const sizeOf = async (): Promise<number | undefined> => (await listImages(fixture.store))[0]?.Size;

    fixture.put('redis', [amd64], { target });
    assert.equal(await sizeOf(), fixture.taken([amd64], target));
    fixture.put('redis', [attestation], { target });
    assert.equal(await sizeOf(), fixture.taken([amd64, attestation], target));
    fixture.put('redis', [arm64], { target });
    assert.equal(await sizeOf(), fixture.taken([amd64, arm64, attestation], target));

    const other = await fixture.image('other', [base, fixture.layer('other')]);
    const shared = await listImages(fixture.store, { sharedSize: true });
    const baseOnDisk = Math.ceil(base.bytes / 4096) * 4096 + base.imageSize;
    const bySize = new Map(shared.map((image) => [image.Id, image.SharedSize]));
    assert.equal(bySize.get(other.stored.configDigest), baseOnDisk);
    assert.equal(bySize.get(amd64.stored.configDigest), baseOnDisk);
    const recompressed = fixture.layer('base', { size: 1_000_000, compression: 'zstd' });
    const third = await fixture.image('third', [recompressed]);
    const again = await listImages(fixture.store, { sharedSize: true });
    assert.equal(again.find((image) => image.Id === third.stored.configDigest)?.SharedSize, base.imageSize);
  });

  it('is filtered by what is dangling', async () => {
    using fixture = new Fixture();
    await fixture.image('redis:7', [fixture.layer('old')], config('2020-01-01T00:00:00Z'));
    await fixture.image('redis:7', [fixture.layer('young')], config('2021-01-01T00:00:00Z'));
    const local = await fixture.manifest([fixture.layer('unnamed')], config('2022-01-01T00:00:00Z'));
    fixture.put('app', [local], { byDigest: false });
    const rebuilt = await fixture.manifest([fixture.layer('rebuilt')], config('2023-01-01T00:00:00Z'));
    fixture.put('app', [rebuilt], { byDigest: false });
    assert.deepEqual(shown(await listImages(fixture.store)), ['app:latest', '', 'redis:7', 'redis']);
    assert.deepEqual(shown(await listImages(fixture.store, filter({ dangling: ['true'] }))), ['', 'redis']);
    assert.deepEqual(shown(await listImages(fixture.store, filter({ dangling: ['0'] }))), [
      'app:latest',
      'redis:7',
      'redis',
    ]);
  });

  it('is filtered by labels', async () => {
    using fixture = new Fixture();
    await fixture.image('one', [fixture.layer('1')], config('2021-01-01T00:00:00Z', { tier: 'web', team: 'a' }));
    await fixture.image('two', [fixture.layer('2')], config('2022-01-01T00:00:00Z', { tier: 'db' }));
    await fixture.image('three', [fixture.layer('3')], config('2023-01-01T00:00:00Z'));
    const labelled = async (values: Record<string, string[]>): Promise<string[]> =>
      shown(await listImages(fixture.store, filter(values)));
    assert.deepEqual(await labelled({ label: ['tier'] }), ['two:latest', 'one:latest']);
    assert.deepEqual(await labelled({ label: ['tier=web'] }), ['one:latest']);
    assert.deepEqual(await labelled({ label: ['tier', 'team=a'] }), ['one:latest']);
    assert.deepEqual(await labelled({ label: ['tier=web', 'tier=db'] }), []);
    assert.deepEqual(await labelled({ 'label!': ['team'] }), ['three:latest', 'two:latest']);
    assert.deepEqual(await labelled({ label: ['toString'] }), []);
  });

  it('is filtered by age', async () => {
    using fixture = new Fixture();
    for (const year of [2020, 2021, 2022, 2023]) {
      await fixture.image(`y:${year}`, [fixture.layer(`${year}`)], config(`${year}-01-01T00:00:00Z`));
    }
    await fixture.image('ageless', [fixture.layer('ageless')], { config: { created: '' } });
    const aged = async (values: Record<string, string[]>): Promise<string[]> =>
      shown(await listImages(fixture.store, filter(values)));
    assert.deepEqual(await aged({ before: ['y:2022'] }), ['y:2021', 'y:2020']);
    assert.deepEqual(await aged({ before: ['y:2022', 'y:2021'] }), ['y:2020']);
    assert.deepEqual(await aged({ since: ['y:2021'] }), ['y:2023', 'y:2022']);
    assert.deepEqual(await aged({ since: ['y:2020'], before: ['y:2022'] }), ['y:2021']);
    assert.deepEqual(await aged({ until: ['2021-06-01T00:00:00Z'] }), ['y:2021', 'y:2020']);
    fixture.now = Date.UTC(2023, 0, 2);
    assert.deepEqual(await aged({ until: ['48h'] }), ['y:2022', 'y:2021', 'y:2020']);
    await assert.rejects(aged({ before: ['none'] }), { kind: 'not-found', message: 'No such image: none:latest' });
    await assert.rejects(aged({ until: ['soon'] }), { kind: 'invalid' });
  });

  it('is filtered by names, and shows those alone', async () => {
    using fixture = new Fixture();
    const image = await fixture.image('redis:7', [fixture.layer('a')]);
    fixture.put('redis:latest', [image]);
    fixture.put('reg.io/team/redis:7', [image]);
    const tags = async (...patterns: string[]): Promise<string[][]> =>
      (await listImages(fixture.store, filter({ reference: patterns }))).map((each) => each.RepoTags);
    assert.deepEqual(await tags('redis'), [['redis:7', 'redis:latest']]);
    assert.deepEqual(await tags('redis:7'), [['redis:7']]);
    assert.deepEqual(await tags('r*:l*'), [['redis:latest']]);
    assert.deepEqual(await tags('*/*/redis', 'redis:7'), [['redis:7', 'reg.io/team/redis:7']]);
    assert.deepEqual(await tags('*'), [['redis:7', 'redis:latest']]);
    assert.deepEqual(await tags('nginx'), []);
    const [byDigest] = await listImages(fixture.store, filter({ reference: ['redis@sha256:*'] }));
    assert.deepEqual([byDigest?.RepoTags, byDigest?.RepoDigests], [[], [`redis@${image.stored.digest}`]]);
    // An address in brackets is none of a pattern's classes.
    fixture.put('[::1]:5000/team/redis:7', [image]);
    for (const pattern of ['[::1]:5000/team/redis', '[::1]:5000/*/redis:7']) {
      assert.deepEqual(await tags(pattern), [['[::1]:5000/team/redis:7']]);
    }
    await assert.rejects(listImages(fixture.store, filter({ reference: ['[-x]'] })), { kind: 'invalid' });
  });

  it('refuses values of filters that make no sense', async () => {
    using fixture = new Fixture();
    for (const values of [['maybe'], ['true', 'false'], []]) {
      await assert.rejects(listImages(fixture.store, filter({ dangling: values })), {
        kind: 'invalid',
        message: /^invalid filter 'dangling=\[/,
      });
    }
  });

  it('tells of the manifests of an index, stored or not', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const attestation = await fixture.attestation(amd64);
    const target = await fixture.index([amd64.descriptor, arm64.descriptor, attestation.descriptor]);
    fixture.put('redis', [amd64, attestation], { target });
    const plain = await fixture.image('plain', [fixture.layer('plain')]);
    const list = await listImages(fixture.store, { manifests: true });
    const manifestsOf = (name: string): ImageSummary['Manifests'] =>
      list.find((image) => image.RepoTags.includes(name))?.Manifests;
    const { size, contentSize } = amd64.stored;
    assert.deepEqual(manifestsOf('redis:latest'), [
      {
        ID: amd64.stored.digest,
        Descriptor: amd64.descriptor,
        Available: true,
        Size: { Content: contentSize, Total: contentSize + size },
        Kind: 'image',
        ImageData: { Platform: amd64.descriptor.platform, Containers: [], Size: { Unpacked: size } },
      },
      {
        ID: arm64.stored.digest,
        Descriptor: arm64.descriptor,
        Available: false,
        Size: { Content: 0, Total: 0 },
        Kind: 'image',
        ImageData: { Platform: ARM64, Containers: [], Size: { Unpacked: 0 } },
      },
      {
        ID: attestation.stored.digest,
        Descriptor: attestation.descriptor,
        Available: true,
        Size: { Content: attestation.stored.contentSize, Total: attestation.stored.contentSize },
        Kind: 'attestation',
        AttestationData: { For: amd64.stored.digest },
      },
    ]);
    assert.deepEqual(
      manifestsOf('plain:latest')?.map(({ ID, Kind, Available }) => ({ ID, Kind, Available })),
      [{ ID: plain.stored.digest, Kind: 'image', Available: true }],
    );
  });

  it('tells where an image came from, of each manifest that is for a platform', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    fixture.put('redis', [amd64], { target });
    fixture.put('localhost:5000/mirror/redis', [amd64], { target });
    const identities = async (identity: boolean): Promise<unknown[]> => {
      const [image] = await listImages(fixture.store, { manifests: true, identity });
      return image?.Manifests?.map(({ ImageData }) => ImageData?.Identity) ?? [];
    };
    const origin = {
      Pull: [{ Repository: 'docker.io/library/redis' }, { Repository: 'localhost:5000/mirror/redis' }],
    };
    assert.deepEqual(await identities(true), [origin, origin]);
    assert.deepEqual(await identities(false), [undefined, undefined]);
  });

  it('looks into indexes that are in an index, as deep as a pull does', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    let target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    for (let depth = 1; depth < MAX_INDEX_DEPTH; depth += 1) target = await fixture.index([target]);
    fixture.put('redis', [amd64], { target });
    const [image] = await listImages(fixture.store, { manifests: true });
    assert.deepEqual(
      image?.Manifests?.map(({ ID, Available }) => [ID, Available]),
      [
        [amd64.stored.digest, true],
        [arm64.stored.digest, false],
      ],
    );
  });

  it('knows what is stored of an image from all the indexes that hold it', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const index = await fixture.index([amd64.descriptor, arm64.descriptor]);
    const nested = await fixture.index([index]);
    fixture.put('index:1', [amd64, arm64], { target: index });
    fixture.now += 1000;
    fixture.put('index:nested', [amd64], { target: nested });
    const listed = async (): Promise<unknown[]> =>
      (await listImages(fixture.store, { manifests: true })).map(({ Id, Descriptor, Manifests = [] }) => [
        Id,
        Descriptor?.digest,
        Manifests.map(({ ID, Available, Size }) => [ID, Available, Size.Total]),
      ]);
    const manifests = [amd64, arm64].map(({ stored }) => [stored.digest, true, stored.contentSize + stored.size]);
    const id = amd64.stored.configDigest;
    assert.deepEqual(await listed(), [[id, nested.digest, manifests]]);
    assert.equal((await inspectImage(fixture.store, id, { platform: ARM64 })).Id, arm64.stored.configDigest);
    await assert.rejects(inspectImage(fixture.store, 'index:nested', { platform: ARM64 }), { kind: 'not-found' });

    // Its digest stays a name of it as long as the repository has a tag.
    fixture.remover.remove('index:nested');
    assert.deepEqual((await listImages(fixture.store))[0]?.RepoTags, ['index:1']);
    assert.deepEqual(await listed(), [[id, index.digest, manifests]]);
    assert.equal((await inspectImage(fixture.store, id)).Descriptor?.digest, index.digest);
  });

  it('is told of by a target with a digest before one without any name', async () => {
    using fixture = new Fixture();
    const image = await fixture.manifest([fixture.layer('a')]);
    const pulled = await fixture.index([image.descriptor]);
    const built = await fixture.index([image.descriptor], { built: 'here' });
    fixture.put(`redis@${pulled.digest}`, [image], { target: pulled });
    fixture.now += 1000;
    fixture.put('redis:built', [image], { target: built, byDigest: false });
    await fixture.image('redis:built', [fixture.layer('rebuilt')]);
    const descriptors = (await listImages(fixture.store)).map(({ Descriptor }) => Descriptor?.digest);
    assert.ok(descriptors.includes(pulled.digest));
    assert.ok(!descriptors.includes(built.digest));
  });
});
