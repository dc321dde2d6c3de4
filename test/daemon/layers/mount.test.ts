import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { kernelSupport, mountImage, unmount } from '../../../src/daemon/layers/mount.ts';
import { MAX_IMAGE_LAYERS } from '../../../src/protocol/oci.ts';
import { tar, type Entry } from './tar-builder.ts';
import { build, readTree, scratch, skipMounting } from './tree.ts';

describe('a stack of layers', { skip: skipMounting }, () => {
  it('is one tree, in which upper layers replace, remove and hide what is below', async (t) => {
    const folder = await scratch(t);
    const layers: Entry[][] = [
      [
        { name: 'kept', body: 'kept' },
        { name: 'changed', body: 'old' },
        { name: 'removed' },
        { name: 'merged/below' },
        { name: 'hidden/below' },
        { name: 'replaced/below' },
        { name: 'file/below' },
      ],
      [
        { name: 'changed', body: 'new' },
        { name: '.wh.removed' },
        { name: 'merged/above' },
        { name: 'hidden/.wh..wh..opq' },
        { name: 'hidden/above' },
        { name: '.wh.replaced' },
        { name: 'replaced/above' },
        { name: 'file', body: 'file' },
      ],
    ];
    const images = await Promise.all(
      layers.map(async (entries, index) => {
        const image = join(folder, `${index}.erofs`);
        await build(tar(...entries), image);
        return image;
      }),
    );
    const target = join(folder, 'target');
    await mkdir(target);
    await mountImage(images, target);
    try {
      // Removing an image takes nothing from those who have it mounted.
      for (const image of images) await rm(image);
      assert.deepEqual([...(await readTree(target)).keys()].sort(), [
        '.',
        'changed',
        'file',
        'hidden',
        'hidden/above',
        'kept',
        'merged',
        'merged/above',
        'merged/below',
        'replaced',
        'replaced/above',
      ]);
      assert.equal(await readFile(join(target, 'changed'), 'utf8'), 'new');
      assert.deepEqual(await readdir(folder), ['target']);
    } finally {
      await unmount(target);
    }
    assert.deepEqual(await readdir(target), []);
  });

  it('has from one to as many layers as there may be', async (t) => {
    const folder = await scratch(t);
    const image = join(folder, 'i.erofs');
    await build(tar({ name: 'f', body: 'x' }, { name: '.wh.gone' }), image);
    const target = join(folder, 'target');
    await mkdir(target);
    for (const count of [1, MAX_IMAGE_LAYERS]) {
      await mountImage(Array<string>(count).fill(image), target);
      assert.equal(await readFile(join(target, 'f'), 'utf8'), 'x');
      await unmount(target);
    }
    for (const count of [0, MAX_IMAGE_LAYERS + 1]) {
      await assert.rejects(mountImage(Array<string>(count).fill(image), target), { kind: 'invalid' });
    }
  });

  it('is not mounted in part: what cannot be mounted is named, and nothing stays', async (t) => {
    const folder = await scratch(t);
    const image = join(folder, 'i.erofs');
    await build(tar({ name: 'f' }), image);
    const target = join(folder, 'target');
    await mkdir(target);
    await assert.rejects(mountImage([image, join(folder, 'missing.erofs')], target), {
      kind: 'unavailable',
      message: /missing\.erofs/,
    });
    assert.deepEqual(await readdir(folder), ['i.erofs', 'target']);
    assert.doesNotMatch(await readFile('/proc/mounts', 'utf8'), new RegExp(folder));
  });

  it('needs of the kernel what kernelSupport tells', async () => {
    const support = await kernelSupport();
    assert.deepEqual({ erofs: support.erofs, overlay: support.overlay }, { erofs: true, overlay: true });
    assert.ok(support.fileBacked || support.loop);
  });
});
