import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import Docker from 'dockerode';
import { hexOf } from '../../src/protocol/digest.ts';
import {
  attestation,
  bulk,
  HOST_PLATFORM,
  image,
  index,
  layer,
  LINUX_AMD64,
  LINUX_ARM64,
  noise,
  type TestImage,
  type TestLayer,
} from '../support/images.ts';
import { must, needs } from '../support/process.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../support/registry.ts';
import { failed, linesOf, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

const OTHER_PLATFORM = HOST_PLATFORM === LINUX_AMD64 ? LINUX_ARM64 : LINUX_AMD64;

describe('docker push', { skip: needs('docker', 'docker-registry', 'skopeo') }, () => {
  let stack: Stack;
  /** Where is pushed to. */
  let target: Registry;
  let proxy: Proxy;
  let base: TestLayer;
  let top: TestLayer;
  let app: TestImage;
  const docker = async (...args: string[]): Promise<string> => succeeded(await stack.daemon.docker(...args));
  const raw = async (name: string): Promise<string> =>
    must('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${target.host}/${name}`]);
  const to = (name: string): string => `${proxy.host}/${name}`;
  const uploads = (): string[] =>
    proxy.seen.filter(({ method }) => ['PATCH', 'PUT'].includes(method)).map(({ method, path }) => `${method} ${path}`);
  const inspect = async (name: string): Promise<{ RepoDigests: string[]; Identity?: { Pull?: unknown[] } }> => {
    const answer = await stack.daemon.request(`/v1.56/images/${name}/json`);
    return answer.json();
  };
  /** What the events of the daemon are from a moment on, without what tags tell. */
  const events = async (since: number): Promise<string[]> => {
    const query = `since=${(since / 1000).toFixed(3)}&until=${(Date.now() / 1000 + 0.01).toFixed(3)}`;
    const lines: string[] = [];
    for await (const { Action, Actor } of stack.daemon.lines<{
      Action: string;
      Actor: { ID: string; Attributes: { name: string } };
    }>(`/v1.56/events?${query}`)) {
      if (Action !== 'tag') lines.push(`${Action} ${Actor.ID} ${Actor.Attributes.name}`);
    }
    return lines;
  };

  before(async () => {
    stack = await startStack();
    base = await bulk('base', 2_000_000);
    top = await layer([{ name: 'top', content: 'top' }]);
    app = await stack.push('team/app:1', image({ layers: [base, top], format: 'oci' }));
    await docker('pull', '-q', stack.ref('team/app:1'));
  });
  after(() => stack.stop());
  beforeEach(async () => {
    target = await startRegistry();
    proxy = await startProxy(target);
  });
  afterEach(async () => {
    await proxy.stop();
    await target.stop();
  });

  it('uploads an image so that its digests survive, and then knows it by its digest', async () => {
    const since = Date.now();
    await docker('tag', stack.ref('team/app:1'), to('copy/app:1'));
    assert.deepEqual((await inspect(to('copy/app:1'))).RepoDigests, [`${stack.ref('team/app')}@${app.digest}`]);
    const lines = linesOf(await docker('push', to('copy/app:1')));
    assert.equal(lines[0], `The push refers to repository [${to('copy/app')}]`);
    assert.equal(lines.at(-1), `1: digest: ${app.digest} size: ${app.bytes.length}`);
    for (const { digest } of [base, top]) {
      for (const status of ['Preparing', 'Pushed']) assert.ok(lines.includes(`${digest.slice(7, 19)}: ${status}`));
    }
    assert.equal(await raw('copy/app:1'), app.bytes.toString());
    await must('skopeo', [
      'copy',
      '--src-tls-verify=false',
      `docker://${target.host}/copy/app:1`,
      `dir:${join(target.dir, 'read-back')}`,
    ]);
    const { RepoDigests, Identity } = await inspect(to('copy/app:1'));
    assert.ok(RepoDigests.includes(`${to('copy/app')}@${app.digest}`));
    assert.equal(Identity?.Pull?.length, 2);
    assert.deepEqual(await events(since), [`push ${to('copy/app:1')} ${to('copy/app')}`]);
  });

  it('uploads nothing that is there, and mounts what another repository has', async () => {
    await docker('tag', stack.ref('team/app:1'), to('one:1'));
    assert.equal(await docker('push', '-q', to('one:1')), `${to('one:1')}\n`);
    proxy.reset();
    const again = await docker('push', to('one:1'));
    assert.equal(again.match(/Layer already exists/g)?.length, 2);
    assert.deepEqual(uploads(), ['PUT /v2/one/manifests/1']);
    proxy.reset();
    await docker('tag', stack.ref('team/app:1'), to('two:1'));
    assert.equal((await docker('push', to('two:1'))).match(/Mounted from one/g)?.length, 2);
    assert.deepEqual(uploads(), ['PUT /v2/two/manifests/1']);
    assert.equal(await raw('two:1'), app.bytes.toString());
  });

  it('pushes all tags of a repository with -a, and no others', async () => {
    const other = await stack.push('team/other:1', image({ layers: [top] }));
    await docker('pull', '-q', stack.ref('team/other:1'));
    await docker('tag', stack.ref('team/app:1'), to('all:1'));
    await docker('tag', stack.ref('team/other:1'), to('all:2'));
    await docker('tag', stack.ref('team/other:1'), to('all/below:3'));
    const since = Date.now();
    const out = await docker('push', '-a', to('all'));
    assert.match(out, new RegExp(`\\n1: digest: ${app.digest}.*\\n[^]*\\n2: digest: ${other.digest}`));
    assert.deepEqual([await raw('all:1'), await raw('all:2')], [app.bytes.toString(), other.bytes.toString()]);
    assert.ok(proxy.seen.every(({ path }) => path.startsWith('/v2/all/') && !path.includes('below')));
    assert.deepEqual(await events(since), [`push ${to('all:1')} ${to('all')}`, `push ${to('all:2')} ${to('all')}`]);
  });

  it('uploads each blob once when several push at once', async () => {
    proxy.inject({ method: 'PATCH', until: new Promise((resolve) => setTimeout(resolve, 300)) });
    for (const tag of ['1', '2', '3']) await docker('tag', stack.ref('team/app:1'), to(`at-once:${tag}`));
    await Promise.all(['1', '2', '3'].map((tag) => docker('push', to(`at-once:${tag}`))));
    assert.equal(uploads().filter((line) => line.startsWith('PATCH')).length, 1);
    assert.equal(uploads().filter((line) => line.includes('/blobs/uploads/') && line.startsWith('PUT')).length, 3);
  });

  it('stops when the client goes away, unless somebody else waits for the upload', async () => {
    const gate = Promise.withResolvers<undefined>();
    proxy.inject({ method: 'PATCH', until: gate.promise });
    await docker('tag', stack.ref('team/app:1'), to('left:1'));
    await docker('tag', stack.ref('team/app:1'), to('left:2'));
    const path = (tag: string): string => `/images/${to('left')}/push?tag=${tag}`;
    const options = { method: 'POST', headers: { 'X-Registry-Auth': 'e30=' } };
    const [first, second] = await Promise.all(['1', '2'].map((tag) => stack.daemon.open(path(tag), options)));
    for (const response of [first, second]) response?.on('error', () => undefined).resume();
    await proxy.until('the upload', (seen) => seen.some(({ method }) => method === 'PATCH'));
    first?.destroy();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(!proxy.seen.some(({ method }) => method === 'DELETE'), 'the upload was cancelled for the one who waits');
    second?.destroy();
    await proxy.until('the upload to be cancelled', (seen) => seen.some(({ method }) => method === 'DELETE'));
    gate.resolve(undefined);
    assert.ok(proxy.seen.every(({ path: asked }) => !asked.includes('/manifests/')));
  });

  it('refuses what is not stored, and what is no tag, and asks no registry', async () => {
    await docker('tag', stack.ref('team/app:1'), to('there:1'));
    assert.match(failed(await stack.daemon.docker('push', to('there:2'))), /tag does not exist: \S+there:2/);
    assert.match(failed(await stack.daemon.docker('push', to('nowhere:1'))), /does not exist locally with the tag/);
    const answer = await stack.daemon.request(`/images/${to('there')}@${app.digest}/push`, {
      method: 'POST',
      headers: { 'X-Registry-Auth': 'e30=' },
    });
    assert.deepEqual([answer.status, answer.json()], [400, { message: 'cannot push a digest reference' }]);
    assert.deepEqual(proxy.seen, []);
  });

  it('tells what a registry refuses, in its words', async () => {
    await docker('tag', stack.ref('team/app:1'), to('refused:1'));
    const body = JSON.stringify({ errors: [{ code: 'DENIED', message: 'quota exceeded: 1 GB of 1 GB used' }] });
    proxy.inject({ method: 'POST', answer: { status: 403, body } });
    assert.match(failed(await stack.daemon.docker('push', to('refused:1'))), /denied: quota exceeded: 1 GB of 1 GB/);
    assert.doesNotMatch((await inspect(to('refused:1'))).RepoDigests.join(' '), /refused/);
    proxy.reset();
    proxy.inject({
      method: 'PUT',
      path: /manifests/,
      answer: { status: 400, body: '{"errors":[{"code":"TAG_INVALID"}]}' },
    });
    assert.match(failed(await stack.daemon.docker('push', to('refused:1'))), /tag invalid: /);
  });

  it('keeps what it pushes until it has, though it is removed meanwhile', async () => {
    const gate = Promise.withResolvers<undefined>();
    const own = await bulk('removed meanwhile', 1_500_000);
    const removed = await stack.push('removed:1', image({ layers: [own] }));
    await docker('pull', '-q', stack.ref('removed:1'));
    await docker('tag', stack.ref('removed:1'), to('removed:1'));
    proxy.inject({ method: 'POST', until: gate.promise });
    const pushing = docker('push', to('removed:1'));
    await proxy.until('the push', (seen) => seen.some(({ method }) => method === 'POST'));
    await docker('rmi', '-f', removed.id);
    gate.resolve(undefined);
    await pushing;
    assert.equal(await raw('removed:1'), removed.bytes.toString());
    assert.ok(!(await storeFiles(stack.daemon.dataRoot)).blobs.includes(own.digest));
  });

  describe('of an index', () => {
    let host: TestImage;
    let foreign: TestImage;
    let both: TestImage;
    before(async () => {
      host = image({ layers: [base], format: 'oci', platform: HOST_PLATFORM });
      foreign = image({ layers: [top], format: 'oci', platform: OTHER_PLATFORM });
      both = index([host, attestation(host), foreign], { format: 'oci' });
      await stack.push('both:1', both);
      await docker('pull', '-q', stack.ref('both:1'));
    });
    const platform = `${OTHER_PLATFORM.os}/${OTHER_PLATFORM.architecture}`;

    it('of which one platform is stored pushes that, and says so', async () => {
      await docker('tag', stack.ref('both:1'), to('part:1'));
      const { stdout, stderr } = await stack.daemon.docker('push', to('part:1'));
      assert.match(stdout + stderr, /Not all multiplatform-content is present/);
      assert.equal(await raw('part:1'), host.bytes.toString());
      // The index itself is not known there.
      assert.doesNotMatch((await inspect(to('part:1'))).RepoDigests.join(' '), /part/);
    });

    it('pushes it whole where the repository has the rest', async () => {
      await docker('tag', stack.ref('both:1'), stack.ref('both:2'));
      await docker('push', stack.ref('both:2'));
      const again = await must('skopeo', [
        'inspect',
        '--raw',
        '--tls-verify=false',
        `docker://${stack.registry.host}/both:2`,
      ]);
      assert.equal(again, both.bytes.toString());
    });

    it('pushes one platform that is asked for, and refuses one that is not stored', async () => {
      await docker('tag', stack.ref('both:1'), to('one-platform:1'));
      const refused = await stack.daemon.docker('push', '--platform', platform, to('one-platform:1'));
      assert.match(failed(refused), /does not provide the specified platform/);
      await docker('push', '--platform', `${HOST_PLATFORM.os}/${HOST_PLATFORM.architecture}`, to('one-platform:1'));
      assert.equal(await raw('one-platform:1'), host.bytes.toString());
    });

    it('pushes all of it, children first, once all of it is stored', async () => {
      await docker('pull', '-q', '--platform', platform, stack.ref('both:1'));
      await docker('tag', stack.ref('both:1'), to('whole:1'));
      await docker('push', to('whole:1'));
      assert.equal(await raw('whole:1'), both.bytes.toString());
      for (const child of both.children) assert.equal(await raw(`whole@${child.digest}`), child.bytes.toString());
      const manifests = uploads().filter((line) => line.includes('/manifests/'));
      assert.equal(manifests.at(-1), 'PUT /v2/whole/manifests/1');
      assert.equal(manifests.length, 4);
    });
  });

  describe('by layerctl', () => {
    const layerctl = (...args: string[]): ReturnType<typeof stack.daemon.layerctl> =>
      stack.daemon.layerctl('push', ...args);

    it('says each layer’s fate, the digest, and at the end the name', async () => {
      await docker('tag', stack.ref('team/app:1'), to('ctl/app'));
      const lines = linesOf(succeeded(await layerctl(to('ctl/app'))));
      assert.deepEqual(lines.slice(0, 2), [
        'Using default tag: latest',
        `The push refers to repository [${to('ctl/app')}]`,
      ]);
      for (const { digest } of [base, top]) assert.ok(lines.includes(`${digest.slice(7, 19)}: Pushed`));
      assert.equal(lines.at(-1), `latest: digest: ${app.digest} size: ${app.bytes.length}`);
      assert.equal(await raw('ctl/app:latest'), app.bytes.toString());
      assert.equal(succeeded(await layerctl('-q', to('ctl/app'))), `${to('ctl/app:latest')}\n`);
    });

    it('pushes all tags with -a, or one platform', async () => {
      await docker('tag', stack.ref('team/app:1'), to('ctl/all:1'));
      await docker('tag', stack.ref('team/app:1'), to('ctl/all:2'));
      assert.equal(succeeded(await layerctl('-q', '-a', to('ctl/all'))), `${to('ctl/all')}\n`);
      for (const tag of ['1', '2']) assert.equal(await raw(`ctl/all:${tag}`), app.bytes.toString());
      const platform = `${HOST_PLATFORM.os}/${HOST_PLATFORM.architecture}`;
      succeeded(await layerctl('--platform', platform, to('ctl/all:1')));
    });

    it('exits with 1 for what is not stored or refused, and with 2 for what is no name', async () => {
      assert.match(failed(await layerctl(to('ctl/nothing:1'))), /does not exist locally with the tag/);
      assert.match(failed(await layerctl('-a', to('ctl/app:1')), 2), /neither a tag nor a digest/);
      assert.match(failed(await layerctl('Ctl/App'), 2), /must be lowercase/);
      assert.deepEqual(proxy.seen, []);
      await docker('tag', stack.ref('team/app:1'), to('ctl/refused:1'));
      proxy.inject({ method: 'POST', answer: { status: 403, body: '{"errors":[{"code":"DENIED","message":"no"}]}' } });
      assert.match(failed(await layerctl(to('ctl/refused:1'))), /^layerctl: denied: no/m);
    });

    it('lets go of the upload after Ctrl-C', async () => {
      const gate = Promise.withResolvers<undefined>();
      proxy.inject({ method: 'PATCH', until: gate.promise });
      await docker('tag', stack.ref('team/app:1'), to('ctl/interrupted:1'));
      await using client = stack.daemon.client('layerctl', 'push', to('ctl/interrupted:1'));
      await proxy.until('the upload', (seen) => seen.some(({ method }) => method === 'PATCH'));
      const { code, stderr } = await client.kill('SIGINT');
      assert.deepEqual([code, stderr.includes('interrupted')], [130, true]);
      await proxy.until('the upload to be cancelled', (seen) => seen.some(({ method }) => method === 'DELETE'));
      gate.resolve(undefined);
    });
  });

  it('goes on after a connection that breaks in the middle of a layer', async () => {
    proxy.inject({ method: 'PATCH', times: 1, cutRequestAfter: 1_000_000 });
    await docker('tag', stack.ref('team/app:1'), to('broken/app:1'));
    await docker('push', to('broken/app:1'));
    assert.equal(await raw('broken/app:1'), app.bytes.toString());
  });

  it('refuses to push what is damaged on the disk, and puts no manifest', async () => {
    const own = await bulk('damaged', 1_500_000);
    await stack.push('damaged:1', image({ layers: [own] }));
    await docker('pull', '-q', stack.ref('damaged:1'));
    await docker('tag', stack.ref('damaged:1'), to('damaged:1'));
    await writeFile(join(stack.daemon.dataRoot, 'blobs/sha256', hexOf(own.digest)), noise('other', own.bytes.length));
    assert.match(failed(await stack.daemon.docker('push', to('damaged:1'))), /digest/);
    assert.ok(proxy.seen.every(({ path }) => !path.includes('/manifests/1')));
    await docker('rmi', stack.ref('damaged:1'), to('damaged:1'));
  });

  it('is done by dockerode too', async () => {
    await docker('tag', stack.ref('team/app:1'), to('dockerode:1'));
    const client = new Docker({ socketPath: stack.daemon.socket });
    const stream = await client.getImage(to('dockerode')).push({ tag: '1', authconfig: ACCOUNT });
    const lines = await new Promise<{ aux?: unknown }[]>((resolve, reject) =>
      client.modem.followProgress(stream, (error, output: { aux?: unknown }[]) =>
        error === null ? resolve(output) : reject(error),
      ),
    );
    const aux = { Tag: '1', Digest: app.digest, Size: app.bytes.length };
    assert.deepEqual(lines.at(-1), { progressDetail: {}, aux });
    assert.equal(await raw('dockerode:1'), app.bytes.toString());
  });
});

describe(
  'docker push to a registry that wants credentials',
  { skip: needs('docker', 'docker-registry', 'openssl') },
  () => {
    it('sends the user’s, and says what is wrong without them', async () => {
      await using stack = await startStack({ registry: { tokenAuth: true } });
      const { daemon, registry } = stack;
      const made = await stack
        .push('app:1', image({ layers: [await layer([{ name: 'x' }])] }), ACCOUNT)
        .catch(() => undefined);
      assert.equal(made, undefined, 'the support pushes without tokens');
      await using open = await startRegistry();
      await using source = await startProxy(open);
      const { push } = await import('../support/images.ts');
      await push(open.host, 'app', '1', image({ layers: [await layer([{ name: 'x' }])] }));
      succeeded(await daemon.docker('pull', '-q', `${source.host}/app:1`));
      succeeded(await daemon.docker('tag', `${source.host}/app:1`, stack.ref('app:1')));
      assert.match(
        failed(await daemon.docker('push', stack.ref('app:1'))),
        /denied: requested access to the resource is denied/,
      );
      const auth = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64');
      await writeFile(
        join(daemon.dir, 'docker/config.json'),
        JSON.stringify({ auths: { [stack.proxy.host]: { auth } } }),
      );
      succeeded(await daemon.docker('push', stack.ref('app:1')));
      assert.ok(registry.tokens?.requests.some(({ scopes }) => scopes.includes('repository:app:pull,push')));
      assert.doesNotMatch(daemon.log, new RegExp(ACCOUNT.password));
    });
  },
);
