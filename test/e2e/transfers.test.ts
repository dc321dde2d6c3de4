import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { hexOf, shortId } from '../../src/protocol/digest.ts';
import type { TransferReport } from '../../src/protocol/engine.ts';
import type { Manifest } from '../../src/protocol/oci.ts';
import type { ApiResponse, Daemon } from '../support/daemon.ts';
import { bulk, image, layer, noise, push, type TestImage, type TestLayer } from '../support/images.ts';
import { needs, type Outcome } from '../support/process.ts';
import { startRegistry } from '../support/registry.ts';
import { startProxy, type Seen } from '../support/proxy.ts';
import {
  assertStoreHolds,
  beginPull,
  failed,
  startStack,
  succeeded,
  untilArriving,
  type Stack,
} from '../support/stack.ts';

const MIB = 1024 * 1024;
const BIG = 3 * MIB;
const SKIP = needs('docker', 'docker-registry');
/** How long a registry may be silent in the middle of a body, in milliseconds, and a client that waits for it. */
const STALL = 30_000;
const PATIENCE = 3 * STALL;

/** Waits until the log warns of bytes of the blob that are wrong, naming their digest beside the blob's own. */
async function warned(daemon: Daemon, digest: string): Promise<void> {
  const line = new RegExp(`WARN .*digest=${digest} .*`);
  await daemon.process.until('a warning', () => line.test(daemon.log));
  const named = new Set(line.exec(daemon.log)?.[0].match(/sha256:[a-f0-9]{64}/g));
  assert.equal(named.size, 2, daemon.log);
}

/** A pull from a registry that falls silent in the middle of a layer and leaves the connection open. */
interface StalledPull extends AsyncDisposable {
  readonly stack: Stack;
  readonly big: TestLayer;
  readonly pushed: TestImage;
  readonly outcome: Promise<Outcome>;
}

async function beginStalledPull(): Promise<StalledPull> {
  const stack = await startStack();
  const big = await bulk('stalled', BIG);
  const pushed = await stack.push('stalled:1', image({ layers: [big] }));
  stack.proxy.inject({ path: new RegExp(big.digest), stallAfter: MIB, times: 1 });
  const outcome = stack.daemon.run('docker', ['pull', stack.ref('stalled:1')], { timeoutMs: PATIENCE });
  return { stack, big, pushed, outcome, [Symbol.asyncDispose]: () => stack.stop() };
}

/** Begun before all tests and looked at after them, so that nobody waits for it. */
let stalled: StalledPull | undefined;
before(async () => {
  if (SKIP === false) stalled = await beginStalledPull();
});
after(() => stalled?.[Symbol.asyncDispose]());

describe('transfers', { skip: SKIP }, () => {
  let stack: Stack;
  beforeEach(async () => {
    stack = await startStack();
  });
  afterEach(() => stack.stop());

  const pull = (name: string): ReturnType<Stack['daemon']['docker']> => stack.daemon.docker('pull', stack.ref(name));
  const remove = async (...names: string[]): Promise<void> => {
    succeeded(await stack.daemon.docker('rmi', ...names.map((name) => stack.ref(name))));
    await assertStoreHolds(stack.daemon.dataRoot);
  };
  const only = (at: TestLayer): RegExp => new RegExp(`/blobs/${at.digest}`);
  const bytesOf = (at: TestLayer): number =>
    stack.proxy.blobRequests(at.digest).reduce((sum, { bytes }) => sum + bytes, 0);
  /** The first byte that each request of the blob asked for. */
  const offsets = (requests: readonly Seen[]): number[] =>
    requests.map(({ range }) => Number(/^bytes=(\d+)-/.exec(range ?? 'bytes=0-')?.[1]));
  it('of layers that two pulls share happen once, and both pulls see all of it', async () => {
    const base = await bulk('shared base', MIB);
    const [one, two] = (await Promise.all(
      ['one', 'two'].map(async (name) => image({ layers: [base, await layer([{ name }])] })),
    )) as [TestImage, TestImage];
    await stack.push('one:1', one);
    await stack.push('two:1', two);
    let release = (): void => undefined;
    stack.proxy.inject({ path: only(base), stallAfter: 1000, until: new Promise<void>((done) => (release = done)) });
    const pulls = Promise.all([pull('one:1'), pull('two:1')]);
    await stack.proxy.until('both pulls to have begun', (seen) =>
      [one, two].every(({ layers: [, top] }) =>
        seen.some(({ path, end }) => path.endsWith(top?.digest ?? '-') && end === 'complete'),
      ),
    );
    release();
    for (const outcome of await pulls) {
      const output = succeeded(outcome);
      assert.match(output, new RegExp(`${base.digest.slice(7, 19)}: Pull complete`));
    }
    for (const { digest, bytes } of [base, ...one.blobs, ...two.blobs]) {
      const requests = stack.proxy.blobRequests(digest);
      assert.equal(
        requests.reduce((sum, request) => sum + request.bytes, 0),
        bytes.length,
        digest,
      );
    }
    await assertStoreHolds(stack.daemon.dataRoot, one, two);
    await remove('one:1', 'two:1');
  });

  it('happen once for the same image pulled by several at once', async () => {
    const big = await bulk('same image', MIB);
    await stack.push('same:1', image({ layers: [big] }));
    for (const outcome of await Promise.all([pull('same:1'), pull('same:1'), pull('same:1')])) succeeded(outcome);
    assert.equal(bytesOf(big), big.bytes.length);
    await remove('same:1');
  });

  it('stop when the only client goes away, and go on from there with the next', async () => {
    const big = await bulk('client gone', BIG);
    const pushed = await stack.push('gone:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), stallAfter: MIB });
    const leave = await beginPull(stack, 'gone:1', big);
    leave();
    await stack.proxy.until('the transfer to stop', (seen) =>
      seen.every(({ path, end }) => !only(big).test(path) || end !== 'open'),
    );
    stack.proxy.reset();
    succeeded(await pull('gone:1'));
    const [first] = offsets(stack.proxy.blobRequests(big.digest));
    assert.ok(first !== undefined && first > 0 && first <= MIB, `went on at ${first}`);
    assert.ok(bytesOf(big) < big.bytes.length);
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('gone:1');
  });

  it('can be paused, go on where they were, and be cancelled for whoever waits', async () => {
    const big = await bulk('steered', BIG);
    const pushed = await stack.push('steered:1', image({ layers: [big] }));
    const path = `/layerd/transfers/${big.digest}`;
    const paused = (is: boolean): Promise<ApiResponse> =>
      stack.daemon.request(path, { method: 'PATCH', body: JSON.stringify({ paused: is }) });
    stack.proxy.inject({ path: only(big), stallAfter: MIB });
    const waiting = pull('steered:1');
    await untilArriving(stack.daemon, big);
    assert.match((await paused(true)).body, /"state":"paused"/);
    await stack.proxy.until('the connection to end', (seen) =>
      seen.every(({ path, end }) => !only(big).test(path) || end !== 'open'),
    );
    stack.proxy.reset();
    stack.proxy.inject({ path: only(big), stallAfter: MIB });
    assert.equal((await paused(false)).status, 200);
    await stack.proxy.until('it to go on', (seen) => seen.some(({ bytes }) => bytes === MIB));
    assert.ok(offsets(stack.proxy.blobRequests(big.digest)).every((offset) => offset > 0));
    assert.equal((await stack.daemon.request(path, { method: 'DELETE' })).status, 204);
    assert.match(failed(await waiting), /steered:1\) was cancelled through the API; ask again to resume it/);
    stack.proxy.reset();
    succeeded(await pull('steered:1'));
    assert.ok(offsets(stack.proxy.blobRequests(big.digest)).every((offset) => offset > 0));
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('steered:1');
  });

  it('go on from there also when the registry once did not find the image in between', async () => {
    const big = await bulk('not found once', BIG);
    await stack.push('once:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), stallAfter: MIB });
    const leave = await beginPull(stack, 'once:1', big);
    leave();
    await stack.proxy.until('the transfer to stop', (seen) =>
      seen.every(({ path, end }) => !only(big).test(path) || end !== 'open'),
    );
    stack.proxy.reset();
    stack.proxy.inject({ path: /manifests/, answer: { status: 404 } });
    failed(await pull('once:1'));
    stack.proxy.reset();
    succeeded(await pull('once:1'));
    const [first] = offsets(stack.proxy.blobRequests(big.digest));
    assert.ok(first !== undefined && first > 0, `went on at ${first}`);
    await remove('once:1');
  });

  it('begin again, and say so in the log, where what was left on the disk is damaged', async () => {
    const big = await bulk('damaged on the disk', BIG);
    const pushed = await stack.push('left:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), stallAfter: MIB });
    (await beginPull(stack, 'left:1', big))();
    await stack.proxy.until('the transfer to stop', (seen) =>
      seen.every(({ path, end }) => !only(big).test(path) || end !== 'open'),
    );
    stack.proxy.reset();
    // The process ends, so that nothing more is written to the file.
    await stack.daemon.kill('SIGTERM');
    const ingest = await open(join(stack.daemon.dataRoot, 'ingest', hexOf(big.digest)), 'r+');
    await ingest.write(Buffer.from('damaged'), 0, 7, 10_000);
    await ingest.close();
    await stack.daemon.start();
    succeeded(await pull('left:1'));
    await warned(stack.daemon, big.digest);
    assert.deepEqual(offsets(stack.proxy.blobRequests(big.digest)).slice(1), [0]);
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
  });

  it('go on while another client still wants them', async () => {
    const big = await bulk('one of two leaves', BIG);
    await stack.push('leave:1', image({ layers: [big] }));
    const stays = await stack.push('stay:1', image({ layers: [big, await layer([{ name: 'stay' }])] }));
    let release = (): void => undefined;
    stack.proxy.inject({ path: only(big), stallAfter: MIB, until: new Promise<void>((done) => (release = done)) });
    const leave = await beginPull(stack, 'leave:1', big);
    const staying = pull('stay:1');
    const top = stays.layers[1]?.digest ?? '-';
    await stack.proxy.until('the second pull', (seen) =>
      seen.some(({ path, end }) => path.endsWith(top) && end === 'complete'),
    );
    leave();
    release();
    succeeded(await staying);
    // What the client that left had asked for is kept for a resume.
    succeeded(await pull('leave:1'));
    assert.equal(bytesOf(big), big.bytes.length);
    await remove('stay:1', 'leave:1');
  });

  it('go on by Range after a cut connection', async () => {
    const big = await bulk('cut', BIG);
    const pushed = await stack.push('cut:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), cutAfter: MIB, times: 2 });
    succeeded(await pull('cut:1'));
    const [first, ...later] = offsets(stack.proxy.blobRequests(big.digest));
    assert.equal(first, 0);
    assert.ok(later.length >= 2 && later.every((offset, at) => offset > (later[at - 1] ?? 0)), later.join(', '));
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('cut:1');
  });

  it('begin again where the registry does not know ranges', async () => {
    const big = await bulk('no ranges', BIG);
    const pushed = await stack.push('no-ranges:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), cutAfter: MIB, times: 1 });
    stack.proxy.inject({ path: only(big), ignoreRange: true });
    succeeded(await pull('no-ranges:1'));
    assert.deepEqual(
      stack.proxy.blobRequests(big.digest).map(({ status }) => status),
      [200, 200],
    );
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('no-ranges:1');
  });

  it('do not trust a Content-Range that is not what was asked for', async () => {
    const big = await bulk('wrong range', BIG);
    const pushed = await stack.push('wrong-range:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), cutAfter: MIB, times: 1 });
    const total = big.bytes.length;
    const headers = { 'Content-Range': `bytes 7-${total - 1}/${total}` };
    stack.proxy.inject({ path: only(big), headers, times: 1 });
    succeeded(await pull('wrong-range:1'));
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('wrong-range:1');
  });

  it('are tried again after 429, 503 and an answer that ends too early', async () => {
    const some = await layer([{ name: 'again', content: noise('again', 50_000) }]);
    const pushed = await stack.push('again:1', image({ layers: [some] }));
    const path = only(some);
    stack.proxy.inject({ path, answer: { status: 429, headers: { 'Retry-After': '0' } }, times: 1 });
    stack.proxy.inject({ path, answer: { status: 503 }, times: 1 });
    stack.proxy.inject({ path, cutAfter: 100, times: 1 });
    stack.proxy.inject({ path: /manifests/, answer: { status: 502 }, times: 1 });
    succeeded(await pull('again:1'));
    await assertStoreHolds(stack.daemon.dataRoot, pushed);
    await remove('again:1');
  });

  it('name both digests when the content is wrong every time, and nothing of it becomes visible', async () => {
    const big = await bulk('corrupt', 200_000);
    await stack.push('corrupt:1', image({ layers: [big] }));
    stack.proxy.inject({ path: only(big), corruptAt: 150_000 });
    const output = failed(await pull('corrupt:1'));
    assert.match(output, new RegExp(big.digest));
    const named = new Set(output.match(/sha256:[a-f0-9]{64}/g));
    assert.ok(named.size >= 2, output);
    assert.equal(succeeded(await stack.daemon.docker('images', '-a', '-q')), '');
    await assertStoreHolds(stack.daemon.dataRoot);
    // The wrong bytes were discarded: the next pull starts from nothing, and is right.
    stack.proxy.reset();
    succeeded(await pull('corrupt:1'));
    assert.deepEqual(offsets(stack.proxy.blobRequests(big.digest)), [0]);
    await remove('corrupt:1');
  });

  it('keep layers that a removal would take, while another pull needs them', async () => {
    const base = await bulk('kept', MIB);
    const late = await bulk('late', MIB);
    const first = await stack.push('first:1', image({ layers: [base] }));
    const second = await stack.push('second:1', image({ layers: [base, late] }));
    succeeded(await pull('first:1'));
    let release = (): void => undefined;
    stack.proxy.inject({ path: only(late), stallAfter: 1000, until: new Promise<void>((done) => (release = done)) });
    const pulling = pull('second:1');
    await stack.proxy.until('the second pull', (seen) =>
      seen.some(({ path, bytes }) => only(late).test(path) && bytes > 0),
    );
    const removed = succeeded(await stack.daemon.docker('rmi', stack.ref('first:1')));
    assert.match(removed, new RegExp(`Deleted: ${first.id}`));
    release();
    succeeded(await pulling);
    assert.equal(bytesOf(base), base.bytes.length, 'the base was fetched again');
    await assertStoreHolds(stack.daemon.dataRoot, second);
    await remove('second:1');
  });

  it('go on with the next one’s repository when the first one’s refuses', async () => {
    const big = await bulk('joined', MIB);
    await stack.push('denied:1', image({ layers: [big] }));
    const pushed = await stack.push('granted:1', image({ layers: [big, await layer([{ name: 'granted' }])] }));
    let refuse = (): void => undefined;
    stack.proxy.inject({
      path: new RegExp(`/v2/denied/blobs/${big.digest}`),
      until: new Promise<void>((done) => (refuse = done)),
      answer: { status: 403, headers: { 'Content-Type': 'application/json' }, body: '{"errors":[{"code":"DENIED"}]}' },
    });
    const denied = pull('denied:1');
    await stack.proxy.until('the first pull', (seen) => seen.some(({ path }) => only(big).test(path)));
    const granted = pull('granted:1');
    const top = pushed.layers[1]?.digest ?? '-';
    await stack.proxy.until('the second pull', (seen) =>
      seen.some(({ path, end }) => path.endsWith(top) && end === 'complete'),
    );
    refuse();
    succeeded(await granted);
    await denied;
    assert.ok(stack.proxy.blobRequests(big.digest).every(({ path }) => path.startsWith('/v2/granted/')));
  });

  it('do not fail for the size that another one’s manifest states', async () => {
    const big = await bulk('of some size', MIB);
    const alter = ({ layers: [first] }: Manifest): void => {
      if (first !== undefined) first.size += 5;
    };
    await stack.push('lies:1', image({ layers: [big], alter }));
    const honest = await stack.push('honest:1', image({ layers: [big, await layer([{ name: 'honest' }])] }));
    let answer = (): void => undefined;
    stack.proxy.inject({
      path: new RegExp(`/v2/lies/blobs/${big.digest}`),
      until: new Promise<void>((done) => (answer = done)),
    });
    const lies = pull('lies:1');
    await stack.proxy.until('the first pull', (seen) => seen.some(({ path }) => only(big).test(path)));
    const pulling = pull('honest:1');
    const top = honest.layers[1]?.digest ?? '-';
    await stack.proxy.until('the second pull', (seen) =>
      seen.some(({ path, end }) => path.endsWith(top) && end === 'complete'),
    );
    answer();
    assert.match(failed(await lies), /the manifest says/);
    succeeded(await pulling);
    await assertStoreHolds(stack.daemon.dataRoot, honest);
  });
});

describe('a limit of bandwidth', { skip: SKIP }, () => {
  it('holds up a download until a reload lifts it', async () => {
    await using stack = await startStack({ config: { 'download-bandwidth': ['1k'] } });
    const { daemon, proxy } = stack;
    const some = await bulk('limited', 200_000);
    const pushed = await stack.push('limited:1', image({ layers: [some] }));
    const outcome = daemon.docker('pull', stack.ref('limited:1'));
    await proxy.until('the registry to have sent all', (seen) =>
      seen.some(({ path, end }) => path.endsWith(some.digest) && end === 'complete'),
    );
    const list = (await daemon.request('/layerd/transfers')).json<TransferReport[]>();
    const layers = list.filter(({ digest }) => digest === some.digest);
    assert.deepEqual(
      layers.map(({ state, received }) => [state, received]),
      [['downloading', 0]],
    );
    await writeFile(daemon.configFile, '{}');
    daemon.process.child.kill('SIGHUP');
    succeeded(await outcome);
    await assertStoreHolds(daemon.dataRoot, pushed);
  });
});

describe('limits that are changed while the daemon runs', { skip: SKIP }, () => {
  it('count for what is under way, until a reload sets them anew', async () => {
    await using stack = await startStack();
    const { daemon, proxy } = stack;
    const layers = await Promise.all(['one', 'two', 'three'].map((name) => bulk(`limit ${name}`, MIB)));
    const pushed = await stack.push('limits:1', image({ layers }));
    const names = layers.map(({ digest }) => digest);
    let release = (): void => undefined;
    const until = new Promise<void>((done) => (release = done));
    proxy.inject({ path: new RegExp(names.join('|')), stallAfter: 100_000, until, times: 3 });
    const outcome = daemon.docker('pull', stack.ref('limits:1'));
    const states = async (): Promise<string[]> =>
      (await daemon.request('/layerd/transfers'))
        .json<TransferReport[]>()
        .filter(({ digest, received }) => names.includes(digest) && received > 0)
        .map(({ state }) => state);
    while ((await states()).length < 3) await sleep(5);
    succeeded(await daemon.layerctl('limits', 'set', '--max-concurrent-downloads-per-registry', `${proxy.host}=1`));
    assert.deepEqual((await states()).sort(), ['downloading', 'waiting', 'waiting']);
    daemon.process.child.kill('SIGHUP');
    // A reload puts back the three that there may be, and those two go on where they were.
    const limits = async (): Promise<object> => (await daemon.request('/layerd/limits')).json();
    const initial = { concurrency: 3, registries: {}, bandwidth: [] };
    while (!isDeepStrictEqual(await limits(), { downloads: initial, uploads: { ...initial, concurrency: 5 } })) {
      await sleep(5);
    }
    await proxy.until(
      'two to be asked for the rest',
      (seen) =>
        names.filter((name) => seen.some(({ path, range }) => path.endsWith(name) && range !== undefined)).length === 2,
    );
    release();
    succeeded(await outcome);
    await assertStoreHolds(daemon.dataRoot, pushed);
  });
});

describe('mirrors of Docker Hub', { skip: SKIP }, () => {
  it('are asked in order, and the next one makes good what one cannot give or gives wrongly', async () => {
    await using good = await startRegistry();
    await using second = await startProxy(good);
    await using stack = await startStack({
      args: (proxy) => ['--registry-mirror', proxy.url, '--registry-mirror', second.url],
    });
    const { proxy, daemon } = stack;
    const big = await bulk('mirrored', 200_000);
    const pushed = image({ layers: [big] });
    await stack.push('library/sample:1', pushed);

    await push(good.host, 'library/sample', '1', pushed);

    succeeded(await daemon.docker('pull', 'sample:1'));
    assert.deepEqual(second.seen, []);
    const inspect = ['image', 'inspect', '--format', '{{.RepoTags}} {{.RepoDigests}}', 'sample:1'];
    assert.equal(succeeded(await daemon.docker(...inspect)), `[sample:1] [sample@${pushed.digest}]\n`);
    succeeded(await daemon.docker('rmi', 'sample:1'));

    // Corrupt at the first mirror: the second is asked for the blob.
    proxy.inject({ path: new RegExp(big.digest), corruptAt: 1000 });
    succeeded(await daemon.docker('pull', 'sample:1'));
    assert.equal(second.blobRequests(big.digest).length, 1);
    await warned(daemon, big.digest);
    await assertStoreHolds(daemon.dataRoot, pushed);
    succeeded(await daemon.docker('rmi', 'sample:1'));

    // Not found, then gone altogether.
    second.reset();
    proxy.inject({ path: /manifests/, answer: { status: 404 } });
    succeeded(await daemon.docker('pull', 'docker.io/library/sample:1'));
    succeeded(await daemon.docker('rmi', 'sample:1'));
    await proxy.stop();
    succeeded(await daemon.docker('pull', 'sample:1'));
    await assertStoreHolds(daemon.dataRoot, pushed);
  });
});

describe('a blob that the registry itself has damaged', { skip: SKIP }, () => {
  it('is refused with both digests', async () => {
    await using stack = await startStack();
    const big = await bulk('damaged', 100_000);
    await stack.push('damaged:1', image({ layers: [big] }));
    const bytes = Buffer.from(big.bytes);
    bytes.writeUInt8(bytes.readUInt8(60_000) ^ 1, 60_000);
    await writeFile(stack.registry.blobPath(big.digest), bytes);
    const output = failed(await stack.daemon.docker('pull', stack.ref('damaged:1')));
    assert.match(output, new RegExp(big.digest));
    await assertStoreHolds(stack.daemon.dataRoot);
  });
});

describe('a registry that falls silent in the middle of a layer', { skip: SKIP }, () => {
  it('is given up after a while, said so, and asked for the rest', async () => {
    assert.ok(stalled);
    const { stack, big, pushed, outcome } = stalled;
    const { proxy, daemon } = stack;
    const lines = succeeded(await outcome).split('\n');
    const said = `${proxy.host} stalled: no byte came for ${STALL / 1000} s`;
    assert.ok(lines.includes(`${shortId(big.digest)}: Retrying: ${said}`), lines.join('\n'));
    assert.match(daemon.log, new RegExp(`retrying a transfer digest=${big.digest} received=${MIB} .*${said}`));
    const requests = proxy.blobRequests(big.digest).map(({ range, bytes, end }) => ({ range, bytes, end }));
    assert.deepEqual(requests, [
      { range: undefined, bytes: MIB, end: 'cut' },
      { range: `bytes=${MIB}-`, bytes: big.bytes.length - MIB, end: 'complete' },
    ]);
    await assertStoreHolds(daemon.dataRoot, pushed);
  });
});
