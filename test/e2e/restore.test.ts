import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hexOf } from '../../src/protocol/digest.ts';
import { startDaemon } from '../support/daemon.ts';
import { bulk, image, tarOf, type TestImage, type TestLayer } from '../support/images.ts';
import { needs, scratch } from '../support/process.ts';
import { assertStoreHolds, startStack, succeeded, type Stack } from '../support/stack.ts';

const DEADLINE_MS = 20_000;

/** A stopped daemon that has pulled an image, and the file of the image's layer. */
async function pulled(stack: Stack): Promise<{ layer: TestLayer; pushed: TestImage; file: string; bytes: Buffer }> {
  const layer = await bulk('restored', 300_000);
  const pushed = await stack.push('restored:1', image({ layers: [layer] }));
  succeeded(await stack.daemon.docker('pull', stack.ref('restored:1')));
  const file = join(stack.daemon.dataRoot, 'layers', 'sha256', `${hexOf(layer.diffId)}.erofs`);
  const bytes = await readFile(file);
  await stack.daemon.kill('SIGTERM');
  stack.proxy.reset();
  return { layer, pushed, file, bytes };
}

/** Waits until the file is what it was, byte for byte. */
async function restored(file: string, bytes: Buffer): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const now = await readFile(file).catch(() => Buffer.alloc(0));
    if (now.equals(bytes)) return;
    assert.ok(Date.now() < deadline, `${file} was not restored`);
    await sleep(20);
  }
}

function change(stack: Stack, sql: string): void {
  const db = new DatabaseSync(join(stack.daemon.dataRoot, 'metadata.db'));
  db.exec(sql);
  db.close();
}

describe('a start', { skip: needs('docker', 'docker-registry') }, () => {
  it('makes an EROFS image that is missing again from its blob, without the registry', async () => {
    await using stack = await startStack();
    const { pushed, file, bytes } = await pulled(stack);
    await rm(file);
    await stack.daemon.start();
    await restored(file, bytes);
    assert.deepEqual(stack.proxy.blobRequests(), []);
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
  });

  it('makes that of an image again that came from no registry', async () => {
    await using daemon = await startDaemon();
    await using folder = await scratch('restore');
    const tar = join(folder.path, 'root.tar');
    await writeFile(tar, await tarOf([{ name: 'etc/issue', content: 'hello' }]));
    succeeded(await daemon.docker('import', tar, 'imported:1'));
    const layers = join(daemon.dataRoot, 'layers', 'sha256');
    const [name = ''] = await readdir(layers);
    const bytes = await readFile(join(layers, name));
    await daemon.kill('SIGTERM');
    await rm(join(layers, name));
    await daemon.start();
    await restored(join(layers, name), bytes);
  });

  it('after a reboot makes those again that may not have reached the disk, and gives no event a number again', async () => {
    await using stack = await startStack();
    const { file, bytes } = await pulled(stack);
    const damaged = Buffer.from(bytes);
    damaged.fill(0, 4096, 8192);
    await writeFile(file, damaged);
    change(stack, `UPDATE layer SET durable = 0; UPDATE fact SET value = 'another' WHERE key = 'boot id'`);
    await stack.daemon.start();
    await restored(file, bytes);
    assert.match((await stack.daemon.request('/metrics')).body, /^layerd_events_last_sequence 1000\d{3}$/m);
  });

  it('does not do so for those that have', async () => {
    await using stack = await startStack();
    const { file } = await pulled(stack);
    change(stack, `UPDATE layer SET durable = 1; UPDATE fact SET value = 'another' WHERE key = 'boot id'`);
    const { ino } = await stat(file);
    await stack.daemon.start();
    await sleep(300);
    assert.equal((await stat(file)).ino, ino);
  });

  it('fetches a blob again that proves damaged on the way', async () => {
    await using stack = await startStack();
    const { layer, pushed, file, bytes } = await pulled(stack);
    await rm(file);
    const blob = join(stack.daemon.dataRoot, 'blobs', 'sha256', hexOf(layer.digest));
    const content = await readFile(blob);
    content.fill(0, 1000, 2000);
    await writeFile(blob, content);
    await stack.daemon.start();
    await restored(file, bytes);
    assert.ok((await readFile(blob)).equals(layer.bytes));
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
  });

  it('says which blobs are missing, and a pull brings them back', async () => {
    await using stack = await startStack();
    const { layer, pushed, file, bytes } = await pulled(stack);
    await rm(file);
    await rm(join(stack.daemon.dataRoot, 'blobs', 'sha256', hexOf(layer.digest)));
    await stack.daemon.start();
    await stack.daemon.process.until('the log', ({ stderr }) => stderr.includes(layer.digest));
    succeeded(await stack.daemon.docker('pull', stack.ref('restored:1')));
    await restored(file, bytes);
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
  });
});
