import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { Digest } from '../../../src/protocol/digest.ts';
import { isKind, type ErrorKind } from '../../../src/protocol/errors.ts';
import type { Unpacking } from '../../../src/daemon/layers/layer.ts';
import { Unpacker } from '../../../src/daemon/layers/unpacker.ts';
import { tar } from './tar-builder.ts';
import { build, fsck, run, scratch, skipMounting } from './tree.ts';

const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A layer of many small files and a large one, longer than all buffers on its way. */
const layer = tar(
  ...Array.from({ length: 200 }, (_, index) => ({
    name: `etc/file-${index}`,
    body: `content ${index} `.repeat(index),
  })),
  { name: 'large', body: randomBytes(6_000_000) },
);
const blob = gzipSync(layer, { level: 1 });

const isError =
  (kind: ErrorKind, message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(isKind(error, kind), String(error));
    assert.match(error.message, message);
    return true;
  };

for (const [threads, pairBytes] of [
  ['one thread', Infinity],
  ['two threads', 0],
] as const) {
  describe(`an unpacker with ${threads} for each layer`, () => unpacking(pairBytes));
}

/** What holds however many threads a layer gets. */
function unpacking(pairBytes: number): void {
  let unpacker: Unpacker;
  before(() => (unpacker = new Unpacker({ concurrency: 2, pairBytes })));
  after(() => unpacker.close());

  interface Job {
    readonly unpacking: Unpacking;
    readonly blobPath: string;
    readonly imagePath: string;
    readonly progress: number[];
  }
  async function start(
    t: TestContext,
    bytes: Uint8Array,
    options: { resumeAt?: number; digest?: Digest; folder?: string } = {},
  ): Promise<Job> {
    const folder = options.folder ?? (await scratch(t));
    const blobPath = join(folder, 'blob');
    const imagePath = join(folder, 'image');
    const progress: number[] = [];
    const unpacking = unpacker.start({
      blobPath,
      imagePath,
      resumeAt: options.resumeAt ?? 0,
      expected: { digest: options.digest ?? digestOf(bytes), size: bytes.length },
      onProgress: ({ consumed }) => progress.push(consumed),
    });
    return { unpacking, blobPath, imagePath, progress };
  }

  async function writeAll(unpacking: Unpacking, bytes: Uint8Array, piece = 65_536): Promise<void> {
    for (let at = 0; at < bytes.length; at += piece) await unpacking.write(bytes.subarray(at, at + piece));
  }

  const isGone = (path: string): Promise<void> => assert.rejects(stat(path), { code: 'ENOENT' });

  const middle = Math.floor(layer.length / 2);
  const FORMS: Record<string, Buffer> = {
    gzip: blob,
    'gzip of several members': Buffer.concat([
      gzipSync(layer.subarray(0, 1000)),
      gzipSync(Buffer.alloc(0)),
      gzipSync(layer.subarray(1000)),
    ]),
    zstd: zstdCompressSync(layer),
    'zstd of several frames, one to skip': Buffer.concat([
      Buffer.from('502a4d1803000000616263', 'hex'),
      zstdCompressSync(layer.subarray(0, middle)),
      zstdCompressSync(layer.subarray(middle)),
    ]),
    'a plain tar': layer,
  };
  for (const [name, bytes] of Object.entries(FORMS)) {
    it(`unpacks ${name} to the same image, with both digests`, async (t) => {
      const { unpacking, blobPath, imagePath, progress } = await start(t, bytes);
      await writeAll(unpacking, bytes);
      const result = await unpacking.finish();
      const reference = `${imagePath}.reference`;
      assert.deepEqual(result, { ...(await build(layer, reference)), digest: digestOf(bytes), blobSize: bytes.length });
      assert.equal(result.diffId, digestOf(layer));
      assert.deepEqual(await readFile(imagePath), await readFile(reference));
      assert.deepEqual(await readFile(blobPath), bytes);
      assert.equal(progress.at(-1), bytes.length);
    });
  }

  it('takes an empty layer, in pieces of a byte', async (t) => {
    for (const bytes of [gzipSync(Buffer.alloc(1024)), gzipSync(Buffer.alloc(0)), Buffer.alloc(0)]) {
      const { unpacking, imagePath } = await start(t, bytes);
      await writeAll(unpacking, bytes, 1);
      await unpacking.finish();
      await fsck(imagePath);
    }
  });

  it('resumes from what is in the file, and cuts off what is beyond', async (t) => {
    const folder = await scratch(t);
    await writeFile(join(folder, 'blob'), Buffer.concat([blob.subarray(0, 4_000_000), Buffer.from('beyond')]));
    const { unpacking, blobPath } = await start(t, blob, { folder, resumeAt: 4_000_000 });
    await writeAll(unpacking, blob.subarray(4_000_000));
    assert.equal((await unpacking.finish()).diffId, digestOf(layer));
    assert.deepEqual(await readFile(blobPath), blob);
  });

  it('unpacks a blob that is stored already, without writing to it', async (t) => {
    const folder = await scratch(t);
    await writeFile(join(folder, 'blob'), blob, { mode: 0o400 });
    const { mtimeMs } = await stat(join(folder, 'blob'));
    const { unpacking, blobPath } = await start(t, blob, { folder, resumeAt: blob.length });
    assert.equal((await unpacking.finish()).digest, digestOf(blob));
    assert.equal((await stat(blobPath)).mtimeMs, mtimeMs);
  });

  it('names both digests when the bytes are not what was asked for, and leaves nothing', async (t) => {
    const digest = digestOf(Buffer.from('other'));
    const { unpacking, blobPath, imagePath } = await start(t, blob, { digest });
    await writeAll(unpacking, blob);
    await assert.rejects(
      unpacking.finish(),
      isError('corrupt', new RegExp(`${digestOf(blob)}.* expected .*${digest}`)),
    );
    await isGone(blobPath);
    await isGone(imagePath);
    // Whoever cleans up after any failure may say so.
    await unpacking.abort();
  });

  it('names both digests also when the bytes cannot even be decompressed', async (t) => {
    const damaged = Buffer.from(blob);
    damaged.fill(0xff, 100, 200);
    const { unpacking, blobPath, imagePath } = await start(t, blob);
    await writeAll(unpacking, damaged);
    await assert.rejects(
      unpacking.finish(),
      isError('corrupt', new RegExp(`${digestOf(damaged)}.* expected .*${digestOf(blob)}`)),
    );
    await isGone(blobPath);
    await isGone(imagePath);
  });

  it('refuses fewer and more bytes than there should be', async (t) => {
    const short = await start(t, blob);
    await writeAll(short.unpacking, blob.subarray(0, -1));
    await assert.rejects(short.unpacking.finish(), isError('corrupt', /expected/));
    await isGone(short.blobPath);

    const long = await start(t, blob);
    await assert.rejects(
      async () => {
        await writeAll(long.unpacking, Buffer.concat([blob, Buffer.alloc(10_000_000)]));
        await long.unpacking.finish();
      },
      isError('corrupt', /more than the \d+ bytes came/),
    );
    await isGone(long.blobPath);
    await isGone(long.imagePath);
  });

  const BROKEN: Record<string, [Buffer, RegExp]> = {
    'truncated gzip': [blob.subarray(0, -4), /as it was published, but .*not valid gzip/],
    'gzip with a wrong checksum': [
      Buffer.concat([blob.subarray(0, -8), Buffer.alloc(4), blob.subarray(-4)]),
      /not valid gzip/,
    ],
    'gzip with something behind it': [Buffer.concat([blob, Buffer.from('garbage')]), /not valid gzip/],
    'gzip with zeros behind it': [Buffer.concat([blob, Buffer.alloc(100)]), /not valid gzip/],
    'truncated zstd': [zstdCompressSync(layer).subarray(0, -9), /not valid zstd|middle of an entry/],
    'zstd with something behind it': [
      Buffer.concat([zstdCompressSync(layer), Buffer.from('garbage')]),
      /not valid zstd/,
    ],
    'a damaged tar': [gzipSync(tar({ name: 'f', checksumError: 1 })), /checksum/],
    text: [Buffer.from('<html>'.repeat(1000)), /checksum|malformed/],
  };
  for (const [name, [bytes, message]] of Object.entries(BROKEN)) {
    it(`refuses ${name} that was published like this, and leaves the blob to others`, async (t) => {
      const { unpacking, blobPath, imagePath } = await start(t, bytes);
      await writeAll(unpacking, bytes);
      await assert.rejects(unpacking.finish(), isError('invalid', message));
      assert.deepEqual(await readFile(blobPath), bytes);
      await isGone(imagePath);
    });
  }

  it('refuses a layer that is made to fill the disk', async (t) => {
    const bomb = zstdCompressSync(Buffer.alloc(200_000_000));
    const { unpacking, imagePath } = await start(t, bomb);
    await writeAll(unpacking, bomb);
    await assert.rejects(unpacking.finish(), isError('invalid', /expand to more than/));
    await isGone(imagePath);
  });

  it('keeps the bytes of the blob when it is aborted, and can go on from there', async (t) => {
    const folder = await scratch(t);
    const first = await start(t, blob, { folder });
    await writeAll(first.unpacking, blob.subarray(0, 5_000_000));
    await first.unpacking.abort();
    await isGone(first.imagePath);
    await assert.rejects(first.unpacking.write(Buffer.from('x')), isError('cancelled', /given up/));
    await assert.rejects(first.unpacking.finish(), isError('cancelled', /given up/));
    const kept = (await stat(first.blobPath)).size;
    assert.ok(kept > 0 && kept <= 5_000_000);
    const second = await start(t, blob, { folder, resumeAt: kept });
    await writeAll(second.unpacking, blob.subarray(kept));
    assert.equal((await second.unpacking.finish()).diffId, digestOf(layer));
  });

  it('has further unpackings wait, and lets them be aborted while they do', async (t) => {
    const jobs = await Promise.all(Array.from({ length: 6 }, () => start(t, blob)));
    await jobs[5]?.unpacking.abort();
    const results = await Promise.allSettled(
      jobs.map(async ({ unpacking }) => {
        await writeAll(unpacking, blob);
        return unpacking.finish();
      }),
    );
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'fulfilled', 'rejected'],
    );
  });

  it('takes on another limit while unpackings wait', async (t) => {
    const other = new Unpacker({ concurrency: 1, pairBytes });
    t.after(() => other.close());
    const begin = async (): Promise<Unpacking> => {
      const folder = await scratch(t);
      const paths = { blobPath: join(folder, 'blob'), imagePath: join(folder, 'image') };
      return other.start({ ...paths, resumeAt: 0, expected: { digest: digestOf(blob), size: blob.length } });
    };
    // The first does not go on before the second does.
    const [first, second] = [await begin(), await begin()];
    other.concurrency = 2;
    await writeAll(second, blob);
    assert.equal((await second.finish()).diffId, digestOf(layer));
    await writeAll(first, blob);
    assert.equal((await first.finish()).diffId, digestOf(layer));
  });

  it('gives no layer to a thread that is ending because it was idle', async (t) => {
    const other = new Unpacker({ concurrency: 1, pairBytes, idleMilliseconds: 1 });
    t.after(() => other.close());
    const small = gzipSync(tar({ name: 'f' }));
    const expected = { digest: digestOf(small), size: small.length };
    const folder = await scratch(t);
    for (let round = 0; round < 10; round += 1) {
      const paths = { blobPath: join(folder, `blob${round}`), imagePath: join(folder, `image${round}`) };
      const unpacking = other.start({ ...paths, resumeAt: 0, expected });
      await unpacking.write(small);
      await unpacking.finish();
      // About when the thread ends.
      await sleep(round / 3);
    }
  });

  it('makes a writer wait while the worker is behind, and wakes it when the unpacking fails', async (t) => {
    const folder = await scratch(t);
    await mkdir(join(folder, 'image'));
    const { unpacking } = await start(t, blob, { folder });
    // The image cannot be opened, so nobody takes the bytes out of the ring.
    await assert.rejects(writeAll(unpacking, blob), isError('internal', /EROFS image.*EISDIR/));
    await assert.rejects(unpacking.finish(), isError('internal', /EISDIR/));
  });

  it('says which file does not fit on a full disk', { skip: skipMounting }, async (t) => {
    const folder = await scratch(t);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]);
    try {
      const { unpacking, imagePath, blobPath } = await start(t, blob, { folder });
      await assert.rejects(
        async () => {
          await writeAll(unpacking, blob);
          await unpacking.finish();
        },
        isError('no-space', /no space left.*\/(image|blob)\); free some space/),
      );
      await isGone(imagePath);
      assert.deepEqual(await readdir(folder), ['blob']);
      assert.ok((await stat(blobPath)).size <= blob.length);
    } finally {
      await run('umount', [folder]);
    }
  });

  it('says that the data root is read-only', { skip: skipMounting }, async (t) => {
    const folder = await scratch(t);
    await run('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder]);
    try {
      const { unpacking } = await start(t, blob, { folder });
      await assert.rejects(unpacking.finish(), isError('no-space', /not writable.*image/));
    } finally {
      await run('umount', [folder]);
    }
  });

  it('aborts what is under way when it is closed, and starts nothing after', async (t) => {
    const other = new Unpacker({ concurrency: 1, pairBytes });
    const folder = await scratch(t);
    const request = {
      blobPath: join(folder, 'blob'),
      imagePath: join(folder, 'image'),
      resumeAt: 0,
      expected: { digest: digestOf(blob), size: blob.length },
    };
    const unpacking = other.start(request);
    await unpacking.write(blob.subarray(0, 100_000));
    await other.close();
    await assert.rejects(unpacking.finish(), isError('cancelled', /given up/));
    await isGone(request.imagePath);
    assert.throws(() => other.start(request), isError('unavailable', /shutting down/));
  });
}
