import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import { LayerStore } from '../../../src/daemon/layers/store.ts';
import type { UnpackedLayer } from '../../../src/daemon/layers/layer.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import { scratch } from './tree.ts';

const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

async function open(
  t: TestContext,
): Promise<{ db: Database; store: LayerStore; root: string; events: NewEvent[]; reopen: () => LayerStore }> {
  const root = await scratch(t);
  const db = new Database(join(root, 'metadata.db'));
  t.after(() => db.close());
  const events: NewEvent[] = [];
  const reopen = (): LayerStore =>
    new LayerStore({ db, root, events: { append: (event) => events.push(event) }, now: () => 5 });
  return { db, store: reopen(), root, events, reopen };
}

async function put(store: LayerStore, blob: Digest, diffId: Digest, content = 'image'): Promise<void> {
  const path = store.temporaryPath(blob);
  await writeFile(path, content);
  const unpacked: UnpackedLayer = {
    diffId,
    digest: blob,
    size: 10,
    imageSize: content.length,
    fileBytes: 4,
    blobSize: 3,
  };
  store.commit(unpacked, path);
}

/** Removed files go in the background; a turn of the file system later they are gone. */
async function isEmptied(folder: string): Promise<void> {
  while ((await readdir(folder)).length > 0) await new Promise((resolve) => setImmediate(resolve));
}

describe('a layer store', () => {
  it('tells of layers that come and go, once each', async (t) => {
    const { db, store, events } = await open(t);
    await put(store, digest('b'), digest('d'));
    await put(store, digest('c'), digest('d'));
    db.transaction(() => store.remove([digest('d')]));
    const attributes = { digest: digest('b'), size: '10', imageSize: '5', name: digest('d') };
    assert.deepEqual(events, [
      { type: 'layer', action: 'commit', actor: digest('d'), attributes },
      { type: 'layer', action: 'remove', actor: digest('d'), attributes: { name: digest('d') } },
    ]);
  });

  it('shows a layer once it is committed, under its diff ID', async (t) => {
    const { store, root } = await open(t);
    assert.equal(store.has(digest('d')), false);
    assert.equal(store.diffIdOf(digest('b')), undefined);
    await put(store, digest('b'), digest('d'));
    assert.deepEqual(store.get(digest('d')), { diffId: digest('d'), size: 10, imageSize: 5, fileBytes: 4 });
    assert.equal(store.diffIdOf(digest('b')), digest('d'));
    assert.equal(store.path(digest('d')), join(root, 'layers/sha256', `${'d'.repeat(64)}.erofs`));
    assert.equal(await readFile(store.path(digest('d')), 'utf8'), 'image');
  });

  it('leaves no file whose row cannot be written', async (t) => {
    const { db, store } = await open(t);
    db.run(`CREATE TEMP TRIGGER full BEFORE INSERT ON layer BEGIN SELECT RAISE(ABORT, 'full'); END`);
    await assert.rejects(put(store, digest('b'), digest('d')), /full/);
    assert.deepEqual(store.strays(), []);
    // Where the caller clears it away.
    assert.equal(await readFile(store.temporaryPath(digest('b')), 'utf8'), 'image');
  });

  it('keeps one image of a diff ID that several blobs unpack to', async (t) => {
    const { store } = await open(t);
    await put(store, digest('a'), digest('d'), 'first');
    await put(store, digest('b'), digest('d'), 'again');
    assert.equal(await readFile(store.path(digest('d')), 'utf8'), 'first');
    assert.deepEqual([store.diffIdOf(digest('a')), store.diffIdOf(digest('b'))], [digest('d'), digest('d')]);
    await assert.rejects(readFile(store.temporaryPath(digest('b'))), { code: 'ENOENT' });
  });

  it('learns of a layer that an earlier release stored how many bytes its files have', async (t) => {
    const { store, db } = await open(t);
    await put(store, digest('b'), digest('d'));
    db.run('UPDATE layer SET file_bytes = NULL');
    assert.equal(store.get(digest('d'))?.fileBytes, undefined);
    await put(store, digest('b'), digest('d'));
    assert.equal(store.get(digest('d'))?.fileBytes, 4);
  });

  it('removes rows with the transaction and files after it', async (t) => {
    const { store, db, root } = await open(t);
    await put(store, digest('b'), digest('d'));
    assert.throws(() =>
      db.transaction(() => {
        store.remove([digest('d')]);
        throw new Error('rolled back');
      }),
    );
    assert.equal(await readFile(store.path(digest('d')), 'utf8'), 'image');
    assert.ok(store.has(digest('d')));

    store.remove([digest('d'), digest('e')]);
    assert.equal(store.has(digest('d')), false);
    assert.equal(store.diffIdOf(digest('b')), undefined);
    // A pull that starts just after commits the same layer again; that one stays.
    await put(store, digest('b'), digest('d'), 'new one');
    await isEmptied(join(root, 'layers/trash'));
    assert.equal(await readFile(store.path(digest('d')), 'utf8'), 'new one');
  });

  it('leaves alone, while it sweeps, what is unpacked since it was opened', async (t) => {
    const { store } = await open(t);
    await writeFile(store.temporaryPath(digest('f')), 'half');
    await store.sweep();
    assert.equal(await readFile(store.temporaryPath(digest('f')), 'utf8'), 'half');
  });

  it('sweeps what a crash left, at any point', async (t) => {
    const { store, root, reopen } = await open(t);
    await put(store, digest('a'), digest('1'));
    await put(store, digest('b'), digest('2'));
    await put(store, digest('c'), digest('3'));
    // Killed while unpacking, between rename and row, between row and trash; files lost or cut by a power loss.
    await writeFile(store.temporaryPath(digest('f')), 'half');
    await writeFile(store.path(digest('4')), 'no row');
    await writeFile(join(root, 'layers/trash/x'), 'trash');
    await mkdir(join(root, 'layers/sha256/other'));
    await writeFile(store.path(digest('2')), 'cut');
    const { rm } = await import('node:fs/promises');
    await rm(store.path(digest('3')));

    const again = reopen();
    await again.sweep();
    assert.deepEqual(await readdir(join(root, 'layers/sha256')), [`${'1'.repeat(64)}.erofs`]);
    assert.deepEqual(await readdir(join(root, 'layers/unpacking')), []);
    assert.deepEqual(await readdir(join(root, 'layers/trash')), []);
    assert.deepEqual([again.has(digest('1')), again.has(digest('2')), again.has(digest('3'))], [true, false, false]);
    assert.deepEqual([again.diffIdOf(digest('a')), again.diffIdOf(digest('b'))], [digest('1'), undefined]);
  });
});
