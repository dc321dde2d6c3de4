import assert from 'node:assert/strict';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hexOf, type Digest } from '../../src/protocol/digest.ts';
import type { Finding, VerifyReport } from '../../src/protocol/engine.ts';
import type { Daemon } from '../support/daemon.ts';
import { bulk, image, tarOf, type TestImage, type TestLayer } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { startDaemon } from '../support/daemon.ts';
import { assertStoreHolds, startStack, succeeded, type Stack } from '../support/stack.ts';

const DEADLINE_MS = 20_000;

const blobPath = (daemon: Daemon, digest: Digest): string => join(daemon.dataRoot, 'blobs', 'sha256', hexOf(digest));
const layerPath = (daemon: Daemon, diffId: Digest): string =>
  join(daemon.dataRoot, 'layers', 'sha256', `${hexOf(diffId)}.erofs`);

/** Turns one byte of a file over, as a failing disk does. */
async function damage(path: string, at = 1000): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 0x40;
  await writeFile(path, bytes);
}

interface Stored {
  readonly stack: Stack;
  readonly layers: readonly [TestLayer, TestLayer];
  readonly pushed: TestImage;
}

/** A daemon with an image of two layers, whose EROFS images it has recorded. */
async function stored(stack: Stack): Promise<Stored> {
  const layers = [await bulk('first', 300_000), await bulk('second', 200_000)] as const;
  const pushed = await stack.push('verified:1', image({ layers }));
  succeeded(await stack.daemon.docker('pull', stack.ref('verified:1')));
  // Records what is not recorded yet.
  await verify(stack.daemon, [], 0);
  stack.proxy.reset();
  return { stack, layers, pushed };
}

async function verify(daemon: Daemon, args: readonly string[], status: number): Promise<VerifyReport> {
  const outcome = await daemon.layerctl('verify', '--format', 'json', ...args);
  assert.equal(outcome.code, status, outcome.stdout + outcome.stderr);
  return JSON.parse(outcome.stdout) as VerifyReport;
}

/** The blobs that the registry was asked for. */
const fetched = ({ proxy }: Stack): string[] =>
  proxy.blobRequests().map(({ path }) => path.slice(path.lastIndexOf('/') + 1));

const summary = ({ findings }: VerifyReport): Partial<Finding>[] =>
  findings.map(({ kind, id, problem, repaired }) => ({ kind, id, problem, repaired }));

describe('layerctl verify', { skip: needs('docker', 'docker-registry') }, () => {
  it('finds a sound store sound, and says what it read', async () => {
    await using stack = await startStack();
    const { pushed } = await stored(stack);
    const report = await verify(stack.daemon, [], 0);
    assert.deepEqual(report.findings, []);
    assert.equal(report.blobs, 2 + pushed.layers.length);
    assert.equal(report.layers, 2);
    const sizes = await Promise.all([
      ...[pushed.digest, pushed.id, ...pushed.layers.map((layer) => layer.digest)].map(
        async (digest) => (await stat(blobPath(stack.daemon, digest))).size,
      ),
      ...pushed.layers.map(async ({ diffId }) => (await stat(layerPath(stack.daemon, diffId))).size),
    ]);
    assert.equal(
      report.bytes,
      sizes.reduce((sum, size) => sum + size, 0),
    );
    const { stdout } = await stack.daemon.layerctl('verify', stack.ref('verified:1'));
    assert.match(stdout, /Verified 4 blobs and 2 layers, .*: all sound/);
  });

  it('names each damaged, missing and orphaned file with the images it concerns, and changes nothing', async () => {
    await using stack = await startStack();
    const { layers, pushed } = await stored(stack);
    const { daemon } = stack;
    await damage(blobPath(daemon, layers[0].digest));
    await rm(layerPath(daemon, layers[1].diffId));
    const stray = 'ab'.repeat(32);
    await writeFile(join(daemon.dataRoot, 'blobs', 'sha256', stray), 'nobody knows me');
    const report = await verify(daemon, [], 1);
    assert.deepEqual(summary(report), [
      { kind: 'blob', id: layers[0].digest, problem: 'damaged', repaired: false },
      { kind: 'layer', id: layers[1].diffId, problem: 'missing', repaired: false },
      { kind: 'blob', id: `sha256:${stray}`, problem: 'orphaned', repaired: false },
    ]);
    assert.deepEqual(report.findings[0]?.images, [stack.ref('verified:1')]);
    assert.match(report.findings[0].reason, /has digest sha256:[0-9a-f]{64} instead of/);
    assert.equal((await readFile(join(daemon.dataRoot, 'blobs', 'sha256', stray))).toString(), 'nobody knows me');
    assert.deepEqual(stack.proxy.blobRequests(), []);
    // Of one image alone.
    const other = await stack.push('sound:1', image({ layers: [await bulk('third', 10_000)] }));
    succeeded(await daemon.docker('pull', stack.ref('sound:1')));
    assert.deepEqual((await verify(daemon, [other.id], 0)).findings, []);
    assert.equal((await verify(daemon, [pushed.id], 1)).findings.length, 2);
  });

  it('repairs by fetching what is damaged, and nothing else', async () => {
    await using stack = await startStack();
    const { layers, pushed } = await stored(stack);
    const { daemon } = stack;
    await damage(blobPath(daemon, layers[0].digest));
    await damage(layerPath(daemon, layers[1].diffId), 5000);
    await damage(blobPath(daemon, pushed.digest), 10);
    await rm(blobPath(daemon, pushed.id));
    const report = await verify(daemon, ['--repair'], 0);
    assert.deepEqual(
      new Set(summary(report).map((finding) => JSON.stringify(finding))),
      new Set(
        [
          { kind: 'blob', id: layers[0].digest, problem: 'damaged', repaired: true },
          { kind: 'blob', id: pushed.digest, problem: 'damaged', repaired: true },
          { kind: 'blob', id: pushed.id, problem: 'missing', repaired: true },
          { kind: 'layer', id: layers[1].diffId, problem: 'damaged', repaired: true },
        ].map((finding) => JSON.stringify(finding)),
      ),
    );
    assert.deepEqual(new Set(fetched(stack)), new Set([layers[0].digest, pushed.id]));
    await assertStoreHolds(daemon.dataRoot, pushed);
    assert.deepEqual((await verify(daemon, [], 0)).findings, []);
    const events = await daemon.layerctl('events', '--since', '0', '--until', '0s', '--format', '{{json .}}');
    const seen = events.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { Type: string; Action: string; Actor: { ID: string } })
      .filter(({ Action }) => ['damage', 'repair', 'verify'].includes(Action))
      .map(({ Type, Action, Actor }) => `${Type} ${Action} ${Actor.ID}`);
    for (const digest of [layers[0].digest, pushed.digest]) {
      assert.ok(seen.indexOf(`blob damage ${digest}`) < seen.indexOf(`blob repair ${digest}`), seen.join('\n'));
      assert.ok(seen.includes(`blob damage ${digest}`));
    }
    assert.ok(seen.includes(`layer damage ${layers[1].diffId}`));
    assert.ok(seen.includes(`layer repair ${layers[1].diffId}`));
  });

  it('leaves what cannot be fetched again as damaged, says why, and a push refuses it', async () => {
    await using stack = await startStack();
    const { layers } = await stored(stack);
    const { daemon } = stack;
    await damage(blobPath(daemon, layers[0].digest));
    await stack.registry.stop();
    const report = await verify(daemon, ['--repair'], 1);
    assert.equal(report.findings[0]?.repaired, false);
    assert.match(report.findings[0].error ?? '', /cannot be fetched again/);
    succeeded(await daemon.docker('tag', stack.ref('verified:1'), stack.ref('other:1')));
    const pushed = await daemon.docker('push', stack.ref('other:1'));
    assert.notEqual(pushed.code, 0);
    // Remembered over a restart.
    await daemon.kill('SIGKILL');
    await daemon.start();
    const saved = await daemon.docker('save', '-o', join(daemon.dir, 'saved.tar'), stack.ref('verified:1'));
    assert.notEqual(saved.code, 0);
  });

  it('heals by a pull of the same image too', async () => {
    await using stack = await startStack();
    const { layers, pushed } = await stored(stack);
    const { daemon } = stack;
    await damage(blobPath(daemon, layers[0].digest));
    await damage(layerPath(daemon, layers[1].diffId), 5000);
    await verify(daemon, [], 1);
    succeeded(await daemon.docker('pull', stack.ref('verified:1')));
    assert.deepEqual(fetched(stack), [layers[0].digest]);
    await assertStoreHolds(daemon.dataRoot, pushed);
    assert.deepEqual((await verify(daemon, [], 0)).findings, []);
  });

  it('makes a layer of a loaded image again, and says that its blob cannot be', async () => {
    await using daemon = await startDaemon();
    const tar = join(daemon.dir, 'root.tar');
    await writeFile(tar, await tarOf([{ name: 'etc/issue', content: 'hello'.repeat(1000) }]));
    succeeded(await daemon.docker('import', tar, 'imported:1'));
    await verify(daemon, [], 0);
    const inspected = await daemon.docker('inspect', 'imported:1', '--format', '{{index .RootFS.Layers 0}}');
    const diffId = inspected.stdout.trim() as Digest;
    await damage(layerPath(daemon, diffId), 4200);
    assert.deepEqual(summary(await verify(daemon, ['--repair'], 0)), [
      { kind: 'layer', id: diffId, problem: 'damaged', repaired: true },
    ]);
    // A plain tar: the blob is what the diff ID is of.
    await damage(blobPath(daemon, diffId), 600);
    const report = await verify(daemon, ['--repair'], 1);
    assert.match(report.findings[0]?.error ?? '', /came from no registry: load or build its image again/);
  });

  it('refuses an image that is not there', async () => {
    await using stack = await startStack();
    await stored(stack);
    const { stderr, code } = await stack.daemon.layerctl('verify', 'nothing:1');
    assert.equal(code, 1);
    assert.match(stderr, /No such image: nothing:1/);
  });

  it('goes on in the background, and repairs what it finds', async () => {
    await using stack = await startStack({ args: ['--scrub-interval', '1s', '--scrub-rate', '1g'] });
    const { layers, pushed } = await stored(stack);
    const { daemon } = stack;
    await daemon.kill('SIGTERM');
    await damage(blobPath(daemon, layers[1].digest));
    await daemon.start();
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const bytes = await readFile(blobPath(daemon, layers[1].digest));
      if (bytes.equals(layers[1].bytes)) break;
      assert.ok(Date.now() < deadline, daemon.process.stderr);
      await sleep(100);
    }
    assert.match(daemon.process.stderr, /a stored blob is damaged/);
    await assertStoreHolds(daemon.dataRoot, pushed);
  });
});
