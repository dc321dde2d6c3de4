import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { paxBody, tar, type Entry } from '../daemon/layers/tar-builder.ts';
import { bulk, image, layerOfTar, noise, type TestLayer } from '../support/images.ts';
import { needs, scratch } from '../support/process.ts';
import { failed, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

/** Bytes of a file: a large layer is unpacked by two threads, a small one by one. */
const SIZES = { 'its only thread': 1000, 'both of its threads': 5_000_000 } as const;

/** As many pax records as one header may have, each under a key of its own and without a value. */
function records(type: 'g' | 'x', first: number): Entry {
  const keys = Array.from({ length: 131_000 }, (_, index) => (first + index).toString(36).padStart(4, '0'));
  return { name: 'records', type, body: paxBody(keys.map((key) => [key, ''] as const)) };
}

describe('a thread that dies while it unpacks a layer', { skip: needs('docker', 'docker-registry') }, () => {
  /** Pulls an image of one layer, which fails and leaves nothing that could be taken for the layer. */
  async function fails(stack: Stack, deadly: TestLayer): Promise<string> {
    const { daemon } = stack;
    await stack.push('deadly:1', image({ layers: [deadly] }));
    const output = failed(await daemon.docker('pull', stack.ref('deadly:1')));
    assert.deepEqual((await storeFiles(daemon.dataRoot)).layers, []);
    assert.equal(succeeded(await daemon.docker('images', '-a', '-q')), '');
    return output;
  }

  /** Pulls an image whose layer is as large, so that it is unpacked in the same way. */
  async function goesOn(stack: Stack, size: number): Promise<void> {
    const pushed = await stack.push('harmless:1', image({ layers: [await bulk('harmless', size)] }));
    succeeded(await stack.daemon.docker('pull', stack.ref('harmless:1')));
    const { layers } = await storeFiles(stack.daemon.dataRoot);
    assert.deepEqual(layers, [pushed.layers[0]?.diffId]);
    assert.doesNotMatch(stack.daemon.log, /unforeseen|FATAL/);
  }

  it('of the layer’s demand for memory fails its pull alone', async () => {
    await using stack = await startStack();
    const size = SIZES['both of its threads'];
    const entries = [records('g', 0), records('x', 200_000), { name: 'file', body: noise('file', size) }];
    const deadly = layerOfTar(tar(...entries));
    const why = `cannot unpack ${deadly.digest}: it needs more memory than the 64 MiB that a layer is given`;
    assert.ok((await fails(stack, deadly)).includes(why));
    await goesOn(stack, size);
  });

  for (const [thread, size] of Object.entries(SIZES)) {
    it(`of whatever else, ${thread}, fails its pull, which goes well the next time`, async () => {
      await using dir = await scratch('threads');
      const file = join(dir.path, 'die');
      const dying = `
        import { existsSync } from 'node:fs';
        import { isMainThread } from 'node:worker_threads';
        if (!isMainThread && existsSync(${JSON.stringify(file)})) process.exit(7);`;
      const env = { NODE_OPTIONS: `--import="data:text/javascript,${encodeURIComponent(dying)}"` };
      await using stack = await startStack({ env });
      await writeFile(file, '');
      const deadly = await bulk('deadly', size);
      // Nobody foresaw it, so that the client is told where the log has it.
      const [, request] =
        /the daemon's log has the details under request (\w+)$/m.exec(await fails(stack, deadly)) ?? [];
      const line = stack.daemon.log.split('\n').find((each) => each.includes(`request=${request ?? ''}`)) ?? '';
      assert.ok(line.includes(`cannot unpack ${deadly.digest}: its thread ended: exit code 7`), line);
      await rm(file);
      succeeded(await stack.daemon.docker('pull', stack.ref('deadly:1')));
      succeeded(await stack.daemon.docker('rmi', stack.ref('deadly:1')));
      await goesOn(stack, size);
    });
  }
});
