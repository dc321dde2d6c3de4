import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isKind } from '../../../src/protocol/errors.ts';
import { entryBytes, gnuLong, paxBody, tar, writeNumber, type Entry } from './tar-builder.ts';
import { build, digestOfText, mountedTree, run, scratch, skipMounting, readTree, type Node } from './tree.ts';

/** What a test expects of one path: only the fields that it names. */
type Expected = Record<string, Partial<Node>>;

const directory: Partial<Node> = { type: 'directory' };
const file = (content: string | Buffer): Partial<Node> => ({
  type: 'file',
  size: Buffer.from(content).length,
  content: digestOfText(content),
});
const whiteout: Partial<Node> = { type: 'character', device: 0, mode: '0', owner: '0:0' };
const opaque: Partial<Node> = { type: 'directory', xattrs: { 'trusted.overlay.opaque': 'y' } };

/** Checks that the tree has exactly these paths, besides its root, and what is said of each. */
function assertTree(actual: Map<string, Node>, expected: Expected): void {
  assert.deepEqual(
    [...actual.keys()].filter((path) => path !== '.' || '.' in expected).sort(),
    Object.keys(expected).sort(),
  );
  for (const [path, fields] of Object.entries(expected)) {
    const node = actual.get(path);
    assert.ok(node);
    for (const [key, value] of Object.entries(fields)) {
      assert.deepEqual(node[key as keyof Node], value, `${key} of ${path}`);
    }
  }
}

const long = 'd'.repeat(120);
const deepPath = Array.from({ length: 60 }, (_, index) => `level-${index}`).join('/');

const CASES: Record<string, { entries: (Entry | Buffer)[]; tree: Expected }> = {
  'an empty tar is an empty root of root': {
    entries: [],
    tree: { '.': { type: 'directory', mode: '755', owner: '0:0', links: 2, time: 0n } },
  },
  "the root's attributes come from its entry": {
    entries: [{ name: './', type: '5', mode: 0o1711, uid: 5, gid: 6, mtime: 77, pax: { 'SCHILY.xattr.user.a': 'b' } }],
    tree: { '.': { mode: '1711', owner: '5:6', time: 77_000_000_000n, xattrs: { 'user.a': 'b' } } },
  },
  'files, modes, owners and times are kept': {
    entries: [
      { name: 'bin/', type: '5', mode: 0o2775, uid: 0, gid: 50, mtime: 1_700_000_000 },
      { name: 'bin/su', body: 'su', mode: 0o4755, uid: 1, gid: 2, mtime: 12 },
      { name: 'bin/empty', mode: 0o600 },
      { name: 'bin/block', body: Buffer.alloc(4096, 7) },
      { name: 'bin/more', body: Buffer.alloc(10_000, 8), type: '7' },
    ],
    tree: {
      bin: { type: 'directory', mode: '2775', owner: '0:50', links: 2, time: 1_700_000_000_000_000_000n },
      'bin/su': { ...file('su'), mode: '4755', owner: '1:2', links: 1, time: 12_000_000_000n },
      'bin/empty': { ...file(''), mode: '600' },
      'bin/block': file(Buffer.alloc(4096, 7)),
      'bin/more': file(Buffer.alloc(10_000, 8)),
    },
  },
  'v7 headers are read, a directory told by its slash': {
    entries: [
      { name: 'old/', type: '\0', format: 'v7', mode: 0o700 },
      { name: 'old/file', type: '\0', format: 'v7', body: 'x' },
    ],
    tree: { old: { type: 'directory', mode: '700' }, 'old/file': file('x') },
  },
  'long paths come by prefix, by GNU long name and by pax': {
    entries: [
      { name: 'by-prefix', prefix: `${long}/sub`, body: '1' },
      gnuLong('L', `${long}/by-gnu-${'n'.repeat(200)}`),
      { name: 'cut', format: 'gnu', body: '2' },
      gnuLong('K', `${'../'.repeat(60)}target`),
      gnuLong('L', 'link'),
      { name: 'cut', format: 'gnu', type: '2', target: 'cut' },
      { name: 'cut', pax: { path: `${long}/by-pax-${'n'.repeat(200)}` }, body: '3' },
      { name: 'pax-link', type: '2', pax: { linkpath: 't'.repeat(4000) } },
      { name: 'longest-link', type: '2', pax: { linkpath: 't'.repeat(4095) } },
    ],
    tree: {
      [long]: directory,
      [`${long}/sub`]: { type: 'directory', mode: '755', owner: '0:0' },
      [`${long}/sub/by-prefix`]: file('1'),
      [`${long}/by-gnu-${'n'.repeat(200)}`]: file('2'),
      [`${long}/by-pax-${'n'.repeat(200)}`]: file('3'),
      link: { type: 'symlink', target: `${'../'.repeat(60)}target` },
      'pax-link': { type: 'symlink', target: 't'.repeat(4000) },
      'longest-link': { type: 'symlink', target: 't'.repeat(4095) },
    },
  },
  'numbers come in octal, base 256 and pax': {
    entries: [
      { name: 'gnu', format: 'gnu', uid: 3_000_000, gid: 4_294_967_294, mtime: 8_589_934_592, body: 'a' },
      { name: 'old', format: 'gnu', mtime: -5 },
      { name: 'pax', pax: { uid: '4294967294', gid: '2097152', mtime: '1700000000.123456789' } },
      { name: 'before', pax: { mtime: '-1.25', atime: '5', ctime: '6.5', comment: 'none' } },
      { name: 'sized', size: 0, pax: { size: '3' }, afterHeader: Buffer.from('abc'.padEnd(512, '\0')) },
    ],
    tree: {
      gnu: { ...file('a'), owner: '3000000:4294967294', time: 8_589_934_592_000_000_000n },
      old: { time: -5_000_000_000n },
      pax: { owner: '4294967294:2097152', time: 1_700_000_000_123_456_789n },
      before: { time: -1_250_000_000n },
      sized: file('abc'),
    },
  },
  'global pax headers hold until they are taken back': {
    entries: [
      { name: 'g', type: 'g', body: paxBody({ uid: '7', mtime: '9', comment: 'all' }) },
      { name: 'a' },
      { name: 'b', pax: { uid: '8' } },
      { name: 'c', uid: 3, pax: { uid: '' } },
    ],
    tree: {
      a: { owner: '7:0', time: 9_000_000_000n },
      b: { owner: '8:0' },
      c: { owner: '3:0' },
    },
  },
  'devices, fifos and symbolic links are metadata': {
    entries: [
      { name: 'null', type: '3', mode: 0o666, major: 1, minor: 3 },
      { name: 'disk', type: '4', mode: 0o660, gid: 6, major: 259, minor: 1_048_575 },
      { name: 'pipe', type: '6', mode: 0o600 },
      { name: 'link', type: '2', mode: 0o777, target: '/etc/passwd', uid: 9 },
    ],
    tree: {
      null: { type: 'character', mode: '666', device: 0x103 },
      disk: { type: 'block', owner: '0:6', mode: '660' },
      pipe: { type: 'fifo', mode: '600' },
      link: { type: 'symlink', target: '/etc/passwd', mode: '777', owner: '9:0' },
    },
  },
  'hard links share an inode and count': {
    entries: [
      { name: 'a', body: 'one', mtime: 3 },
      { name: 'd/', type: '5' },
      { name: 'd/b', type: '1', target: './a' },
      { name: 'c', type: '1', target: '/d/b' },
      { name: 'link', type: '2', target: 'nowhere' },
      { name: 'link2', type: '1', target: 'link' },
      { name: 'self', body: 's' },
      { name: 'self', type: '1', target: 'self' },
    ],
    tree: {
      a: { ...file('one'), links: 3, time: 3_000_000_000n },
      d: { type: 'directory', links: 2 },
      'd/b': { ...file('one'), links: 3 },
      c: { ...file('one'), links: 3 },
      link: { type: 'symlink', links: 2 },
      link2: { type: 'symlink', links: 2, target: 'nowhere' },
      self: { ...file('s'), links: 1 },
    },
  },
  'a hard link keeps the file whose first name was replaced': {
    entries: [
      { name: 'a', body: 'old' },
      { name: 'b', type: '1', target: 'a' },
      { name: 'a', body: 'new' },
    ],
    tree: { a: { ...file('new'), links: 1 }, b: { ...file('old'), links: 1 } },
  },
  'extended attributes are kept in every namespace that EROFS has': {
    entries: [
      {
        name: 'f',
        body: 'f',
        pax: {
          'SCHILY.xattr.user.empty': '',
          'SCHILY.xattr.user.big': 'v'.repeat(10_000),
          'SCHILY.xattr.user.value': 'x=y\nz',
          'SCHILY.xattr.trusted.t': '1',
          'SCHILY.xattr.security.s': '2',
        },
      },
      { name: 'l', type: '2', target: 'f', pax: { 'SCHILY.xattr.trusted.link': 'x' } },
      { name: 'big-link', type: '2', target: 'f', pax: { 'SCHILY.xattr.trusted.link': 'x'.repeat(4090) } },
      { name: 'bsd', pax: { 'LIBARCHIVE.xattr.user.a%20b': Buffer.from('value').toString('base64') } },
      { name: 'd', type: '5', pax: { 'SCHILY.xattr.user.d': 'y'.repeat(5000) } },
      { name: 'd/x' },
    ],
    tree: {
      f: {
        xattrs: {
          'security.s': '2',
          'trusted.t': '1',
          'user.big': 'v'.repeat(10_000),
          'user.empty': '',
          'user.value': 'x=y\nz',
        },
      },
      l: { type: 'symlink', target: 'f', xattrs: { 'trusted.link': 'x' } },
      'big-link': { type: 'symlink', target: 'f', xattrs: { 'trusted.link': 'x'.repeat(4090) } },
      bsd: { xattrs: { 'user.a b': 'value' } },
      d: { type: 'directory', xattrs: { 'user.d': 'y'.repeat(5000) } },
      'd/x': file(''),
    },
  },
  "overlayfs' own attributes and unknown namespaces are left out": {
    entries: [
      {
        name: 'f',
        pax: {
          'SCHILY.xattr.trusted.overlay.redirect': '/etc',
          'SCHILY.xattr.user.overlay.metacopy': '',
          'SCHILY.xattr.system.nfs4_acl': 'x',
          'SCHILY.xattr.user.kept': '1',
        },
      },
    ],
    tree: { f: { xattrs: { 'user.kept': '1' } } },
  },
  'names are bytes': {
    entries: [{ name: Buffer.from('caf\xe9\xff', 'latin1') }, { name: 'grün', body: 'u' }, { name: '-!,$', body: 'x' }],
    tree: { 'caf\xe9\xff': file(''), [Buffer.from('grün').toString('latin1')]: file('u'), '-!,$': file('x') },
  },
  'the last entry of a path wins': {
    entries: [
      { name: 'f', body: 'first', uid: 1, pax: { 'SCHILY.xattr.user.a': 'b' } },
      { name: './f', body: 'second' },
      { name: 'x', body: 'file' },
      { name: 'x', type: '2', target: 'y' },
      { name: 'd/', type: '5', mode: 0o700 },
      { name: 'd/kept' },
      { name: 'd', type: '5', mode: 0o711 },
    ],
    tree: {
      f: { ...file('second'), owner: '0:0', xattrs: undefined },
      x: { type: 'symlink', target: 'y' },
      d: { type: 'directory', mode: '711' },
      'd/kept': file(''),
    },
  },
  'a file replaces a directory with all that is in it, and back': {
    entries: [
      { name: 'a/b/c', body: 'deep' },
      { name: 'outside', type: '1', target: 'a/b/c' },
      { name: 'a', body: 'file' },
      { name: 'b', body: 'file' },
      { name: 'b/', type: '5', mode: 0o700 },
      { name: 'b/new', body: 'n' },
      { name: 'c/old' },
      { name: 'c', body: 'file' },
      { name: 'c', type: '5' },
      { name: 'c/new' },
    ],
    tree: {
      a: { ...file('file'), links: 1 },
      outside: { ...file('deep'), links: 1 },
      b: { ...opaque, mode: '700' },
      'b/new': file('n'),
      c: opaque,
      'c/new': file(''),
    },
  },
  'a directory whose entry follows its children keeps them': {
    entries: [
      { name: 'd/e/f', body: 'x' },
      { name: 'd/', type: '5', mode: 0o750, mtime: 4 },
    ],
    tree: {
      d: { type: 'directory', mode: '750', time: 4_000_000_000n, links: 3 },
      'd/e': { type: 'directory', mode: '755', links: 2 },
      'd/e/f': file('x'),
    },
  },
  'removals have the form that overlayfs wants in a lower layer': {
    entries: [
      { name: '.wh.gone', mode: 0o400 },
      { name: 'd/', type: '5' },
      { name: 'd/.wh.also', type: '2', target: 'x' },
      { name: 'o/', type: '5', pax: { 'SCHILY.xattr.user.a': 'b' } },
      { name: 'o/.wh..wh..opq' },
      { name: 'implicit/.wh..wh..opq' },
    ],
    tree: {
      gone: whiteout,
      d: { type: 'directory', xattrs: undefined },
      'd/also': whiteout,
      o: { type: 'directory', xattrs: { 'trusted.overlay.opaque': 'y', 'user.a': 'b' } },
      implicit: opaque,
    },
  },
  'an entry stays beside a removal of its name, and hides what was below': {
    entries: [
      { name: 'a' },
      { name: '.wh.a' },
      { name: '.wh.b' },
      { name: 'b', body: 'b' },
      { name: 'c/x' },
      { name: '.wh.c' },
      { name: '.wh.d' },
      { name: 'd', type: '5' },
      { name: '.wh.e' },
      { name: 'e/x' },
      { name: '.wh.f' },
      { name: '.wh.f' },
    ],
    tree: {
      a: file(''),
      b: file('b'),
      c: opaque,
      'c/x': file(''),
      d: opaque,
      e: opaque,
      'e/x': file(''),
      f: whiteout,
    },
  },
  "aufs' own files do not show, but can be linked to": {
    entries: [
      { name: '.wh..wh.aufs' },
      { name: '.wh..wh.orph/', type: '5' },
      { name: '.wh..wh.plnk/', type: '5' },
      { name: '.wh..wh.plnk/12.3', body: 'linked' },
      { name: 'a', type: '1', target: '.wh..wh.plnk/12.3' },
      { name: 'd/.wh..wh.other' },
    ],
    tree: { a: { ...file('linked'), links: 1 }, d: directory },
  },
  'paths are taken from the root and cannot leave it': {
    entries: [
      { name: '/abs', body: '1' },
      { name: '../../up', body: '2' },
      { name: 'a/./b/../c', body: '3' },
      { name: '//x//y', body: '4' },
      { name: 'hard', type: '1', target: '../../../abs' },
    ],
    tree: {
      abs: { ...file('1'), links: 2 },
      up: file('2'),
      a: directory,
      'a/c': file('3'),
      x: directory,
      'x/y': file('4'),
      hard: file('1'),
    },
  },
  'a link to a directory of the layer is followed inside it, never out': {
    entries: [
      { name: 'usr/lib/', type: '5' },
      { name: 'lib', type: '2', target: 'usr/lib' },
      { name: 'lib/file', body: '1' },
      { name: 'usr/up', type: '2', target: '../../../..' },
      { name: 'usr/up/etc/passwd', body: '2' },
      { name: 'abs', type: '2', target: '/tmp/new' },
      { name: 'abs/file', body: '3' },
      { name: 'hard', type: '1', target: 'lib/file' },
      { name: 'lib/.wh.old' },
    ],
    tree: {
      usr: { type: 'directory', links: 3 },
      'usr/lib': directory,
      lib: { type: 'symlink', target: 'usr/lib' },
      'usr/lib/file': { ...file('1'), links: 2 },
      hard: { links: 2 },
      'usr/up': { type: 'symlink' },
      etc: directory,
      'etc/passwd': file('2'),
      abs: { type: 'symlink' },
      tmp: directory,
      'tmp/new': directory,
      'tmp/new/file': file('3'),
      'usr/lib/old': whiteout,
    },
  },
  'a directory replaces a link to one': {
    entries: [{ name: 'real/x' }, { name: 'd', type: '2', target: 'real' }, { name: 'd/', type: '5' }, { name: 'd/y' }],
    tree: { real: directory, 'real/x': file(''), d: opaque, 'd/y': file('') },
  },
  'sparse files of every form have their holes': {
    entries: [
      {
        name: 'gnu',
        format: 'gnu',
        type: 'S',
        body: 'abcdef',
        patch: (header) => {
          writeNumber(header, 8192, 386, 12);
          writeNumber(header, 3, 398, 12);
          writeNumber(header, 3_000_000, 410, 12);
          writeNumber(header, 3, 422, 12);
          writeNumber(header, 3_000_100, 483, 12);
        },
      },
      {
        name: 'extended',
        format: 'gnu',
        type: 'S',
        body: 'vwxyz',
        patch: (header) => {
          for (let index = 0; index < 4; index += 1) {
            writeNumber(header, index * 10, 386 + index * 24, 12);
            writeNumber(header, 1, 398 + index * 24, 12);
          }
          header[482] = 1;
          writeNumber(header, 50, 483, 12);
        },
        afterHeader: (() => {
          const block = Buffer.alloc(512);
          writeNumber(block, 49, 0, 12);
          writeNumber(block, 1, 12, 12);
          return block;
        })(),
      },
      {
        name: 'GNUSparseFile.0/x',
        body: 'ab',
        pax: { 'GNU.sparse.size': '6', 'GNU.sparse.map': '1,1,4,1', 'GNU.sparse.name': 'v0.1' },
      },
      {
        name: 'x',
        type: 'x',
        body: paxBody([
          ['GNU.sparse.size', '6'],
          ['GNU.sparse.numblocks', '2'],
          ['GNU.sparse.offset', '0'],
          ['GNU.sparse.numbytes', '1'],
          ['GNU.sparse.offset', '3'],
          ['GNU.sparse.numbytes', '1'],
          ['path', 'v0.0'],
        ]),
      },
      { name: 'cut', body: 'ab' },
      {
        name: 'GNUSparseFile.0/x',
        body: Buffer.concat([Buffer.from('2\n5\n1\n100000\n2\n'.padEnd(512, '\0')), Buffer.from('abc')]),
        pax: {
          'GNU.sparse.major': '1',
          'GNU.sparse.minor': '0',
          'GNU.sparse.name': 'v1.0',
          'GNU.sparse.realsize': '100002',
        },
      },
      {
        name: 'hole',
        body: '0\n'.padEnd(512, '\0'),
        pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '5000' },
      },
      { name: 'after', body: 'after' },
    ],
    tree: {
      gnu: file(
        Buffer.concat([
          Buffer.alloc(8192),
          Buffer.from('abc'),
          Buffer.alloc(3_000_000 - 8195),
          Buffer.from('def'),
          Buffer.alloc(97),
        ]),
      ),
      extended: file(`v${'\0'.repeat(9)}w${'\0'.repeat(9)}x${'\0'.repeat(9)}y${'\0'.repeat(18)}z`),
      'v0.1': file('\0a\0\0b\0'),
      'v0.0': file('a\0\0b\0\0'),
      'v1.0': file(Buffer.concat([Buffer.from('\0\0\0\0\0a'), Buffer.alloc(99_994), Buffer.from('bc')])),
      hole: file(Buffer.alloc(5000)),
      after: file('after'),
    },
  },
  'a tar may end without its marker, or with half of it': {
    entries: [{ name: 'f', body: 'x' }],
    tree: { f: file('x') },
  },
  'deep paths are kept': {
    entries: [{ name: '', pax: { path: `${deepPath}/file` }, body: 'deep' }],
    tree: Object.fromEntries([
      ...deepPath.split('/').map((_, index, names) => [names.slice(0, index + 1).join('/'), directory] as const),
      [`${deepPath}/file`, file('deep')] as const,
    ]),
  },
};

describe('an EROFS image of a layer', () => {
  for (const [name, { entries, tree }] of Object.entries(CASES)) {
    it(name, async (t) => {
      const folder = await scratch(t);
      const bytes = Buffer.concat([
        ...entries.map((entry) => (Buffer.isBuffer(entry) ? entry : entryBytes(entry))),
        Buffer.alloc(name.includes('without its marker') ? 512 : 1024),
      ]);
      const image = join(folder, 'whole.erofs');
      const layer = await build(bytes, image);
      // However the tar is cut into pieces, the image is the same.
      const pieces = join(folder, 'pieces.erofs');
      assert.deepEqual(await build(bytes, pieces, 97), layer);
      assert.deepEqual(await readFile(pieces), await readFile(image));
      assert.equal((await stat(image)).size, layer.imageSize);
      if (skipMounting === false) assertTree(await mountedTree(image, folder), tree);
      else t.diagnostic(`not mounted: ${skipMounting}`);
    });
  }

  it('tells how many bytes its files have, each once', async (t) => {
    const { size, fileBytes } = await build(
      tar(
        { name: 'directory/', type: '5' },
        { name: 'directory/file', body: Buffer.alloc(5000) },
        { name: 'link', type: '1', target: 'directory/file' },
        { name: 'replaced', body: Buffer.alloc(300) },
        { name: 'replaced', body: Buffer.alloc(20) },
        { name: 'gone/file', body: Buffer.alloc(700) },
        { name: 'gone', body: '' },
        { name: 'symlink', type: '2', target: 'directory' },
        { name: 'device', type: '3', major: 1, minor: 3 },
        { name: '.wh.removed' },
        { name: '.wh..wh.plnk/1', body: Buffer.alloc(40) },
      ),
      join(await scratch(t), 'image.erofs'),
    );
    assert.equal(fileBytes, 5000 + 20 + 'directory'.length);
    assert.ok(size > 5000 + 320);
  });

  it('sorts directories of any size by bytes', { skip: skipMounting }, async (t) => {
    const folder = await scratch(t);
    const names = Array.from(
      { length: 3000 },
      (_, index) => `${'!-.0aZ~'.charAt(index % 7)}${index}-${'n'.repeat(index % 200)}`,
    );
    // Lookups go through the kernel's binary search, and a list through every block.
    await build(tar(...names.map((name) => ({ pax: { path: `d/${name}` }, body: name }))), join(folder, 'i.erofs'));
    assertTree(await mountedTree(join(folder, 'i.erofs'), folder), {
      d: directory,
      ...Object.fromEntries(names.map((name) => [`d/${name}`, file(name)])),
    });
  });

  it('equals what GNU tar extracts from its own archives', { skip: skipMounting }, async (t) => {
    const folder = await scratch(t);
    await run(
      'sh',
      [
        '-c',
        `set -e; mkdir src; cd src
       mkdir -p a/b "with space" ; echo one > a/one; ln a/one a/b/two; ln -s ../one a/b/sym; mkfifo pipe; mknod null c 1 3
       truncate -s 5M sparse; echo end >> sparse; echo x | dd of=sparse bs=1 seek=100000 conv=notrunc status=none
       printf x > ${'l'.repeat(150)}; mkdir -p ${'p'.repeat(120)}/${'q'.repeat(120)}; printf y > ${'p'.repeat(120)}/${'q'.repeat(120)}/f
       chmod 6755 a/one; chown 1234:70000 a/b; chown -h 5:6 a/b/sym; touch -d '2001-02-03 04:05:06.789123456' a/one`,
      ],
      { cwd: folder },
    );
    for (const format of ['v7', 'oldgnu', 'gnu', 'ustar', 'posix']) {
      const archive = join(folder, `${format}.tar`);
      const extra =
        format === 'v7' || format === 'ustar' ? ['--exclude=l*', '--exclude=p*', '--exclude=null'] : ['--sparse'];
      await run('tar', [
        `--format=${format}`,
        '--xattrs',
        '--numeric-owner',
        ...extra,
        '-cf',
        archive,
        '-C',
        join(folder, 'src'),
        '.',
      ]);
      const extracted = join(folder, `${format}.d`);
      await run('mkdir', [extracted]);
      await run('tar', ['--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', archive, '-C', extracted]);
      await build(await readFile(archive), join(folder, 'i.erofs'));
      assert.deepEqual(await mountedTree(join(folder, 'i.erofs'), folder), await readTree(extracted), format);
    }
  });

  it('keeps capabilities and ACLs in their binary form', { skip: skipMounting }, async (t) => {
    const folder = await scratch(t);
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
    const acl = Buffer.from(
      '0200000001000600ffffffff020006002a00000004000400ffffffff10000600ffffffff20000400ffffffff',
      'hex',
    );
    await build(
      tar(
        { name: 'ping', pax: { 'SCHILY.xattr.security.capability': capability } },
        { name: 'shared', mode: 0o664, pax: { 'SCHILY.xattr.system.posix_acl_access': acl } },
        { name: 'd', type: '5', pax: { 'SCHILY.xattr.system.posix_acl_default': acl } },
      ),
      join(folder, 'i.erofs'),
    );
    await writeFile(join(folder, 'marker'), '');
    const image = await readFile(join(folder, 'i.erofs'));
    assert.ok(image.includes(Buffer.concat([Buffer.from('capability'), capability])));
    const tree = await mountedTree(join(folder, 'i.erofs'), folder);
    assert.deepEqual(Object.keys(tree.get('ping')?.xattrs ?? {}), ['security.capability']);
    assert.deepEqual(Object.keys(tree.get('shared')?.xattrs ?? {}), ['system.posix_acl_access']);
    assert.deepEqual(Object.keys(tree.get('d')?.xattrs ?? {}), ['system.posix_acl_default']);
  });

  it('cannot be mounted before it is complete', async (t) => {
    const folder = await scratch(t);
    const image = join(folder, 'i.erofs');
    const { Builder } = await import('../../../src/daemon/layers/builder.ts');
    const builder = new Builder(image);
    builder.write(tar({ name: 'f', body: Buffer.alloc(3_000_000, 1) }));
    const head = (await readFile(image)).subarray(0, 4096);
    assert.ok(head.equals(Buffer.alloc(4096)));
    builder.discard();
    await assert.rejects(stat(image), { code: 'ENOENT' });
  });
});

const HOSTILE: Record<string, { bytes: Buffer; message: RegExp }> = {
  'a truncated header': { bytes: tar({ name: 'f' }).subarray(0, 300), message: /middle of an entry/ },
  'truncated content': {
    bytes: tar({ name: 'f', body: 'x'.repeat(2000) }).subarray(0, 1500),
    message: /middle of an entry/,
  },
  'truncated padding': { bytes: tar({ name: 'f', body: 'x' }).subarray(0, 700), message: /middle of an entry/ },
  'an extension without its entry': {
    bytes: entryBytes({ type: 'x', body: paxBody({ path: 'x' }) }),
    message: /middle of an entry/,
  },
  'a wrong checksum': { bytes: tar({ name: 'f', checksumError: 1 }), message: /checksum/ },
  'something that is no tar': { bytes: Buffer.alloc(1024, 'hello '), message: /malformed number|checksum/ },
  'a header after a block of zeros': {
    bytes: Buffer.concat([Buffer.alloc(512), tar({ name: 'f' })]),
    message: /block of zeros/,
  },
  'a negative size': { bytes: tar({ name: 'f', size: -1, format: 'gnu' }), message: /negative size/ },
  'a hard link to nothing': { bytes: tar({ name: 'a', type: '1', target: 'b' }), message: /not an earlier entry/ },
  'a hard link to the root': { bytes: tar({ name: 'a', type: '1', target: '..' }), message: /not an earlier entry/ },
  'a hard link to a later entry': {
    bytes: tar({ name: 'a', type: '1', target: 'b' }, { name: 'b' }),
    message: /not an earlier entry/,
  },
  'a hard link to a removed file': {
    bytes: tar({ name: '.wh.b' }, { name: 'a', type: '1', target: 'b' }),
    message: /not an earlier entry/,
  },
  'a hard link to a directory': {
    bytes: tar({ name: 'b', type: '5' }, { name: 'a', type: '1', target: 'b' }),
    message: /directory/,
  },
  'an entry below a file': { bytes: tar({ name: 'f' }, { name: 'f/x' }), message: /not a directory/ },
  'an entry below a link to itself': {
    bytes: tar({ name: 'l', type: '2', target: 'l' }, { name: 'l/x' }),
    message: /too many symbolic links/,
  },
  'a file as the root': { bytes: tar({ name: './', body: 'x' }), message: /as its root/ },
  'a removal of nothing': { bytes: tar({ name: 'd/.wh.' }), message: /names no file/ },
  'a removal of the parent': { bytes: tar({ name: 'd/.wh...' }), message: /names no file/ },
  'a name that is too long': { bytes: tar({ pax: { path: `a/${'n'.repeat(256)}` } }), message: /at most 255/ },
  'a path that is too long': { bytes: tar({ pax: { path: 'a/'.repeat(2049) } }), message: /at most 4096/ },
  'a link target that is too long': {
    bytes: tar({ name: 'l', type: '2', pax: { linkpath: 't'.repeat(4096) } }),
    message: /4095/,
  },
  'a link target that is empty': { bytes: tar({ name: 'l', type: '2' }), message: /target of 0 bytes/ },
  'a path with a zero byte': { bytes: tar({ pax: { path: 'a\0b' } }), message: /zero byte/ },
  'a huge pax header': {
    bytes: entryBytes({ type: 'x', size: 2 ** 30 }),
    message: /extension headers of 1073741824 bytes/,
  },
  'many large pax headers before one entry': {
    bytes: tar(...[1, 2].map((n) => ({ type: 'x', body: paxBody({ [`comment${n}`]: 'x'.repeat(600_000) }) }))),
    message: /extension headers of 1200\d{3} bytes/,
  },
  'global pax headers that pile up': {
    bytes: tar(...[1, 2].map((n) => ({ type: 'g', body: paxBody({ [`comment${n}`]: 'x'.repeat(600_000) }) }))),
    message: /global pax headers that say 1200\d{3} bytes/,
  },
  'a pax record that is too long for its header': {
    bytes: tar({ type: 'x', body: '99 path=x\n' }),
    message: /malformed pax record/,
  },
  'a pax record without a length': { bytes: tar({ type: 'x', body: 'path=x\n' }), message: /malformed pax record/ },
  'a pax record without a key': { bytes: tar({ type: 'x', body: '5 =x\n' }), message: /without a key/ },
  'a pax number that is none': { bytes: tar({ name: 'f', pax: { uid: '-1' } }), message: /not a number/ },
  'a pax time that is none': { bytes: tar({ name: 'f', pax: { mtime: 'now' } }), message: /not a number/ },
  'an owner that is too large': { bytes: tar({ name: 'f', pax: { uid: '4294967295' } }), message: /owner/ },
  'a device that is too large': { bytes: tar({ name: 'f', type: '3', major: 4096 }), message: /device 4096:0/ },
  'an unknown type': { bytes: tar({ name: 'f', type: 'V' }), message: /type "V"/ },
  'a sparse map out of order': {
    bytes: tar({ name: 'f', body: 'ab', pax: { 'GNU.sparse.size': '9', 'GNU.sparse.map': '4,1,1,1' } }),
    message: /out of order/,
  },
  'a sparse map beyond the size': {
    bytes: tar({ name: 'f', body: 'ab', pax: { 'GNU.sparse.size': '5', 'GNU.sparse.map': '1,1,5,1' } }),
    message: /does not fit/,
  },
  'a sparse map that does not match its data': {
    bytes: tar({ name: 'f', body: 'abc', pax: { 'GNU.sparse.size': '9', 'GNU.sparse.map': '1,1,5,1' } }),
    message: /does not fit/,
  },
  'a sparse map of nonsense': {
    bytes: tar({ name: 'f', body: 'x'.repeat(512), pax: { 'GNU.sparse.major': '1', 'GNU.sparse.realsize': '5' } }),
    message: /malformed/,
  },
  'a sparse map with too many pieces': {
    bytes: tar({
      name: 'f',
      body: '9999999\n'.repeat(64),
      pax: { 'GNU.sparse.major': '1', 'GNU.sparse.realsize': '5' },
    }),
    message: /more than 131072 pieces/,
  },
  'a sparse file larger than an image can be': {
    bytes: tar({ name: 'f', pax: { 'GNU.sparse.size': String(2 ** 45), 'GNU.sparse.map': '0,0' } }),
    message: /larger than/,
  },
  'an attribute that is too large': {
    bytes: tar({ name: 'f', pax: { 'SCHILY.xattr.user.a': 'v'.repeat(65_536) } }),
    message: /at most 255 and 65535/,
  },
};

describe('a hostile or damaged tar', () => {
  for (const [name, { bytes, message }] of Object.entries(HOSTILE)) {
    it(`is refused for ${name}, and leaves no image`, async (t) => {
      const image = join(await scratch(t), 'i.erofs');
      await assert.rejects(build(bytes, image), (error: unknown) => {
        assert.ok(isKind(error, 'corrupt'));
        assert.match(error.message, message);
        return true;
      });
      await assert.rejects(stat(image), { code: 'ENOENT' });
    });
  }
});
