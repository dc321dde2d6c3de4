import assert from 'node:assert/strict';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { hexOf } from '../../src/protocol/digest.ts';
import type { DemandReport } from '../../src/protocol/engine.ts';
import { Daemon, startDaemon } from '../support/daemon.ts';
import { bulk, image, layer, type TestImage, type TestLayer } from '../support/images.ts';
import { must, needs, run, scratch } from '../support/process.ts';
import {
  assertStoreHolds,
  beginPull,
  failed,
  startStack,
  storeFiles,
  succeeded,
  until,
  type Stack,
} from '../support/stack.ts';

const MIB = 1024 * 1024;

/** Leaves a pull halfway: a MiB of the last layer has arrived, the one below is complete. */
async function halfway(stack: Stack): Promise<{ base: TestLayer; big: TestLayer; pushed: TestImage }> {
  const base = await layer([{ name: 'base' }]);
  const big = await bulk('halfway', 3 * MIB);
  const pushed = await stack.push('halfway:1', image({ layers: [base, big] }));
  stack.proxy.inject({ path: new RegExp(big.digest), stallAfter: MIB });
  await beginPull(stack, 'halfway:1', big);
  return { base, big, pushed };
}

/** Pulls what {@link halfway} left, and checks that it went on from there. */
async function goesOn(stack: Stack, big: TestLayer, pushed: TestImage): Promise<void> {
  stack.proxy.reset();
  succeeded(await stack.daemon.docker('pull', stack.ref('halfway:1')));
  const ranges = stack.proxy.blobRequests(big.digest).map(({ range }) => range);
  assert.match(ranges[0] ?? '', /^bytes=[1-9]\d*-/);
  await assertStoreHolds(stack.daemon.dataRoot, pushed);
  succeeded(await stack.daemon.docker('rmi', stack.ref('halfway:1')));
  await assertStoreHolds(stack.daemon.dataRoot);
}

describe('a daemon that ends in the middle of a pull', { skip: needs('docker', 'docker-registry') }, () => {
  it('goes on by Range after kill -9', async () => {
    await using stack = await startStack();
    const { big, pushed } = await halfway(stack);
    await stack.daemon.kill('SIGKILL');
    await stack.daemon.start();
    assert.equal(succeeded(await stack.daemon.docker('images', '-a', '-q')), '');
    await goesOn(stack, big, pushed);
  });

  it('stops cleanly on SIGTERM, and goes on by Range', async () => {
    await using stack = await startStack();
    const { big, pushed } = await halfway(stack);
    const outcome = await stack.daemon.kill('SIGTERM');
    assert.deepEqual([outcome.code, outcome.signal], [0, null]);
    await assert.rejects(readFile(stack.daemon.pidfile));
    await stack.daemon.start();
    await goesOn(stack, big, pushed);
  });

  it('sweeps what nobody comes back for, and keeps what images need', async () => {
    await using stack = await startStack();
    const kept = await stack.push('kept:1', image({ layers: [await layer([{ name: 'kept' }])] }));
    succeeded(await stack.daemon.docker('pull', stack.ref('kept:1')));
    for (const signal of ['SIGKILL', 'SIGKILL'] as const) {
      await halfway(stack);
      await stack.daemon.kill(signal);
      await stack.daemon.start();
    }
    const { layers } = await storeFiles(stack.daemon.dataRoot);
    assert.ok(kept.layers.every(({ diffId }) => layers.includes(diffId)));
    stack.proxy.reset();
    succeeded(await stack.daemon.docker('pull', stack.ref('halfway:1')));
    succeeded(await stack.daemon.docker('rmi', stack.ref('halfway:1')));
    await assertStoreHolds(stack.daemon.dataRoot, kept);
  });
});

describe('a detached pull', { skip: needs('docker-registry') }, () => {
  it('goes on by itself after kill -9, though who asked is gone, and fetches nothing twice', async () => {
    await using stack = await startStack();
    const { daemon, proxy } = stack;
    const base = await layer([{ name: 'base' }]);
    const big = await bulk('detached', 3 * MIB);
    const pushed = await stack.push('detached:1', image({ layers: [base, big] }));
    proxy.inject({ path: new RegExp(big.digest), stallAfter: MIB, times: 1 });
    const body = JSON.stringify({ reference: stack.ref('detached:1') });
    const headers = { 'Content-Type': 'application/json' };
    const { id } = (await daemon.request('/layerd/pulls', { method: 'POST', headers, body })).json<DemandReport>();
    // What is on its way into the file when it is killed is lost, and none of it was stored.
    const ingest = join(daemon.dataRoot, 'ingest', hexOf(big.digest));
    await until('all that was sent to be in the file', () =>
      stat(ingest).then(
        ({ size }) => size === MIB,
        () => false,
      ),
    );
    const report = async (): Promise<DemandReport> => (await daemon.request(`/layerd/pulls/${id}`)).json();
    await until('the base to be stored', async () =>
      (await report()).transfers.some(({ digest, state }) => digest === base.digest && state === 'done'),
    );
    await daemon.kill('SIGKILL');
    await daemon.start();
    await until('the end of the pull', async () => (await report()).endedAt !== undefined);
    assert.deepEqual([(await report()).state, (await report()).lastError], ['done', undefined]);
    const first = proxy.blobRequests(big.digest).map(({ range }) => range);
    assert.deepEqual(first, [undefined, `bytes=${MIB}-`]);
    assert.equal(proxy.blobRequests(base.digest).length, 1);
    await assertStoreHolds(daemon.dataRoot, pushed);
    // The daemon tells of its own stop, of the pull, then of its end.
    const events = await daemon.layerctl('events', '--since', '1h', '--until', '0s', '--format', '{{.Action}}');
    assert.match(succeeded(events), /\npull\npull-end\n/);
  });
});

describe('the data root', { skip: needs('docker') }, () => {
  it('has one daemon: a second one says who holds it, and exits', async () => {
    await using first = await startDaemon();
    await using second = await Daemon.prepare({ dataRoot: first.dataRoot });
    const { code, stdout, stderr } = await second.launch().exited;
    assert.notEqual(code, 0);
    assert.match(stdout + stderr, new RegExp(`\\b${first.process.child.pid}\\b`));
    assert.ok((stdout + stderr).includes(first.dataRoot));
    assert.equal((await first.request('/_ping')).status, 200);
  });

  it(
    'is an OCI image layout that skopeo reads while the daemon is down',
    {
      skip: needs('docker-registry', 'skopeo'),
    },
    async () => {
      await using stack = await startStack();
      const pushed = await stack.push(
        'layout:1',
        image({ format: 'oci', layers: [await layer([{ name: 'layout' }]), await bulk('more', 100_000)] }),
      );
      succeeded(await stack.daemon.docker('pull', stack.ref('layout:1')));
      await stack.daemon.kill('SIGTERM');
      const source = `oci:${stack.daemon.dataRoot}:${stack.ref('layout:1')}`;
      assert.equal(await must('skopeo', ['inspect', '--raw', source]), pushed.bytes.toString());
      await using copy = await scratch('copy');
      await must('skopeo', ['copy', source, `oci:${copy.path}/copy:1`]);
    },
  );

  it('can be taken over after kill -9', async () => {
    await using daemon = await startDaemon();
    await daemon.kill('SIGKILL');
    await daemon.start();
    assert.equal((await daemon.request('/_ping')).status, 200);
  });

  it('that cannot be written stops the start with the reason', { skip: needs('root') }, async (t) => {
    await using dir = await scratch('read-only');
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', dir.path]);
    if (mounted.code !== 0) {
      t.skip('cannot mount here');
      return;
    }
    try {
      await using daemon = await Daemon.prepare({ dataRoot: dir.path });
      const { code, stdout, stderr } = await daemon.launch().exited;
      assert.notEqual(code, 0);
      assert.match(stdout + stderr, /read-only/i);
      assert.ok((stdout + stderr).includes(dir.path));
    } finally {
      await must('umount', [dir.path]);
    }
  });

  it(
    'that is full fails the pull and leaves everything before it intact',
    {
      skip: needs('root', 'docker-registry'),
    },
    async (t) => {
      await using dir = await scratch('full');
      const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dir.path]);
      if (mounted.code !== 0) {
        t.skip('cannot mount here');
        return;
      }
      try {
        const dataRoot = join(dir.path, 'data');
        await mkdir(dataRoot);
        await using stack = await startStack({ dataRoot });
        const small = await stack.push('small:1', image({ layers: [await layer([{ name: 'small' }])] }));
        succeeded(await stack.daemon.docker('pull', stack.ref('small:1')));
        const big = image({ layers: [await bulk('big', 12 * MIB)] });
        await stack.push('big:1', big);
        const output = failed(await stack.daemon.docker('pull', stack.ref('big:1')));
        assert.match(output, /no space|disk (is )?full/i);
        const inspect = ['image', 'inspect', '--format', '{{.Id}}', stack.ref('small:1')];
        assert.equal(succeeded(await stack.daemon.docker(...inspect)), `${small.id}\n`);
        const more = await stack.push('more:1', image({ layers: [await layer([{ name: 'more' }])] }));
        succeeded(await stack.daemon.docker('rmi', stack.ref('small:1')));
        await stack.daemon.restart();
        succeeded(await stack.daemon.docker('pull', stack.ref('more:1')));
        const held = await storeFiles(dataRoot);
        assert.deepEqual(
          held.layers,
          more.layers.map(({ diffId }) => diffId),
        );
      } finally {
        await must('umount', [dir.path]);
      }
    },
  );
});
