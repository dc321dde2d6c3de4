import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import {
  artifact,
  attestation,
  bulk,
  HOST_PLATFORM,
  image,
  index,
  layer,
  LINUX_AMD64,
  LINUX_ARM64,
  push,
  type TestImage,
  type TestLayer,
} from '../support/images.ts';
import { layerctlAt } from '../client/support.ts';
import { must, needs, type Outcome } from '../support/process.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../support/registry.ts';
import { assertStoreHolds, failed, linesOf, startStack, succeeded, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;

describe('layerctl copy', { skip: needs('docker-registry', 'skopeo') }, () => {
  let stack: Stack;
  let target: Registry;
  let proxy: Proxy;
  let amd64: TestImage;
  let arm64: TestImage;
  let all: TestImage;
  let big: TestLayer;
  const run = (...args: string[]): Promise<Outcome> => layerctlAt(stack.daemon.env, ['copy', ...args]);
  const copy = async (...args: string[]): Promise<string> => succeeded(await run(...args));
  const to = (name: string): string => `${proxy.host}/${name}`;
  const raw = (name: string): Promise<string> =>
    must('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${target.host}/${name}`]);
  const absent = (name: string): Promise<string> =>
    raw(name).then(
      () => assert.fail(`${name} is there`),
      (error: unknown) => String(error),
    );
  const uploads = (): string[] =>
    proxy.seen
      .filter(({ method, status }) => ['PATCH', 'PUT'].includes(method) && status < 300)
      .map(({ method, path }) => `${method} ${path}`);
  const fetched = (): number => stack.proxy.seen.filter(({ method }) => method === 'GET').length;

  before(async () => {
    stack = await startStack();
    big = await bulk('big', 3 * MIB);
    const base = await layer([{ name: 'base' }]);
    amd64 = image({ layers: [base, big], format: 'oci', platform: LINUX_AMD64 });
    arm64 = image({ layers: [base, await layer([{ name: 'arm' }])], format: 'oci', platform: LINUX_ARM64 });
    const inner = index([arm64, artifact('application/x.sample', [Buffer.from('data')])], { format: 'oci' });
    all = await stack.push('team/app:1', index([amd64, attestation(amd64), inner], { format: 'oci' }));
    target = await startRegistry();
  });
  after(async () => {
    await target.stop();
    await stack.stop();
  });
  beforeEach(async () => {
    stack.proxy.reset();
    proxy = await startProxy(target);
  });
  afterEach(async () => {
    await proxy.stop();
    // Whatever became of a copy, nothing of it stays.
    await assertStoreHolds(stack.daemon.dataRoot);
    assert.deepEqual(await readdir(join(stack.daemon.dataRoot, 'staging')), []);
  });

  it('brings the whole index, children first, so that digests survive', async () => {
    const lines = linesOf(await copy(stack.ref('team/app:1'), to('whole/app:2')));
    assert.equal(lines[0], `Copying ${stack.ref('team/app:1')} to ${to('whole/app:2')}`);
    assert.deepEqual(lines.slice(-2), [`2: digest: ${all.digest} size: ${all.bytes.length}`, to('whole/app:2')]);
    assert.ok(lines.includes(`${big.digest.slice(7, 19)}: Pushed`), lines.join('\n'));
    const below = (parent: TestImage): TestImage[] => [parent, ...parent.children.flatMap(below)];
    for (const { digest, bytes } of below(all)) assert.equal(await raw(`whole/app@${digest}`), bytes.toString());
    assert.equal(uploads().at(-1), 'PUT /v2/whole/app/manifests/2');
  });

  it('sends only what the target lacks, and fetches no more', async () => {
    await push(target.host, 'partly', '1', arm64);
    await push(target.host, 'partly', '0', image({ layers: [big] }));
    const lines = linesOf(await copy(stack.ref('team/app:1'), to('partly:2')));
    assert.ok(lines.includes(`${big.digest.slice(7, 19)}: Layer already exists`), lines.join('\n'));
    assert.ok(lines.includes(`${arm64.digest.slice(7, 19)}: Already exists`), lines.join('\n'));
    assert.deepEqual(stack.proxy.blobRequests(big.digest), []);
    stack.proxy.reset();
    proxy.reset();
    assert.equal(await copy('-q', stack.ref('team/app:1'), to('partly:3')), `${to('partly:3')}\n`);
    assert.deepEqual(uploads(), ['PUT /v2/partly/manifests/3']);
    assert.equal(fetched(), 1);
  });

  it('takes over what the source’s repository has, within one registry', async () => {
    await push(target.host, 'source', '1', all);
    const out = await copy(to('source:1'), to('moved/here:1'));
    assert.match(out, /: Mounted from source\n/);
    assert.ok(
      uploads().every((line) => line.includes('/manifests/')),
      uploads().join('\n'),
    );
    assert.deepEqual(proxy.blobRequests(), []);
    assert.equal(await raw('moved/here:1'), all.bytes.toString());
  });

  it('takes blobs that the daemon has from there, and keeps them while it does', async () => {
    await stack.push('team/local:1', amd64);
    const name = stack.ref('team/local:1');
    succeeded(await layerctlAt(stack.daemon.env, ['pull', '-q', name]));
    stack.proxy.reset();
    const gate = Promise.withResolvers<undefined>();
    proxy.inject({ method: 'POST', until: gate.promise });
    const copying = copy(name, to('local:1'));
    await proxy.until('the first upload', (seen) => seen.some(({ method }) => method === 'POST'));
    succeeded(await layerctlAt(stack.daemon.env, ['rmi', name]));
    gate.resolve(undefined);
    await copying;
    assert.deepEqual(stack.proxy.blobRequests(), []);
    assert.equal(await raw('local:1'), amd64.bytes.toString());
  });

  it('copies one platform that is asked for, and refuses one that there is not', async () => {
    await copy('--platform', 'linux/arm64', stack.ref('team/app:1'), to('one:1'));
    assert.equal(await raw('one:1'), arm64.bytes.toString());
    await absent(`one@${all.digest}`);
    await stack.push('team/plain:1', amd64);
    await copy('--platform', 'linux/amd64', stack.ref('team/plain:1'), to('one:2'));
    const plain = await run('--platform', 'linux/arm64', stack.ref('team/plain:1'), to('one:3'));
    assert.match(failed(plain), /does not provide the specified platform \(linux\/arm64\); it is for linux\/amd64/);
    const none = await run('--platform', 'linux/s390x', stack.ref('team/app:1'), to('one:3'));
    assert.match(failed(none), /no matching manifest for linux\/s390x .*linux\/amd64/);
    await absent('one:3');
    const odd = await run('--platform', 'linux', stack.ref('team/app:1'), to('one:3'));
    assert.match(failed(odd, 2), /invalid platform 'linux'/);
  });

  it('goes on after broken connections of either side', async () => {
    stack.proxy.inject({ path: new RegExp(big.digest), method: 'GET', times: 1, cutAfter: MIB });
    proxy.inject({ method: 'PATCH', times: 1, cutRequestAfter: 2 * MIB });
    await copy(stack.ref('team/app:1'), to('cut:1'));
    assert.equal(await raw('cut:1'), all.bytes.toString());
    assert.match(stack.proxy.blobRequests(big.digest)[1]?.range ?? '', /^bytes=[1-9]\d{5,}-$/);
  });

  it('never completes an upload of wrong bytes, and asks once more for right ones', async () => {
    const path = new RegExp(big.digest);
    stack.proxy.inject({ path, method: 'GET', corruptAt: 2 * MIB });
    const refused = failed(await run(stack.ref('team/app:1'), to('wrong:1')));
    assert.match(refused, new RegExp(`expected ${big.digest}`));
    assert.equal(stack.proxy.blobRequests(big.digest).length, 2);
    const uploaded = proxy.seen.filter((seen) => seen.method === 'PUT' && path.test(decodeURIComponent(seen.path)));
    assert.deepEqual(uploaded, []);
    await absent('wrong:1');
    stack.proxy.reset();
    stack.proxy.inject({ path, method: 'GET', corruptAt: MIB, times: 1 });
    await copy(stack.ref('team/app:1'), to('wrong:1'));
    assert.equal(await raw('wrong:1'), all.bytes.toString());
  });

  it('ends when the client goes away', async () => {
    const fresh = await bulk('cancelled', 3 * MIB);
    await stack.push('cancelled:1', image({ layers: [fresh] }));
    stack.proxy.inject({ path: new RegExp(fresh.digest), stallAfter: MIB });
    await using client = stack.daemon.client('layerctl', 'copy', stack.ref('cancelled:1'), to('cancelled:1'));
    await proxy.until('the upload', (seen) => seen.some(({ method }) => method === 'PATCH'));
    const { code, stderr } = await client.kill('SIGINT');
    assert.deepEqual([code, stderr.includes('interrupted')], [130, true]);
    await proxy.until('the upload to be cancelled', (seen) => seen.some(({ method }) => method === 'DELETE'));
    await stack.proxy.until('the download to stop', (seen) => seen.every(({ end }) => end !== 'open'));
    assert.ok(proxy.seen.every(({ path }) => !path.endsWith('/manifests/1')));
  });

  it('checks the digest that the target is to have, and refuses before anything is sent', async () => {
    await copy(stack.ref('team/app:1'), to(`by-digest@${all.digest}`));
    assert.equal(await raw(`by-digest@${all.digest}`), all.bytes.toString());
    proxy.reset();
    for (const [source, name, message] of [
      ['team/app:1', `other@${amd64.digest}`, new RegExp(`its digest is ${all.digest}`)],
      ['team/nothing:1', 'other:1', /nothing/],
    ] as const) {
      assert.match(failed(await run(stack.ref(source), to(name))), message);
    }
    assert.match(failed(await run('App', to('x')), 2), /must be lowercase/);
    assert.deepEqual(proxy.seen, []);
  });

  it('says what the target’s registry refuses', async () => {
    proxy.inject({ method: 'POST', answer: { status: 403, body: '{"errors":[{"code":"DENIED","message":"no"}]}' } });
    assert.match(failed(await run(stack.ref('team/app:1'), to('denied:1'))), /denied: no/);
  });
});

describe('layerctl copy between registries that want credentials', { skip: needs('docker-registry') }, () => {
  it('sends each its own', async () => {
    await using stack = await startStack({ registry: { htpasswd: true } });
    await using target = await startRegistry({ tokenAuth: true });
    const sample = image({ layers: [await layer([{ name: 'x' }])], platform: HOST_PLATFORM });
    await stack.push('app:1', sample, ACCOUNT);
    const copy = ['copy', stack.ref('app:1'), `${target.host}/app:1`] as const;
    const auth = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64');
    const configure = async (...hosts: string[]): Promise<void> => {
      const auths = Object.fromEntries(hosts.map((host) => [host, { auth }]));
      await writeFile(join(stack.daemon.dir, 'docker/config.json'), JSON.stringify({ auths }));
    };
    await configure(target.host);
    assert.match(failed(await layerctlAt(stack.daemon.env, copy)), /unauthorized|authentication/);
    await configure(stack.proxy.host);
    assert.match(failed(await layerctlAt(stack.daemon.env, copy)), /denied/);
    await configure(stack.proxy.host, target.host);
    const lines = linesOf(succeeded(await layerctlAt(stack.daemon.env, copy)));
    assert.equal(lines.at(-2), `1: digest: ${sample.digest} size: ${sample.bytes.length}`);
    assert.doesNotMatch(stack.daemon.log, new RegExp(ACCOUNT.password));
  });
});
