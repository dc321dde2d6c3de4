import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { imageHistory } from '../../../src/daemon/images/history.ts';
import { inspectImage } from '../../../src/daemon/images/inspect.ts';
import { layerReports } from '../../../src/daemon/images/layer-report.ts';
import { hexOf } from '../../../src/protocol/digest.ts';
import type { ConfigHistory } from '../../../src/protocol/oci.ts';
import { AMD64, ARM64, Fixture, sha256 } from './fixture.ts';

describe('inspecting an image', () => {
  it('tells all of it', async () => {
    using fixture = new Fixture();
    const layers = [fixture.layer('base'), fixture.layer('top')];
    const image = await fixture.image('redis:7', layers, {
      config: {
        created: '2024-05-06T07:08:09.120000000Z',
        author: 'somebody',
        docker_version: '20.10',
        container: 'abcdef',
        container_config: { Hostname: 'abcdef', Cmd: ['/bin/sh', '-c', 'make'], OnBuild: [], Unknown: true },
        config: {
          Env: ['PATH=/bin'],
          Cmd: ['redis-server'],
          Entrypoint: null,
          Volumes: {},
          User: '',
          Labels: { a: 'b' },
          // What old builders wrote beside it.
          ...({ Hostname: 'abc', AttachStdin: false } as object),
        },
        history: [{ comment: 'first' }, { comment: 'last' }],
      },
    });
    assert.deepEqual(await inspectImage(fixture.store, 'redis:7'), {
      Id: image.stored.configDigest,
      Descriptor: {
        mediaType: image.descriptor.mediaType,
        digest: image.descriptor.digest,
        size: image.descriptor.size,
      },
      Identity: { Pull: [{ Repository: 'docker.io/library/redis' }] },
      RepoTags: ['redis:7'],
      RepoDigests: [`redis@${image.stored.digest}`],
      Comment: 'last',
      Created: '2024-05-06T07:08:09.12Z',
      Author: 'somebody',
      Config: { Env: ['PATH=/bin'], Cmd: ['redis-server'], Labels: { a: 'b' } },
      Architecture: 'amd64',
      Os: 'linux',
      Size: fixture.taken([image]),
      GraphDriver: {
        Name: 'erofs',
        Data: {
          Layers: layers
            .toReversed()
            .map(({ diffId }) => `/layers/${hexOf(diffId)}`)
            .join(':'),
        },
      },
      RootFS: { Type: 'layers', Layers: layers.map(({ diffId }) => diffId) },
      Metadata: { LastTagTime: '2026-01-01T00:00:00Z' },
      Parent: '',
      DockerVersion: '20.10',
      Container: 'abcdef',
      ContainerConfig: { Cmd: ['/bin/sh', '-c', 'make'], OnBuild: [], Hostname: 'abcdef' },
    });
  });

  it('tells of the platform that is asked for', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    fixture.put('redis', [amd64, arm64], { target });
    const inspected = await inspectImage(fixture.store, 'redis', { platform: ARM64 });
    assert.equal(inspected.Id, arm64.stored.configDigest);
    assert.deepEqual([inspected.Architecture, inspected.Variant], ['arm64', 'v8']);
    assert.deepEqual(inspected.RepoTags, ['redis:latest']);
    assert.equal((await inspectImage(fixture.store, 'redis')).Architecture, 'amd64');
    assert.equal((await inspectImage(fixture.store, 'redis', { manifests: true })).Manifests?.length, 2);
    await assert.rejects(inspectImage(fixture.store, 'redis', { platform: { os: 'linux', architecture: 's390x' } }), {
      kind: 'not-found',
      message: /^image with reference redis was found but does not provide the specified platform \(linux\/s390x\)/,
    });
  });

  it('tells of one that has lost its tag', async () => {
    using fixture = new Fixture();
    const old = await fixture.image('redis', [fixture.layer('old')]);
    await fixture.image('redis', [fixture.layer('young')]);
    const inspected = await inspectImage(fixture.store, old.stored.configDigest);
    assert.deepEqual(inspected.RepoTags, []);
    assert.deepEqual(inspected.Metadata, {});
  });

  it('tells of an artifact without its config', async () => {
    using fixture = new Fixture();
    const manifest = await fixture.manifest([]);
    fixture.put('chart', [{ ...manifest, stored: { ...manifest.stored, kind: 'artifact', platform: undefined } }]);
    const inspected = await inspectImage(fixture.store, 'chart');
    assert.equal(inspected.Id, manifest.stored.digest);
    assert.equal(inspected.Config, null);
    assert.deepEqual(inspected.RootFS, { Type: 'layers' });
    assert.deepEqual(await imageHistory(fixture.store, 'chart'), []);
  });

  it('says which blob is damaged', async () => {
    using fixture = new Fixture();
    const image = await fixture.manifest([fixture.layer('a')]);
    const text = sha256('no JSON');
    await fixture.content.putDocument(text, Buffer.from('no JSON'));
    fixture.put('broken', [{ ...image, stored: { ...image.stored, configDigest: text } }]);
    await assert.rejects(inspectImage(fixture.store, 'broken'), { kind: 'corrupt', message: new RegExp(text) });
  });
});

describe('the history of an image', () => {
  const history = async (
    steps: ConfigHistory[] | null | undefined,
    sizes: number[],
  ): Promise<{ id: string; items: Awaited<ReturnType<typeof imageHistory>> }> => {
    using fixture = new Fixture();
    const layers = sizes.map((size) => fixture.layer(`layer of ${size}`, { size }));
    const image = await fixture.image('redis:7', layers, { config: steps === undefined ? {} : { history: steps } });
    fixture.put('redis', [image]);
    return { id: image.stored.configDigest, items: await imageHistory(fixture.store, 'redis') };
  };

  it('is newest first, with what each step took', async () => {
    const { id, items } = await history(
      [
        { created: '2024-01-01T00:00:00Z', created_by: 'ADD rootfs.tar /', comment: 'base' },
        { created: '2024-01-02T00:00:00.9Z', created_by: 'ENV A=b', empty_layer: true },
        { created: '2024-01-03T00:00:00Z', created_by: 'RUN make' },
      ],
      [1000, 200],
    );
    assert.deepEqual(items, [
      {
        Id: id,
        Created: Date.UTC(2024, 0, 3) / 1000,
        CreatedBy: 'RUN make',
        Tags: ['redis:7', 'redis:latest'],
        Size: 200,
        Comment: '',
      },
      {
        Id: '<missing>',
        Created: Date.UTC(2024, 0, 2) / 1000,
        CreatedBy: 'ENV A=b',
        Tags: null,
        Size: 0,
        Comment: '',
      },
      {
        Id: '<missing>',
        Created: Date.UTC(2024, 0, 1) / 1000,
        CreatedBy: 'ADD rootfs.tar /',
        Tags: null,
        Size: 1000,
        Comment: 'base',
      },
    ]);
  });

  it('tells the bytes of the files of a layer, and where they were not counted those of its tar', async () => {
    using fixture = new Fixture();
    const layers = [fixture.layer('old', { size: 3000 }), fixture.layer('new', { size: 2048, fileBytes: 0 })];
    await fixture.image('redis', layers, { config: { history: [{ created_by: 'old' }, { created_by: 'new' }] } });
    assert.deepEqual(
      (await imageHistory(fixture.store, 'redis')).map(({ CreatedBy, Size }) => [CreatedBy, Size]),
      [
        ['new', 0],
        ['old', 3000],
      ],
    );
    assert.deepEqual(
      layerReports(fixture.store, 'redis').map(({ size }) => size),
      [3000, 2048],
    );
  });

  it('is as long as the config has it, whatever its layers', async () => {
    assert.deepEqual((await history(undefined, [10])).items, []);
    assert.deepEqual((await history(null, [10])).items, []);
    const shorter = await history([{ created_by: 'a' }], [10, 20]);
    assert.deepEqual(
      shorter.items.map(({ CreatedBy, Size, Created }) => [CreatedBy, Size, Created]),
      [['a', 10, undefined]],
    );
    const longer = await history([{ created_by: 'a' }, { created_by: 'b' }], [10]);
    assert.deepEqual(
      longer.items.map(({ CreatedBy, Size }) => [CreatedBy, Size]),
      [
        ['b', 0],
        ['a', 10],
      ],
    );
  });

  it('is that of the platform that is asked for', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')], { config: { history: [{ created_by: 'amd64' }] } });
    const arm64 = await fixture.manifest([fixture.layer('arm64')], {
      platform: ARM64,
      config: { history: [{ created_by: 'arm64' }] },
    });
    fixture.put('redis', [amd64, arm64], { target: await fixture.index([amd64.descriptor, arm64.descriptor]) });
    const [step] = await imageHistory(fixture.store, 'redis', { platform: ARM64 });
    assert.deepEqual([step?.CreatedBy, step?.Id], ['arm64', arm64.stored.configDigest]);
    assert.equal((await imageHistory(fixture.store, 'redis', { platform: AMD64 }))[0]?.CreatedBy, 'amd64');
  });
});

describe('the report of layers', () => {
  it('gives each its three identities, and says who shares it', async () => {
    using fixture = new Fixture();
    const base = fixture.layer('base');
    const recompressed = fixture.layer('base', { compression: 'zstd' });
    const [own, top] = [fixture.layer('own'), fixture.layer('top')];
    const image = await fixture.image('redis', [base, own, top]);
    await fixture.image('b/other', [base]);
    await fixture.image('moved', [recompressed, own], { config: { author: 'a' } });
    const dangling = await fixture.image('gone', [recompressed], { config: { author: 'b' } });
    await fixture.image('gone', [fixture.layer('unrelated')]);
    const reports = layerReports(fixture.store, 'redis');
    const [first, second, third] = image.stored.layers;
    assert.deepEqual(reports, [
      {
        diffId: base.diffId,
        layerDigest: base.digest,
        chainId: base.diffId,
        mediaType: first?.mediaType,
        blobSize: base.bytes,
        size: base.size,
        imageSize: base.imageSize,
        sharedWith: ['b/other:latest', 'moved:latest', dangling.stored.configDigest],
      },
      {
        diffId: own.diffId,
        layerDigest: own.digest,
        chainId: second?.chainId,
        mediaType: second?.mediaType,
        blobSize: own.bytes,
        size: own.size,
        imageSize: own.imageSize,
        sharedWith: ['moved:latest'],
      },
      {
        diffId: top.diffId,
        layerDigest: top.digest,
        chainId: third?.chainId,
        mediaType: third?.mediaType,
        blobSize: top.bytes,
        size: top.size,
        imageSize: top.imageSize,
        sharedWith: [],
      },
    ]);
  });
});
