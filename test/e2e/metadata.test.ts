import assert from 'node:assert/strict';
import { copyFile, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { migrations } from '../../src/daemon/metadata/schema.ts';
import { hexOf } from '../../src/protocol/digest.ts';
import type { ImageSummary } from '../../src/protocol/engine.ts';
import { ROOT, type Daemon } from '../support/daemon.ts';
import { bulk, image, index, LINUX_AMD64, LINUX_ARM64, tarOf, type TestImage } from '../support/images.ts';
import { needs, run, type Outcome } from '../support/process.ts';
import { startStack, succeeded, type Stack } from '../support/stack.ts';

const LAYERD = join(ROOT, 'bin/layerd');

interface Filled {
  readonly one: TestImage;
  readonly both: TestImage;
}

/** Two names of one image, an index of which one platform is stored, and an image that was imported. */
async function filled(stack: Stack): Promise<Filled> {
  const { daemon } = stack;
  const shared = await bulk('shared', 200_000);
  const one = await stack.push('team/one:1', image({ layers: [shared, await bulk('own', 50_000)] }));
  const both = await stack.push(
    'team/both:1',
    index([
      image({ layers: [shared], platform: LINUX_AMD64 }),
      image({ layers: [await bulk('arm', 50_000)], platform: LINUX_ARM64 }),
    ]),
  );
  succeeded(await daemon.docker('pull', stack.ref('team/one:1')));
  succeeded(await daemon.docker('tag', stack.ref('team/one:1'), 'mine:2'));
  succeeded(await daemon.docker('pull', stack.ref('team/both:1')));
  const tar = join(daemon.dir, 'root.tar');
  await writeFile(tar, await tarOf([{ name: 'etc/issue', content: 'hello' }]));
  succeeded(await daemon.docker('import', tar, 'imported:1'));
  return { one, both };
}

/** What is stored, as a user sees it. */
async function listed(daemon: Daemon): Promise<unknown> {
  const images = (await daemon.request('/images/json?all=1')).json<ImageSummary[]>();
  return images
    .map(({ Id, RepoTags, RepoDigests, Size, Labels }) => ({ Id, RepoTags, RepoDigests, Size, Labels }))
    .toSorted((a, b) => (a.Id < b.Id ? -1 : 1));
}

const rebuild = (daemon: Daemon): Promise<Outcome> =>
  run(LAYERD, [...daemon.args, '--rebuild-metadata'], { env: daemon.env });

describe('layerd --rebuild-metadata', { skip: needs('docker', 'docker-registry') }, () => {
  it('makes metadata again that were lost: images, names, repositories, layers', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const { one } = await filled(stack);
    const before = await listed(daemon);
    await daemon.kill('SIGTERM');
    const database = join(daemon.dataRoot, 'metadata.db');
    await rm(database);
    // A start would take all blobs for leftovers.
    const refused = await run(LAYERD, daemon.args, { env: daemon.env });
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /metadata.db is damaged \(the file is not there, and there are blobs\).*--rebuild-metadata/,
    );
    assert.match(succeeded(await rebuild(daemon)), /^rebuilt: 3 images, \d+ blobs$/m);
    stack.proxy.reset();
    await daemon.start();
    assert.deepEqual(await listed(daemon), before);
    succeeded(await daemon.layerctl('verify'));
    succeeded(await daemon.docker('pull', stack.ref('team/one:1')));
    assert.deepEqual(stack.proxy.blobRequests(), []);
    // It knows again where blobs come from.
    const [layer] = one.layers;
    await rm(join(daemon.dataRoot, 'blobs', 'sha256', hexOf(layer?.digest ?? 'sha256:')));
    succeeded(await daemon.layerctl('verify', '--repair'));
  });

  it('puts damaged metadata aside, and keeps them', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    await filled(stack);
    const before = await listed(daemon);
    await daemon.kill('SIGTERM');
    const database = join(daemon.dataRoot, 'metadata.db');
    const bytes = await readFile(database);
    bytes.fill(0x55, 0, 4096);
    await writeFile(database, bytes);
    const refused = await run(LAYERD, daemon.args, { env: daemon.env });
    assert.match(refused.stderr, /is damaged \(.*\).*--rebuild-metadata/);
    succeeded(await rebuild(daemon));
    await daemon.start();
    assert.deepEqual(await listed(daemon), before);
    const aside = (await readdir(daemon.dataRoot)).filter((name) => name.startsWith('metadata.db.replaced-'));
    assert.equal(aside.length, 1);
    assert.ok((await readFile(join(daemon.dataRoot, aside[0] ?? ''))).equals(bytes));
  });

  it('says which image is not whole, keeps what there is of it, and a pull fetches only the rest', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const { one } = await filled(stack);
    await daemon.kill('SIGTERM');
    const own = one.layers[1]?.digest ?? 'sha256:';
    const blob = join(daemon.dataRoot, 'blobs', 'sha256', hexOf(own));
    const bytes = await readFile(blob);
    bytes[100] = (bytes[100] ?? 0) ^ 1;
    await writeFile(blob, bytes);
    const { stdout, code } = await rebuild(daemon);
    assert.equal(code, 0);
    assert.match(stdout, /rebuilt: 2 images, \d+ blobs, 1 damaged ones left out/);
    assert.match(stdout, /not whole, pull or load it again: .*team\/one:1: .*missing/);
    await daemon.start();
    stack.proxy.reset();
    succeeded(await daemon.docker('pull', stack.ref('team/one:1')));
    assert.deepEqual(
      stack.proxy.blobRequests().map(({ path }) => path.slice(path.lastIndexOf('/') + 1)),
      [own],
    );
    succeeded(await daemon.layerctl('verify'));
  });

  it('brings images back without names where the list of names is lost too', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const { one, both } = await filled(stack);
    await daemon.kill('SIGTERM');
    await rm(join(daemon.dataRoot, 'metadata.db'));
    await rm(join(daemon.dataRoot, 'index.json'));
    const { stdout, stderr } = await rebuild(daemon);
    assert.match(stderr, /images come back without names/);
    assert.match(stdout, /rebuilt: 3 images/);
    await daemon.start();
    const images = (await daemon.request('/images/json?all=1')).json<ImageSummary[]>();
    assert.ok(images.every(({ RepoTags }) => RepoTags.length === 0));
    for (const { id } of [one, both]) assert.ok(images.some(({ Id }) => Id === id));
  });

  it('is refused while a daemon runs, and changes nothing when it is interrupted', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    await filled(stack);
    const before = await listed(daemon);
    const refused = await rebuild(daemon);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /is in use by/);
    await daemon.kill('SIGTERM');
    const database = join(daemon.dataRoot, 'metadata.db');
    const { ino } = await stat(database);
    // As after a kill in the middle.
    await writeFile(`${database}.rebuilt`, 'half a database');
    await daemon.start();
    assert.deepEqual(await listed(daemon), before);
    await daemon.kill('SIGTERM');
    assert.equal((await stat(database)).ino, ino);
    succeeded(await rebuild(daemon));
    await daemon.start();
    assert.deepEqual(await listed(daemon), before);
  });
});

/** Rewrites a database as an earlier release, of that schema, has written it. */
async function downgrade(path: string, version: number): Promise<void> {
  const old = new DatabaseSync(`${path}.old`);
  old.exec(`PRAGMA journal_mode = WAL; ATTACH '${path}' AS new`);
  for (const migration of migrations.slice(0, version)) old.exec(migration);
  old.exec(`PRAGMA user_version = ${version}`);
  const tables = old.prepare(`SELECT name FROM main.sqlite_schema WHERE type = 'table'`).all() as { name: string }[];
  const columnsOf = (schema: string, table: string): string[] =>
    (old.prepare(`SELECT name FROM pragma_table_info(?, ?)`).all(table, schema) as { name: string }[]).map(
      ({ name }) => name,
    );
  for (const { name } of tables) {
    const columns = columnsOf('main', name).join(', ');
    old.exec(
      `DELETE FROM main."${name}"; INSERT INTO main."${name}" (${columns}) SELECT ${columns} FROM new."${name}"`,
    );
  }
  old.close();
  await rm(path);
  await rename(`${path}.old`, path);
}

describe('a store of an earlier release', { skip: needs('docker', 'docker-registry') }, () => {
  it('is brought forward, whatever schema it has, and its metadata are kept', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    await filled(stack);
    const before = await listed(daemon);
    await daemon.kill('SIGTERM');
    const database = join(daemon.dataRoot, 'metadata.db');
    await copyFile(database, join(daemon.dir, 'newest.db'));
    await writeFile(`${database}.schema-0`, 'the copy of an earlier upgrade');
    for (let version = 1; version < migrations.length; version += 1) {
      await copyFile(join(daemon.dir, 'newest.db'), database);
      await downgrade(database, version);
      await daemon.start();
      assert.deepEqual(await listed(daemon), before, `schema ${version}`);
      succeeded(await daemon.layerctl('verify'));
      await daemon.kill('SIGTERM');
      const copies = (await readdir(daemon.dataRoot)).filter((name) => name.startsWith('metadata.db.schema-'));
      assert.deepEqual(copies, [`metadata.db.schema-${version}`]);
      const copy = new DatabaseSync(`${database}.schema-${version}`, { readOnly: true });
      assert.deepEqual({ ...copy.prepare('PRAGMA user_version').get() }, { user_version: version });
      assert.deepEqual({ ...copy.prepare('SELECT count(*) AS images FROM image').get() }, { images: 3 });
      copy.close();
    }
    await daemon.start();
    succeeded(await daemon.docker('rmi', stack.ref('team/both:1')));
  });
});
