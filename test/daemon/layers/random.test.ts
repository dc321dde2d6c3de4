import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { tar, type Entry } from './tar-builder.ts';
import { build, digestOfText, mountedTree, scratch, skipMounting, type Node } from './tree.ts';

const KINDS = { file: '0', directory: '5', symlink: '2', fifo: '6', character: '3' } as const;

/** Few names, so that entries meet: replace each other, and lie in each other. */
const name = fc
  .oneof(
    { arbitrary: fc.constantFrom('a', 'b', 'c', '-', '.x', 'z'.repeat(200)), weight: 5 },
    { arbitrary: fc.string({ minLength: 1, maxLength: 20 }), weight: 1 },
  )
  .filter((text) => !/[/\0]/.test(text) && !/^\.\.?$|^\.wh\./.test(text) && Buffer.from(text).length <= 255);

const entry = fc.record({
  path: fc.array(name, { minLength: 1, maxLength: 4 }),
  kind: fc.constantFrom(...(Object.keys(KINDS) as (keyof typeof KINDS)[])),
  mode: fc.nat(0o7777),
  uid: fc.nat(70_000),
  gid: fc.nat(70_000),
  seconds: fc.integer({ min: -2_000_000, max: 5_000_000_000 }),
  nanoseconds: fc.nat(999_999_999),
  body: fc.oneof(
    fc.string({ maxLength: 50 }),
    fc.nat(20_000).map((length) => 'x'.repeat(length)),
  ),
  xattr: fc.option(
    fc.string({ minLength: 1, maxLength: 300 }).filter((text) => /^[ -~]+$/.test(text)),
    { nil: undefined },
  ),
});
type RandomEntry = typeof entry extends fc.Arbitrary<infer T> ? T : never;

/** What the tar's entries leave behind, by the plainest of models. Entries that the format refuses are left out of both. */
function model(entries: readonly RandomEntry[]): { kept: RandomEntry[]; nodes: Map<string, Partial<Node>> } {
  const nodes = new Map<string, Partial<Node>>();
  const kept: RandomEntry[] = [];
  for (const each of entries) {
    const names = each.path.map((text) => Buffer.from(text).toString('latin1'));
    const parents = names.slice(0, -1).map((_, index) => names.slice(0, index + 1).join('/'));
    if (parents.some((parent) => nodes.has(parent) && nodes.get(parent)?.type !== 'directory')) continue;
    kept.push(each);
    for (const parent of parents) {
      if (!nodes.has(parent)) nodes.set(parent, { type: 'directory', mode: '755', owner: '0:0', time: 0n });
    }
    const path = names.join('/');
    const before = nodes.get(path);
    if (before !== undefined && (before.type !== 'directory' || each.kind !== 'directory')) {
      for (const other of nodes.keys()) if (other.startsWith(`${path}/`)) nodes.delete(other);
    }
    const xattrs: Record<string, string> = {};
    const wasOpaque = before?.xattrs?.['trusted.overlay.opaque'] !== undefined;
    const replaces = before !== undefined && before.type !== 'directory';
    if (each.kind === 'directory' && (replaces || wasOpaque)) xattrs['trusted.overlay.opaque'] = 'y';
    if (each.xattr !== undefined) xattrs['trusted.t'] = each.xattr;
    nodes.set(path, {
      type: each.kind,
      mode: each.mode.toString(8),
      owner: `${each.uid}:${each.gid}`,
      time: BigInt(each.seconds) * 1_000_000_000n + BigInt(each.nanoseconds),
      ...(Object.keys(xattrs).length > 0 ? { xattrs } : {}),
      ...(each.kind === 'file' ? { size: Buffer.from(each.body).length, content: digestOfText(each.body) } : {}),
      ...(each.kind === 'symlink' ? { target: 'nowhere/at/all' } : {}),
      ...(each.kind === 'character' ? { device: 0x0501 } : {}),
    });
  }
  return { kept, nodes };
}

const toTar = (each: RandomEntry): Entry => ({
  type: KINDS[each.kind],
  mode: each.mode,
  uid: each.uid,
  gid: each.gid,
  ...(each.kind === 'file' ? { body: each.body } : {}),
  ...(each.kind === 'symlink' ? { target: 'nowhere/at/all' } : {}),
  ...(each.kind === 'character' ? { major: 5, minor: 1 } : {}),
  pax: {
    path: each.path.join('/'),
    mtime: decimal(BigInt(each.seconds) * 1_000_000_000n + BigInt(each.nanoseconds)),
    ...(each.xattr === undefined ? {} : { 'SCHILY.xattr.trusted.t': each.xattr }),
  },
});

function decimal(time: bigint): string {
  const absolute = time < 0n ? -time : time;
  const text = `${absolute / 1_000_000_000n}.${String(absolute % 1_000_000_000n).padStart(9, '0')}`;
  return time < 0n ? `-${text}` : text;
}

/** Files of the whole tree that are not directories have one link; a directory has one more for each that it holds. */
function withLinks(nodes: Map<string, Partial<Node>>): Map<string, Partial<Node>> {
  for (const [path, node] of nodes) {
    const inside = [...nodes].filter(
      ([other, { type }]) =>
        type === 'directory' && other.startsWith(`${path}/`) && !other.slice(path.length + 1).includes('/'),
    );
    node.links = node.type === 'directory' ? 2 + inside.length : 1;
  }
  return nodes;
}

describe('any tree', () => {
  it('comes back from a tar as the kernel mounts it', { skip: skipMounting, timeout: 120_000 }, async (t) => {
    const folder = await scratch(t);
    const image = join(folder, 'i.erofs');
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 40 }),
        fc.integer({ min: 1, max: 5000 }),
        async (entries, piece) => {
          const { kept, nodes } = model(entries);
          await build(tar(...kept.map(toTar)), image, piece);
          const actual = await mountedTree(image, folder);
          actual.delete('.');
          assert.deepEqual(
            new Map([...actual].sort(([a], [b]) => (a < b ? -1 : 1))),
            new Map([...withLinks(nodes)].sort(([a], [b]) => (a < b ? -1 : 1))),
          );
        },
      ),
      { numRuns: 40 },
    );
  });
});
