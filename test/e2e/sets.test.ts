import assert from 'node:assert/strict';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ImageSetReport } from '../../src/protocol/image-set.ts';
import { image, layer, bulk } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { ACCOUNT } from '../support/registry.ts';
import { failed, startStack, succeeded, until, untilArriving, type Stack } from '../support/stack.ts';

const SKIP = needs('docker', 'docker-registry');
const MIB = 1024 * 1024;

async function get({ daemon }: Stack, name: string): Promise<ImageSetReport> {
  const { status, body } = await daemon.request(`/layerd/sets/${name}`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as ImageSetReport;
}

async function put({ daemon }: Stack, name: string, spec: object): Promise<void> {
  const { status, body } = await daemon.request(`/layerd/sets/${name}`, { method: 'PUT', body: JSON.stringify(spec) });
  assert.ok(status === 200 || status === 201, body);
}

/** The conditions of a set that are true. */
const truths = ({ conditions }: ImageSetReport): string =>
  conditions.flatMap(({ type, status }) => (status === 'True' ? [type] : [])).join();

const becomes = (stack: Stack, name: string, wanted: string): Promise<void> =>
  until(`the set ${name} to be ${wanted}`, async () => {
    const set = await get(stack, name);
    return set.observedGeneration === set.generation && truths(set) === wanted;
  });

const small = async (content: string) => image({ layers: [await layer([{ name: 'content', content }])] });

describe('an image set', { skip: SKIP }, () => {
  let stack: Stack;
  before(async () => {
    stack = await startStack({ args: ['--max-download-attempts', '1'] });
  });
  after(() => stack.stop());

  it('is ready after kill -9 in the middle of its pull, which goes on by Range', async () => {
    const big = await bulk('set', 3 * MIB);
    await stack.push('big:1', image({ layers: [big] }));
    const free = stack.proxy.inject({ path: new RegExp(big.digest), stallAfter: MIB });
    await put(stack, 'base', { images: [stack.ref('big:1')] });
    await untilArriving(stack.daemon, big);
    const { status, body } = await stack.daemon.request('/layerd/pulls');
    assert.equal(status, 200);
    assert.match(body, /"client":"image set base".*"priority":-10/);
    await stack.daemon.kill('SIGKILL');
    free();
    await stack.daemon.start();
    await becomes(stack, 'base', 'Ready');
    assert.match(stack.proxy.blobRequests(big.digest).at(-1)?.range ?? '', /^bytes=[1-9]\d*-/);
  });

  it('follows its tag, is degraded while the registry is away, and asks for nothing twice', async () => {
    const { proxy } = stack;
    const old = await stack.push('app:1', await small('old'));
    await put(stack, 'app', {
      images: [{ reference: stack.ref('app:1'), pullPolicy: 'Always', interval: '1s', jitter: '0s' }],
    });
    await becomes(stack, 'app', 'Ready');
    assert.equal((await get(stack, 'app')).images[0]?.digest, old.digest);
    proxy.reset();
    const asked = () => proxy.seen.filter(({ path }) => path.includes('/app/manifests/')).map(({ method }) => method);
    await proxy.until('two checks', () => asked().length >= 2);
    assert.deepEqual([...new Set(asked())], ['HEAD']);

    const moved = await stack.push('app:1', await small('new'));
    await until('the tag to be followed', async () => (await get(stack, 'app')).images[0]?.digest === moved.digest);
    await becomes(stack, 'app', 'Ready');
    const shown = succeeded(await stack.daemon.docker('image', 'inspect', '-f', '{{.Id}}', stack.ref('app:1')));
    assert.equal(shown.trim(), moved.id);

    const back = proxy.inject({ answer: { status: 503, body: 'away' } });
    await becomes(stack, 'app', 'Ready,Degraded');
    const degraded = (await get(stack, 'app')).conditions.find(({ type }) => type === 'Degraded');
    assert.equal(degraded?.reason, 'RegistryUnavailable');
    const { status } = await stack.daemon.request('/readyz');
    assert.equal(status, 200);
    back();
    await becomes(stack, 'app', 'Ready');
    succeeded(await stack.daemon.layerctl('set', 'rm', 'app'));
  });

  it('keeps its images from docker rmi and prune, until it is gone and no other set asks for them', async () => {
    const { daemon } = stack;
    await stack.push('kept:1', await small('kept'));
    const name = stack.ref('kept:1');
    const file = join(daemon.dir, 'one.json');
    await writeFile(file, JSON.stringify({ images: [name] }));
    assert.equal(succeeded(await daemon.layerctl('set', 'apply', '-f', file, '--wait')).trim(), 'one');
    await put(stack, 'two', { images: [name] });
    assert.match(
      failed(await daemon.docker('rmi', name)),
      /it is pinned by image set one, image set two: unpin it there, or force it/,
    );
    succeeded(await daemon.docker('image', 'prune', '-a', '-f'));
    assert.match(succeeded(await daemon.layerctl('sets')), /^one +1\/1 +Ready /m);
    // Somebody insists: it goes, and comes back.
    succeeded(await daemon.docker('rmi', '-f', name));
    await until('the image to be back', async () => (await daemon.docker('image', 'inspect', name)).code === 0);
    await becomes(stack, 'one', 'Ready');
    succeeded(await daemon.layerctl('set', 'rm', 'one'));
    assert.match(failed(await daemon.docker('rmi', name)), /it is pinned by image set two:/);
    succeeded(await daemon.layerctl('set', 'rm', 'two'));
    succeeded(await daemon.docker('rmi', name));
    const events = succeeded(
      await daemon.layerctl('events', '--since', '1h', '--until', '0s', '--filter', 'type=imageset'),
    );
    for (const action of ['create', 'progressing', 'ready', 'delete'])
      assert.match(events, new RegExp(`imageset ${action} one `));
  });
});

describe('an image set of a file', { skip: SKIP }, () => {
  it('is pulled with the credentials that it names, which nothing shows', async () => {
    await using stack = await startStack({ registry: { htpasswd: true }, args: [] });
    const { daemon } = stack;
    await stack.push('private:1', await small('private'), ACCOUNT);
    const [sets, credentials] = [join(daemon.dir, 'sets.d'), join(daemon.dir, 'credentials.d')];
    await mkdir(sets);
    await mkdir(credentials);
    await daemon.kill('SIGTERM');
    await writeFile(
      daemon.configFile,
      JSON.stringify({ 'image-sets-dir': sets, 'credentials-dir': credentials, debug: true }),
    );
    const spec = { credentials: 'registry', images: [stack.ref('private:1')] };
    await writeFile(join(sets, 'private.json'), JSON.stringify(spec));
    await daemon.start();
    await until('the set', async () => (await daemon.request('/layerd/sets/private')).status === 200);
    await becomes(stack, 'private', 'Degraded');
    assert.equal((await get(stack, 'private')).conditions[2]?.reason, 'CredentialsUnusable');

    const file = join(credentials, 'registry.json');
    await writeFile(file, JSON.stringify(ACCOUNT), { mode: 0o600 });
    await chmod(file, 0o600);
    await becomes(stack, 'private', 'Ready');
    const { body: events } = await daemon.request('/layerd/events?cursor=0&until=0s', {
      headers: { Accept: 'text/event-stream' },
    });
    const { body } = await daemon.request('/layerd/sets');
    for (const text of [daemon.log, events, body]) {
      assert.ok(!text.includes(ACCOUNT.password));
      assert.ok(!text.includes(Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64')));
    }

    assert.match(failed(await daemon.layerctl('set', 'rm', 'private')), /comes from the file .*private\.json/);
    await writeFile(join(sets, 'other.json'), '{"images":[],"x":1}');
    const { stderr, code } = await daemon.run('bin/layerd', [...daemon.args, '--validate']);
    assert.deepEqual([code, stderr.includes('other.json: field x: unknown')], [1, true]);
  });
});
