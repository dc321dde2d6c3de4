import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bulk, image, layer } from '../support/images.ts';
import { must, needs } from '../support/process.ts';
import { smallDisk, type SmallDisk } from '../support/small-disk.ts';
import { failed, linesOf, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;
/** What the reserve takes of such a disk. */
const RESERVE_BYTES = 3 * MIB;
/** How long the reserve may take until it is whole again, and how often it is looked at. */
const REFILL_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

/** Writes files to the disk, large ones first, until there is no block left: twice, for deletions that take their time. */
async function fill(disk: SmallDisk): Promise<void> {
  for (const bytes of [MIB, 4096, 4096]) {
    const file = openSync(join(disk.path, `ballast-${bytes}`), 'a');
    try {
      for (;;) writeSync(file, Buffer.alloc(bytes));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    } finally {
      closeSync(file);
    }
    await must('sync', ['-f', disk.path]);
  }
}

async function freeBytes(disk: SmallDisk): Promise<number> {
  const { bsize, bfree } = await statfs(disk.path);
  return bsize * bfree;
}

async function untilReserveIsWhole(disk: SmallDisk): Promise<void> {
  const deadline = Date.now() + REFILL_TIMEOUT_MS;
  for (;;) {
    const size = await stat(join(disk.dataRoot, 'reserve')).then(
      (found) => found.size,
      () => 0,
    );
    if (size >= RESERVE_BYTES) return;
    assert.ok(Date.now() < deadline, `the reserve has ${size} bytes`);
    await sleep(POLL_MS);
  }
}

/** A stack with two images, on a full disk. */
async function fullStack(disk: SmallDisk): Promise<Stack> {
  await using cleanup = new AsyncDisposableStack();
  const stack = cleanup.use(await startStack({ dataRoot: disk.dataRoot }));
  for (const name of ['one', 'two']) {
    await stack.push(`${name}:1`, image({ layers: [await layer([{ name }]), await bulk(name, 6 * MIB)] }));
    succeeded(await stack.daemon.docker('pull', stack.ref(`${name}:1`)));
  }
  // It is given room to write index.json, lest that happens whenever there is space again.
  await stack.daemon.restart();
  await untilReserveIsWhole(disk);
  await fill(disk);
  cleanup.move();
  return stack;
}

async function tags({ daemon }: Stack): Promise<string[]> {
  return linesOf(succeeded(await daemon.docker('images', '--format', '{{.Repository}}:{{.Tag}}')));
}

describe('a full disk', { skip: needs('root', 'docker', 'docker-registry', 'mkfs.ext4') }, () => {
  it('lets images be removed, again and again, and no pull take the space for that', async (t) => {
    await using disk = await smallDisk(t);
    if (disk === undefined) return;
    await using stack = await fullStack(disk);
    await stack.push('three:1', image({ layers: [await bulk('three', MIB)] }));
    assert.match(failed(await stack.daemon.docker('pull', stack.ref('three:1'))), /no space left/);
    await untilReserveIsWhole(disk);

    for (const name of ['one', 'two']) {
      const before = await freeBytes(disk);
      succeeded(await stack.daemon.docker('rmi', stack.ref(`${name}:1`)));
      assert.match(stack.daemon.log, /gave up the space that was held back/);
      await untilReserveIsWhole(disk);
      assert.ok((await freeBytes(disk)) > before + 5 * MIB, 'more is free than the reserve took');
      await fill(disk);
    }
    assert.deepEqual((await storeFiles(disk.dataRoot)).layers, []);
  });

  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    it(`lets the daemon start after ${signal}, serve and remove`, async (t) => {
      await using disk = await smallDisk(t);
      if (disk === undefined) return;
      await using stack = await fullStack(disk);
      await stack.daemon.kill(signal);
      await fill(disk);
      await stack.daemon.start();
      assert.deepEqual(await tags(stack), [stack.ref('two:1'), stack.ref('one:1')]);
      succeeded(await stack.daemon.docker('rmi', stack.ref('one:1')));
      // At the latest now: what the file system freed with a delay may have been enough for the start.
      assert.match(stack.daemon.log, /gave up the space that was held back/);
      assert.deepEqual(await tags(stack), [stack.ref('two:1')]);
      await untilReserveIsWhole(disk);
    });
  }

  it('that has no room for the reserve is told of once, and lets a start succeed or fail in words', async (t) => {
    await using disk = await smallDisk(t);
    if (disk === undefined) return;
    await using stack = await fullStack(disk);
    await stack.daemon.kill('SIGKILL');
    await rm(join(disk.dataRoot, 'reserve'));
    await fill(disk);
    // The file system may have kept a block for itself that is enough for a start.
    const launched = stack.daemon.launch();
    const ended = await Promise.race([
      launched.exited,
      launched.until('readiness', ({ stderr }) => stderr.includes('layerd is ready')).then(() => undefined),
    ]);
    if (ended === undefined) await launched.kill('SIGKILL');
    else {
      assert.equal(ended.code, 1);
      assert.match(
        ended.stderr,
        new RegExp(`^layerd: cannot .*no space left on the device.*\\(${disk.dataRoot}/.*free some space.*\n$`),
      );
    }

    await rm(join(disk.path, 'ballast-4096'));
    await stack.daemon.start();
    await sleep(2000);
    assert.equal(stack.daemon.log.match(/cannot hold space back/g)?.length, 1, stack.daemon.log);
    await rm(join(disk.path, `ballast-${MIB}`));
    await untilReserveIsWhole(disk);
    await stack.daemon.process.until('the news', ({ stderr: log }) => log.includes('space is held back again'));
  });
});
