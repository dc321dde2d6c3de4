import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { imageHistory } from '../../../src/daemon/images/history.ts';
import { inspectImage } from '../../../src/daemon/images/inspect.ts';
import { listImages } from '../../../src/daemon/images/list.ts';
import { Pruner } from '../../../src/daemon/images/prune.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import { image, layer, type TestImage, type TestLayer } from '../../support/images.ts';
import { tar } from '../layers/tar-builder.ts';
import { Archives } from './archives.ts';
import { Fixture } from './fixture.ts';

/** Images that were made step by step: each on top of the one before, the last with the name. */
describe('parents', () => {
  let fixture: Fixture;
  let archives: Archives;
  let layers: TestLayer[];
  let base: TestImage;
  let middle: TestImage;
  let top: TestImage;
  beforeEach(async () => {
    fixture = new Fixture();
    archives = new Archives(fixture);
    layers = [await layer([{ name: 'base' }]), await layer([{ name: 'top' }])];
    base = step(1, 1);
    middle = step(1, 2);
    top = step(2, 3);
  });
  afterEach(async () => {
    await archives.close();
    fixture[Symbol.dispose]();
  });

  /** An image with so many of the layers and so many steps in its history; the second is no layer. */
  function step(depth: number, steps: number): TestImage {
    const history = ['ADD base', 'ENV A=1', 'ADD top'].slice(0, steps);
    return image({
      layers: layers.slice(0, depth),
      config: { history: history.map((by) => ({ created_by: by, empty_layer: by.startsWith('ENV') })) },
    });
  }

  interface Listed {
    readonly of: TestImage;
    readonly tags?: readonly string[];
    readonly parent?: Digest;
  }

  /** An archive in docker's own format. */
  function docker(...images: readonly Listed[]): Buffer {
    const blobs = new Map(images.flatMap(({ of }) => of.blobs.map(({ digest, bytes }) => [digest, bytes])));
    const contents = images.map(({ of, tags = [], parent }) => ({
      Config: of.id,
      RepoTags: tags,
      Layers: of.layers.map(({ digest }) => digest),
      ...(parent === undefined ? {} : { Parent: parent }),
    }));
    return tar(
      { name: 'manifest.json', body: JSON.stringify(contents) },
      ...[...blobs].map(([name, body]) => ({ name, body })),
    );
  }

  const family = (): Buffer =>
    docker({ of: top, tags: ['app:1'], parent: middle.id }, { of: middle, parent: base.id }, { of: base });

  const ids = async (options: Parameters<typeof listImages>[1] = {}): Promise<string[]> =>
    (await listImages(fixture.store, options)).map(({ Id }) => Id).sort();

  it('are shown by inspect, history and lists', async () => {
    await archives.load(family());
    assert.equal((await inspectImage(fixture.store, 'app:1')).Parent, middle.id);
    assert.equal((await inspectImage(fixture.store, base.id)).Parent, '');
    assert.deepEqual(
      (await imageHistory(fixture.store, 'app:1')).map(({ Id, Tags }) => [Id, Tags]),
      [
        [top.id, ['app:1']],
        [middle.id, null],
        [base.id, null],
      ],
    );
    const parents = (await listImages(fixture.store, { all: true })).map(({ Id, ParentId }) => [Id, ParentId]);
    assert.deepEqual(
      parents.sort(),
      [
        [top.id, middle.id],
        [middle.id, base.id],
        [base.id, ''],
      ].sort(),
    );
  });

  it('without a name are listed only with all, and are not dangling', async () => {
    await archives.load(family());
    assert.deepEqual(await ids(), [top.id]);
    assert.deepEqual(await ids({ all: true }), [top.id, middle.id, base.id].sort());
    for (const all of [false, true]) {
      assert.deepEqual(await ids({ all, filters: new Map([['dangling', ['true']]]) }), []);
    }
  });

  it('cannot be removed before their children, but lose their names', async () => {
    await archives.load(docker({ of: top, tags: ['app:1'], parent: middle.id }, { of: middle, tags: ['mid:1'] }));
    for (const force of [false, true]) {
      assert.throws(() => fixture.remover.remove(middle.id, { force }), {
        kind: 'conflict',
        message: /^conflict: unable to delete [0-9a-f]{12} \(cannot be forced\) - image has dependent child images$/,
      });
    }
    assert.deepEqual(fixture.remover.remove('mid:1'), [{ Untagged: 'mid:1' }]);
    assert.deepEqual(await ids({ all: true }), [top.id, middle.id].sort());
  });

  it('without a name go with the last of their children, unless they are to be kept', async () => {
    await archives.load(family());
    const deleted = fixture.remover.remove('app:1').flatMap(({ Deleted }) => Deleted ?? []);
    assert.deepEqual(
      deleted.filter((id) => [top.id, middle.id, base.id].includes(id as Digest)),
      [top.id, middle.id, base.id],
    );
    assert.deepEqual(await ids({ all: true }), []);
    assert.deepEqual(
      fixture.events.filter(({ action }) => action === 'delete').map(({ actor }) => actor),
      [top.id, middle.id, base.id],
    );
    assert.deepEqual(fixture.db.all('SELECT * FROM parent'), []);
    assert.deepEqual(fixture.db.all('SELECT * FROM blob'), []);

    await archives.load(family());
    fixture.remover.remove('app:1', { noPrune: true });
    assert.deepEqual(await ids({ all: true }), [middle.id, base.id].sort());
    // The one that has no child any more is dangling now.
    assert.deepEqual(await ids(), [middle.id]);
  });

  it('stay as long as another child or a name needs them', async () => {
    const history = [
      { created_by: 'ADD base', empty_layer: false },
      { created_by: 'USER x', empty_layer: true },
    ];
    const other = image({ layers: layers.slice(0, 1), config: { history } });
    await archives.load(
      docker(
        { of: top, tags: ['app:1'], parent: middle.id },
        { of: middle, parent: base.id },
        { of: other, tags: ['other:1'], parent: base.id },
        { of: base },
      ),
    );
    fixture.remover.remove('app:1');
    assert.deepEqual(await ids({ all: true }), [other.id, base.id].sort());
    fixture.store.tag('docker.io/library/kept', 'latest', fixture.store.resolve(base.id).target);
    fixture.remover.remove('other:1');
    assert.deepEqual(await ids({ all: true }), [base.id]);
  });

  it('are pruned with their children, and not before them', async () => {
    const { store, remover, content, collector } = fixture;
    const { leases } = archives;
    const events = { append: () => undefined };
    const pruner = new Pruner({ holds: fixture.sets, store, remover, content, leases, collector, events });
    const prune = async (dangling: string): Promise<number> => {
      const filters = new Map([['dangling', [dangling]]]);
      return (await pruner.prune(filters, new AbortController().signal)).ImagesDeleted.length;
    };
    await archives.load(family());
    assert.equal(await prune('true'), 0);
    assert.deepEqual(await ids({ all: true }), [top.id, middle.id, base.id].sort());
    fixture.store.tag('docker.io/library/base', 'latest', fixture.store.resolve(base.id).target);
    assert.ok((await prune('false')) > 0);
    assert.deepEqual(await ids({ all: true }), []);
    assert.deepEqual(fixture.db.all('SELECT * FROM blob'), []);
  });

  it('are saved with their children, and loaded elsewhere', async () => {
    await archives.load(family());
    const saved = await archives.save(['app:1', middle.id]);
    using elsewhere = new Fixture();
    const other = new Archives(elsewhere);
    try {
      await other.load(saved);
      assert.equal(elsewhere.store.parent(top.id), middle.id);
      // Its own was not saved.
      assert.equal(elsewhere.store.parent(middle.id), undefined);
    } finally {
      await other.close();
    }
  });

  it('that are not in the archive are left out', async () => {
    await archives.load(docker({ of: top, tags: ['app:1'], parent: middle.id }));
    assert.equal((await inspectImage(fixture.store, 'app:1')).Parent, '');
  });

  it('that cannot be are refused, with all of the archive', async () => {
    const bare = (depth: number): TestImage => image({ layers: layers.slice(0, depth), config: { history: [] } });
    const twin = image({ layers: layers.slice(0, 1), config: { history: [], author: 'twin' } });
    for (const [archive, message] of [
      [docker({ of: top, parent: base.id }, { of: base }), /is not a valid parent of/],
      [docker({ of: base, parent: top.id }, { of: top }), /is not a valid parent of/],
      [docker({ of: bare(1), parent: twin.id }, { of: twin, parent: bare(1).id }), /is not a valid parent of/],
      [docker({ of: bare(1), parent: bare(1).id }), /is not a valid parent of/],
      [docker({ of: top, parent: 'base' as Digest }), /Parent of an image is no image ID/],
    ] as const) {
      await assert.rejects(archives.load(archive), { kind: 'invalid', message });
      assert.deepEqual(await ids({ all: true }), []);
      assert.deepEqual(fixture.db.all('SELECT * FROM parent'), []);
    }
    await archives.load(docker({ of: bare(2), parent: bare(1).id }, { of: bare(1) }));
    assert.equal(fixture.store.parent(bare(2).id), bare(1).id);
  });
});
