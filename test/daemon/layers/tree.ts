import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { extract } from 'tar-stream';
import { Builder } from '../../../src/daemon/layers/builder.ts';
import { mountErofs, unmount } from '../../../src/daemon/layers/mount.ts';
import type { Layer } from '../../../src/daemon/layers/layer.ts';

export const run = promisify(execFile);

/** Why tests that mount are skipped; false where they run. */
export const skipMounting = process.getuid?.() === 0 ? false : 'mounting an EROFS image needs root';

/** One file of a tree, as stat(2) and its content tell it. */
export interface Node {
  type: string;
  mode: string;
  owner: string;
  links: number;
  time: bigint;
  size?: number;
  device?: number;
  target?: string;
  content?: string;
  xattrs?: Record<string, string> | undefined;
}

export async function scratch(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'layerd-layers-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Builds an image from a tar that comes in pieces of the given length, and has fsck.erofs check it. */
export async function build(tar: Buffer, image: string, piece = tar.length): Promise<Layer> {
  const builder = new Builder(image);
  try {
    for (let at = 0; at < tar.length; at += piece) builder.write(tar.subarray(at, at + piece));
    const layer = builder.finish();
    await fsck(image);
    return layer;
  } catch (error) {
    builder.discard();
    throw error;
  }
}

/** Reads every block and checks every name; fails the test if anything is wrong. */
export async function fsck(image: string): Promise<void> {
  const { stdout, stderr } = await run('fsck.erofs', ['--extract', image]);
  assert.doesNotMatch(stdout + stderr, /error|corrupt|bogus|invalid/i);
}

/** The tree of an image as the kernel shows it. */
export async function mountedTree(image: string, folder: string): Promise<Map<string, Node>> {
  const directory = join(folder, 'mounted');
  await mkdir(directory, { recursive: true });
  await mountErofs(image, directory);
  try {
    return await readTree(directory);
  } finally {
    await unmount(directory);
  }
}

/** Everything below a directory by path, names as one character per byte; the directory itself is `.`. */
export async function readTree(root: string): Promise<Map<string, Node>> {
  const nodes = new Map<string, Node>();
  const visit = async (path: Buffer, name: string): Promise<void> => {
    const stat = await lstat(path, { bigint: true });
    const node: Node = {
      type: typeOf(Number(stat.mode)),
      mode: (Number(stat.mode) & 0o7777).toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      links: Number(stat.nlink),
      time: stat.mtimeNs,
    };
    if (stat.isFile()) {
      node.size = Number(stat.size);
      node.content = await digestOf(path);
    }
    if (stat.isSymbolicLink()) node.target = (await readlink(path, 'buffer')).toString('latin1');
    if (stat.isCharacterDevice() || stat.isBlockDevice()) node.device = Number(stat.rdev);
    nodes.set(name, node);
    if (!stat.isDirectory()) return;
    for (const child of await readdir(path, { encoding: 'buffer' })) {
      const childName = name === '.' ? child.toString('latin1') : `${name}/${child.toString('latin1')}`;
      await visit(Buffer.concat([path, Buffer.from('/'), child]), childName);
    }
  };
  await visit(Buffer.from(root), '.');
  for (const [path, xattrs] of await readXattrs(root)) {
    const node = nodes.get(path);
    if (node !== undefined) node.xattrs = xattrs;
  }
  return nodes;
}

/** Extended attributes, read by GNU tar, since Node cannot. */
async function readXattrs(root: string): Promise<Map<string, Record<string, string>>> {
  const found = new Map<string, Record<string, string>>();
  const child = spawn('tar', ['--format=pax', '--xattrs', '--xattrs-include=*', '--sparse', '-c', '-C', root, '.'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const reader = child.stdout.pipe(extract());
  for await (const entry of reader) {
    const records = Object.entries((entry.header as { pax?: Record<string, string> | null }).pax ?? {})
      .filter(([key]) => key.startsWith('SCHILY.xattr.'))
      .map(([key, value]) => [key.slice('SCHILY.xattr.'.length), value] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    const name = Buffer.from(entry.header.name.replace(/^\.\//, '').replace(/\/$/, '')).toString('latin1');
    if (records.length > 0) found.set(name === '' ? '.' : name, Object.fromEntries(records));
    entry.resume();
  }
  return found;
}

async function digestOf(path: Buffer): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex').slice(0, 16);
}

export const digestOfText = (text: string | Buffer): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 16);

const typeOf = (mode: number): string =>
  ({ 1: 'fifo', 2: 'character', 4: 'directory', 6: 'block', 8: 'file', 10: 'symlink', 12: 'socket' })[mode >> 12] ??
  '?';
