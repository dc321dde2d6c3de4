import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mountImage, unmount } from '../../../src/daemon/layers/mount.ts';
import { Unpacker } from '../../../src/daemon/layers/unpacker.ts';
import type { Manifest } from '../../../src/protocol/oci.ts';
import { fsck, mountedTree, readTree, run, scratch, skipMounting, type Node } from './tree.ts';

/**
 * Real images. LAYERD_CORPUS_REGISTRY names a registry that has them (host:port, plain HTTP); LAYERD_CORPUS_IMAGES which, if
 * not these.
 */
const ALL_IMAGES =
  'library/debian:12,library/buildpack:12,library/redis:7,library/python:3.11,library/node:18,library/postgres:15,library/gcc:12';
const registry = process.env['LAYERD_CORPUS_REGISTRY'];
const images = (process.env['LAYERD_CORPUS_IMAGES'] ?? ALL_IMAGES).split(',');
const skip =
  skipMounting !== false
    ? skipMounting
    : registry === undefined
      ? 'LAYERD_CORPUS_REGISTRY does not name a registry with the corpus'
      : false;

/** Milliseconds for one image: all its files are read four times. */
const TIMEOUT = 600_000;

describe('the corpus', { skip }, () => {
  let unpacker: Unpacker;
  before(() => (unpacker = new Unpacker({ concurrency: 2 })));
  after(() => unpacker.close());

  for (const image of images) {
    it(`mounts ${image} as GNU tar extracts each layer and umoci the whole`, { timeout: TIMEOUT }, async (t) => {
      const folder = await scratch(t);
      const layout = join(folder, 'oci');
      await run('skopeo', [
        'copy',
        '-q',
        '--src-tls-verify=false',
        `docker://${registry}/${image}`,
        `oci:${layout}:image`,
      ]);
      const blobPath = (digest: string): string => join(layout, 'blobs/sha256', digest.replace('sha256:', ''));
      const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as {
        manifests: { digest: string }[];
      };
      const manifest = JSON.parse(await readFile(blobPath(index.manifests[0]?.digest ?? ''), 'utf8')) as Manifest;
      const config = JSON.parse(await readFile(blobPath(manifest.config.digest), 'utf8')) as {
        rootfs: { diff_ids: string[] };
      };

      const stack: string[] = [];
      for (const [position, { digest, size }] of manifest.layers.entries()) {
        const image = join(folder, `${position}.erofs`);
        const unpacking = unpacker.start({
          blobPath: join(folder, 'blob'),
          resumeAt: 0,
          imagePath: image,
          expected: { digest, size },
        });
        for await (const chunk of createReadStream(blobPath(digest))) await unpacking.write(chunk as Buffer);
        const layer = await unpacking.finish();
        assert.equal(layer.diffId, config.rootfs.diff_ids[position]);
        await fsck(image);
        const mounted = await mountedTree(image, folder);
        const extracted = join(folder, 'extracted');
        await mkdir(extracted);
        const flags = ['--xattrs', '--xattrs-include=*', '--numeric-owner'];
        await run('tar', [...flags, '-xpf', blobPath(digest), '-C', extracted]);
        const { stdout: list } = await run('tar', ['--quoting-style=literal', '-tf', blobPath(digest)], {
          encoding: 'latin1',
          maxBuffer: 2 ** 28,
        });
        const listed = new Set(
          list
            .split('\n')
            .filter((name) => name !== '')
            .map((name) => name.replace(/^\.\//, '').replace(/\/$/, '') || '.'),
        );
        assertSame(mounted, translateWhiteouts(await readTree(extracted)), (path) => !listed.has(path));
        t.diagnostic(`layer ${position}: ${mounted.size} files are the same`);
        await run('rm', ['-rf', extracted]);
        stack.push(image);
      }

      const target = join(folder, 'whole');
      await mkdir(target);
      await mountImage(stack, target);
      try {
        const whole = await readTree(target);
        await run('umoci', ['unpack', '--image', `${layout}:image`, join(folder, 'bundle')]);
        const expected = await readTree(join(folder, 'bundle/rootfs'));
        // overlayfs counts no subdirectories in a merged directory.
        for (const node of [...whole.values(), ...expected.values()]) if (node.type === 'directory') node.links = 0;
        // The root has no entry in these layers; umoci gives it the time of the unpacking.
        assertSame(whole, expected, (path) => path === '.');
        t.diagnostic(`the whole image: ${whole.size} files are the same`);
      } finally {
        await unmount(target);
      }
    });
  }
});

/** A tree as GNU tar extracts it, with removals as overlayfs has them. */
function translateWhiteouts(tree: Map<string, Node>): Map<string, Node> {
  const translated = new Map<string, Node>();
  for (const [path, node] of tree) {
    const slash = path.lastIndexOf('/') + 1;
    const name = path.slice(slash);
    if (name === '.wh..wh..opq') {
      const directory = translated.get(slash === 0 ? '.' : path.slice(0, slash - 1));
      if (directory !== undefined) directory.xattrs = { ...directory.xattrs, 'trusted.overlay.opaque': 'y' };
    } else if (name.startsWith('.wh.')) {
      translated.set(path.slice(0, slash) + name.slice(4), {
        type: 'character',
        mode: '0',
        owner: '0:0',
        links: 1,
        time: 0n,
        device: 0,
      });
    } else translated.set(path, node);
  }
  return translated;
}

/** Compares file by file, so that a difference names the file. The times of directories that no tar lists are nobody's. */
function assertSame(
  actual: Map<string, Node>,
  expected: Map<string, Node>,
  isUnlisted: (path: string) => boolean,
): void {
  assert.deepEqual(
    [...actual.keys()].filter((path) => !expected.has(path)),
    [],
  );
  for (const [path, node] of expected) {
    const mine = actual.get(path);
    assert.ok(mine, `${path} is missing`);
    if (node.type === 'directory' && isUnlisted(path))
      assert.deepEqual({ ...mine, time: 0n }, { ...node, time: 0n }, path);
    else assert.deepEqual(mine, node, path);
  }
}
