import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { hexOf, type Digest } from '../../../src/protocol/digest.ts';
import { GarbageCollector } from '../../../src/daemon/content/garbage.ts';
import { Ingest } from '../../../src/daemon/content/ingest.ts';
import { Leases, RESUME_WINDOW } from '../../../src/daemon/content/leases.ts';
import { ContentStore } from '../../../src/daemon/content/store.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';

const digestOf = (bytes: string | Buffer): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

describe('the content store', () => {
  let root: string;
  let db: Database;
  let content: ContentStore;
  let now: number;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'layerd-content-'));
    db = new Database(join(root, 'metadata.db'));
    now = 1_000_000;
    content = new ContentStore({ db, root, now: () => now });
  });
  afterEach(() => {
    db.close();
    rmSync(root, { recursive: true });
  });
  const files = (folder: string): string[] => readdirSync(join(root, folder)).sort();

  async function ingest(bytes: Buffer, expected = { digest: digestOf(bytes), size: bytes.length }): Promise<void> {
    const gathering = await Ingest.open(content.ingestPath(expected.digest), 0, expected);
    await gathering.write(bytes);
    await gathering.finish();
    await content.commit(expected.digest, expected.size);
  }

  it('shows nothing of a blob before it is committed', async () => {
    const bytes = Buffer.from('hello');
    const digest = digestOf(bytes);
    const gathering = await Ingest.open(content.ingestPath(digest), 0, { digest, size: 5 });
    await gathering.write(bytes);
    assert.equal(content.has(digest), false);
    assert.deepEqual(files('blobs/sha256'), []);
    await gathering.finish();
    await content.commit(digest, 5);
    assert.equal(content.has(digest), true);
    assert.deepEqual(await content.read(digest), bytes);
    assert.deepEqual(files('ingest'), []);
  });

  it('makes nothing of a document whose file has changed, and has it fetched again', async () => {
    const bytes = Buffer.from('{"schemaVersion":2}');
    const digest = digestOf(bytes);
    await content.putDocument(digest, bytes);
    writeFileSync(content.path(digest), '{"schemaVersion":3}');
    await assert.rejects(content.read(digest), { kind: 'corrupt', message: /is damaged .*layerctl verify --repair/ });
    assert.equal(content.has(digest), false);
    await assert.rejects(content.read(digest), { kind: 'corrupt' });
    await content.putDocument(digest, bytes);
    assert.deepEqual(await content.read(digest), bytes);
  });

  it('finds files that nothing knows of, and frees none that is known meanwhile', async () => {
    const [known, stray] = [digestOf('known'), digestOf('stray')];
    await content.putDocument(known, Buffer.from('known'));
    writeFileSync(content.path(stray), 'stray');
    assert.deepEqual(content.strays(), [stray]);
    content.discardStray(known);
    content.discardStray(stray);
    assert.deepEqual(files('blobs/sha256'), [hexOf(known)]);
  });

  it('resumes an ingest from what an earlier one left, hashing that again', async () => {
    const bytes = Buffer.from('hello, world');
    const expected = { digest: digestOf(bytes), size: bytes.length };
    const path = content.ingestPath(expected.digest);
    const first = await Ingest.open(path, 0, expected);
    await first.write(bytes.subarray(0, 7));
    await first.abort();
    assert.equal(content.ingestSize(expected.digest), 7);
    const second = await Ingest.open(path, 7, expected);
    await second.write(bytes.subarray(7));
    await second.finish();
    await content.commit(expected.digest, expected.size);
    assert.deepEqual(await content.read(expected.digest), bytes);
  });

  it('names both digests on a mismatch and leaves nothing to resume from', async () => {
    const expected = { digest: digestOf('right'), size: 5 };
    const gathering = await Ingest.open(content.ingestPath(expected.digest), 0, expected);
    await gathering.write(Buffer.from('wrong'));
    await assert.rejects(gathering.finish(), (error: Error) => {
      assert.match(error.message, new RegExp(expected.digest));
      assert.match(error.message, new RegExp(digestOf('wrong')));
      return true;
    });
    assert.deepEqual(files('ingest'), []);
  });

  it('refuses a body that goes on beyond its size', async () => {
    const expected = { digest: digestOf('four'), size: 4 };
    const gathering = await Ingest.open(content.ingestPath(expected.digest), 0, expected);
    await gathering.write(Buffer.from('four'));
    await assert.rejects(gathering.write(Buffer.from('!')), { kind: 'corrupt' });
    await gathering.abort();
  });

  it('refuses a document under a digest that is not its own', async () => {
    await assert.rejects(content.putDocument(digestOf('a'), Buffer.from('b')), { kind: 'corrupt' });
    assert.deepEqual([files('blobs/sha256'), files('ingest')], [[], []]);
  });

  it('does not delete a blob that is stored again just after it was removed', async () => {
    const bytes = Buffer.from('again');
    await content.putDocument(digestOf(bytes), bytes);
    content.remove([digestOf(bytes)]);
    assert.equal(content.has(digestOf(bytes)), false);
    await ingest(bytes);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(await content.read(digestOf(bytes)), bytes);
  });

  it('does not discard what is gathered anew just after an ingest was discarded', async () => {
    const bytes = Buffer.from('anew');
    const path = content.ingestPath(digestOf(bytes));
    writeFileSync(path, 'left over');
    assert.equal(content.discardIngest(digestOf(bytes)), 4096);
    assert.equal(content.ingestSize(digestOf(bytes)), 0);
    writeFileSync(path, bytes);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(content.ingestSize(digestOf(bytes)), bytes.length);
  });

  it('keeps the file when the transaction that removes it is rolled back', async () => {
    const bytes = Buffer.from('kept');
    await content.putDocument(digestOf(bytes), bytes);
    assert.throws(() =>
      db.transaction(() => {
        content.remove([digestOf(bytes)]);
        throw new Error('no');
      }),
    );
    assert.deepEqual(await content.read(digestOf(bytes)), bytes);
  });

  it('sweeps files without rows, rows without files, and ingests nobody will resume', async () => {
    const kept = Buffer.from('kept');
    const lost = Buffer.from('lost');
    await content.putDocument(digestOf(kept), kept);
    await content.putDocument(digestOf(lost), lost);
    rmSync(content.path(digestOf(lost)));
    writeFileSync(content.path(digestOf('orphan')), 'orphan');
    writeFileSync(content.ingestPath(digestOf('wanted')), 'wan');
    writeFileSync(content.ingestPath(digestOf('unwanted')), 'unw');
    writeFileSync(join(root, 'trash', 'left over'), '');
    const missing = await content.sweep((digest) => digest === digestOf('wanted'));
    assert.deepEqual(missing, [digestOf(lost)]);
    assert.equal(content.has(digestOf(lost)), false);
    assert.deepEqual(files('blobs/sha256'), [hexOf(digestOf(kept))]);
    assert.deepEqual(files('ingest'), [hexOf(digestOf('wanted'))]);
    assert.deepEqual(files('trash'), []);
  });

  it('leaves alone, while it sweeps, what is being stored', async () => {
    const documents = Array.from({ length: 50 }, (_, at) => Buffer.from(`document ${at}`));
    const ingests = Array.from({ length: 50 }, (_, at) => `ingest ${at}`);
    for (const text of ingests) writeFileSync(content.ingestPath(digestOf(text)), text);
    const done = new AbortController();
    const storing = Promise.all([
      ...documents.map((bytes) => content.putDocument(digestOf(bytes), bytes)),
      ...ingests.map((text) => content.commit(digestOf(text), text.length)),
    ]).finally(() => done.abort());
    let sweeps = 0;
    for (; !done.signal.aborted; sweeps += 1) {
      await new Promise(setImmediate);
      assert.deepEqual(await content.sweep((digest) => ingests.some((text) => digestOf(text) === digest)), []);
    }
    assert.ok(sweeps > 1);
    await storing;
    for (const bytes of documents) assert.deepEqual(await content.read(digestOf(bytes)), bytes);
    for (const text of ingests) assert.equal((await content.read(digestOf(text))).toString(), text);
  });

  it('removes what is to be removed though it sweeps', async () => {
    const removed = Buffer.from('removed');
    await content.putDocument(digestOf(removed), removed);
    for (let count = 0; count < 20; count += 1) writeFileSync(join(root, 'trash', `left over ${count}`), '');
    const sweeping = content.sweep(() => false);
    db.transaction(() => content.remove([digestOf(removed)]));
    await sweeping;
    assert.deepEqual(files('blobs/sha256'), []);
  });

  it('leaves no file whose row cannot be written, and lets the blob be resumed', async () => {
    const bytes = Buffer.from('hello');
    db.run(`CREATE TEMP TRIGGER full BEFORE INSERT ON blob BEGIN SELECT RAISE(ABORT, 'full'); END`);
    await assert.rejects(ingest(bytes), /full/);
    await assert.rejects(content.putDocument(digestOf('{}'), Buffer.from('{}')), /full/);
    assert.deepEqual([files('blobs/sha256'), files('staging')], [[], []]);
    assert.deepEqual(files('ingest'), [hexOf(digestOf(bytes))]);
  });

  it('keeps the file of a blob that comes again and cannot be noted again', async () => {
    const bytes = Buffer.from('hello');
    await ingest(bytes);
    db.run(`CREATE TEMP TRIGGER full BEFORE INSERT ON blob BEGIN SELECT RAISE(ABORT, 'full'); END`);
    await assert.rejects(ingest(bytes), /full/);
    assert.deepEqual(await content.read(digestOf(bytes)), bytes);
  });

  it('frees at once what cannot be moved to the trash', async () => {
    await ingest(Buffer.from('hello'));
    rmSync(join(root, 'trash'), { recursive: true });
    db.transaction(() => content.remove([digestOf('hello')]));
    assert.deepEqual(files('blobs/sha256'), []);
  });

  describe('garbage collection', () => {
    let removedLayers: Digest[];
    let collector: GarbageCollector;
    let leases: Leases;
    beforeEach(() => {
      removedLayers = [];
      const removeLayers = (diffIds: readonly Digest[]): number => removedLayers.push(...diffIds) * 100;
      collector = new GarbageCollector({ db, content, removeLayers });
      leases = new Leases({ db, now: () => now });
    });
    const put = async (text: string): Promise<Digest> => {
      await content.putDocument(digestOf(text), Buffer.from(text));
      return digestOf(text);
    };

    it('leaves what a lease names, and takes it once the lease is released', async () => {
      const digest = await put('leased');
      const lease = leases.acquire('pull:x');
      lease.add([digest]);
      assert.deepEqual(collector.collectAll().blobs, []);
      assert.deepEqual(lease.release(), [digest]);
      assert.deepEqual(collector.collectAll().blobs, [digest]);
      assert.deepEqual(files('blobs/sha256'), []);
    });

    it('leaves a layer as long as any stored blob unpacks to it', async () => {
      const gzip = await put('gzip');
      const zstd = await put('zstd');
      const diffId = digestOf('tar');
      for (const digest of [gzip, zstd]) db.run('INSERT INTO layer_blob VALUES (?, ?)', digest, diffId);
      assert.deepEqual(collector.collect([gzip]), { blobs: [gzip], layers: [], bytes: 4096 });
      assert.deepEqual(collector.collect([zstd]), { blobs: [zstd], layers: [diffId], bytes: 4096 + 100 });
      assert.deepEqual(removedLayers, [diffId]);
    });

    it('keeps what an interrupted pull had for a resume, until the window has passed', async () => {
      const digest = await put('interrupted');
      const lease = leases.acquire('pull:x');
      lease.add([digest]);
      lease.keep();
      assert.deepEqual(leases.expire(), []);
      now += RESUME_WINDOW;
      assert.deepEqual(leases.expire(), [digest]);
      assert.deepEqual(collector.collect([digest]).blobs, [digest]);
    });

    it('treats pulls that were under way when the daemon died as interrupted', async () => {
      leases.acquire('pull:x').add([await put('killed')]);
      const restarted = new Leases({ db, now: () => now });
      assert.equal(restarted.holds(digestOf('killed')), true);
      now += RESUME_WINDOW;
      assert.deepEqual(restarted.expire(), [digestOf('killed')]);
    });

    it('keeps nothing of an archive that was being loaded when the daemon died: nobody can go on with it', async () => {
      for (const purpose of ['load', 'import', 'save', 'attestations']) {
        leases.acquire(purpose).add([await put(purpose)]);
      }
      const restarted = new Leases({ db, now: () => now });
      assert.equal(restarted.holds(digestOf('load')), false);
      assert.equal(collector.collectAll().blobs.length, 4);
      assert.deepEqual(files('blobs/sha256'), []);
    });

    it('keeps one lease however often a pull fails, with all that its tries had, and none of nothing', async () => {
      for (const text of ['first try', 'second try', undefined]) {
        const lease = leases.acquire('pull:x');
        if (text !== undefined) lease.add([await put(text), await put('both')]);
        now += 1000;
        lease.keep();
      }
      leases.acquire('pull:y').keep();
      const rows = db.all<{ id: string; expires_at: number }>('SELECT id, expires_at FROM lease');
      assert.deepEqual(
        rows.map(({ id, expires_at }) => [id.split('#')[0], expires_at]),
        [['pull:x', now + RESUME_WINDOW]],
      );
      const digests = ['first try', 'second try', 'both'].map(digestOf);
      assert.deepEqual(leases.acquire('pull:x').release().sort(), digests.sort());
    });

    it('forgets pulls that were under way when the daemon died and named nothing yet', () => {
      leases.acquire('pull:x');
      new Leases({ db, now: () => now });
      assert.deepEqual(db.all('SELECT * FROM lease'), []);
    });

    it('lets a pull that succeeds take over what earlier tries of it kept, but not what runs beside it', async () => {
      const earlier = leases.acquire('pull:x');
      earlier.add([await put('earlier')]);
      earlier.keep();
      leases.acquire('pull:x').add([await put('beside')]);
      leases.acquire('pull:xy').keep();
      leases.acquire('pull:x').release();
      assert.equal(leases.holds(digestOf('earlier')), false);
      assert.equal(leases.holds(digestOf('beside')), true);
    });
  });
});
