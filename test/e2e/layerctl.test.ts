import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { bulk, image, index, layer, type TestImage, type TestLayer } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { ACCOUNT } from '../support/registry.ts';
import { failed, linesOf, startStack, succeeded, untilArriving, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;

describe('layerctl', { skip: needs('docker-registry') }, () => {
  let stack: Stack;
  let base: TestLayer;
  let one: TestImage;
  let two: TestImage;
  const layerctl = async (...args: string[]): Promise<string> => succeeded(await stack.daemon.layerctl(...args));

  before(async () => {
    stack = await startStack();
    base = await layer([{ name: 'base' }]);
    one = await stack.push('one:1', image({ layers: [base, await layer([{ name: 'one' }])] }));
    two = await stack.push('two:1', index([image({ layers: [base], format: 'oci' })], { format: 'oci' }));
  });
  after(() => stack.stop());
  beforeEach(() => stack.proxy.reset());

  it('pulls with plain lines where there is no terminal, and the reference at the end', async () => {
    const ref = stack.ref('one:1');
    const lines = linesOf(await layerctl('pull', ref));
    assert.deepEqual(lines.slice(-3), [`Digest: ${one.digest}`, `Status: Downloaded newer image for ${ref}`, ref]);
    assert.ok(!lines.join('').includes('\x1b'));
    assert.equal(await layerctl('pull', '-q', stack.ref('two:1')), `${stack.ref('two:1')}\n`);
  });

  it('lists, inspects and tells the history as docker does', async () => {
    const format = ['--format', '{{.Repository}}:{{.Tag}} {{.ID}}'];
    assert.deepEqual(linesOf(await layerctl('images', '--no-trunc', ...format)).sort(), [
      `${stack.ref('one:1')} ${one.id}`,
      `${stack.ref('two:1')} ${two.id}`,
    ]);
    assert.match(linesOf(await layerctl('images'))[0] ?? '', /^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE/);
    const [inspected] = JSON.parse(await layerctl('inspect', stack.ref('one:1'))) as { Id: string }[];
    assert.equal(inspected?.Id, one.id);
    assert.equal(await layerctl('inspect', '--format', '{{.Id}}', one.id), `${one.id}\n`);
    assert.match(await layerctl('history', '--no-trunc', stack.ref('one:1')), /ADD layer 2[^]*ADD layer 1/);
    assert.match(failed(await stack.daemon.layerctl('inspect', 'nothing:here')), /No such image: nothing:here/);
  });

  it('shows the three identities of each layer and who shares it', async () => {
    const text = await layerctl('inspect', '--layers', '--no-trunc', stack.ref('one:1'));
    const row = linesOf(text).find((line) => line.includes(base.diffId)) ?? '';
    // The chain ID of the lowest layer is its diff ID.
    assert.equal(row.split(base.diffId).length, 3, text);
    assert.ok(row.includes(base.digest), text);
    assert.ok(row.includes(stack.ref('two:1')), text);
  });

  it('inspects a manifest in its registry, credentials included', async () => {
    const document = JSON.parse(await layerctl('manifest', 'inspect', stack.ref('two:1'))) as { manifests: object[] };
    assert.equal(document.manifests.length, 1);
    assert.match(failed(await stack.daemon.layerctl('manifest', 'inspect', stack.ref('absent:1'))), /absent/);
  });

  it('tells version, info and ping', async () => {
    assert.match(await layerctl('ping'), /layerd/i);
    assert.match(await layerctl('version'), /API/);
    const info = await layerctl('info');
    assert.ok(info.includes(stack.daemon.dataRoot) && info.includes('erofs'), info);
  });

  it('shows events', async () => {
    const since = String(Math.floor(Date.now() / 1000) - 60);
    const past = await layerctl('events', '--since', since, '--until', String(Math.floor(Date.now() / 1000) + 1));
    assert.match(past, new RegExp(`image pull ${stack.ref('one:1')}`));
  });

  it('says after Ctrl-C that the pull can be resumed, and the next one does', async () => {
    const big = await bulk('interrupted', 3 * MIB);
    await stack.push('big:1', image({ layers: [big] }));
    stack.proxy.inject({ path: new RegExp(big.digest), stallAfter: MIB });
    await using client = stack.daemon.client('layerctl', 'pull', stack.ref('big:1'));
    await untilArriving(stack.daemon, big);
    const { code, stderr } = await client.kill('SIGINT');
    assert.equal(code, 130);
    assert.match(stderr, /kept|resume/);
    await stack.proxy.until('the transfer to stop', (seen) => seen.every(({ end }) => end !== 'open'));
    stack.proxy.reset();
    succeeded(await stack.daemon.layerctl('pull', stack.ref('big:1')));
    assert.match(stack.proxy.blobRequests(big.digest)[0]?.range ?? '', /^bytes=[1-9]\d*-/);
  });

  it('draws bars on a terminal, also on one that does not say its size', { skip: needs('script') }, async () => {
    const big = await bulk('drawn', MIB);
    await stack.push('drawn:1', image({ layers: [big] }));
    stack.proxy.inject({ path: new RegExp(big.digest), bytesPerSecond: 2 * MIB });
    const command = `bin/layerctl pull ${stack.ref('drawn:1')}`;
    const { code, stdout } = await stack.daemon.run('script', ['-qec', command, '/dev/null'], {
      env: { TERM: 'xterm' },
    });
    assert.equal(code, 0, stdout);
    assert.ok(stdout.includes('\x1b['));
    assert.match(stdout, /MB/);
    assert.ok(!stdout.includes('NaN'), stdout);
  });

  it('removes, and goes on after what is not there', async () => {
    const outcome = await stack.daemon.layerctl('rmi', 'nothing:here', stack.ref('one:1'));
    const output = failed(outcome);
    assert.match(output, /No such image: nothing:here/);
    assert.match(outcome.stdout, new RegExp(`Deleted: ${one.id}`));
  });

  it('teaches with --help, and has exit code 2 for what it does not understand', async () => {
    assert.match(await layerctl('--help'), /pull[^]*images[^]*rmi/);
    assert.match(await layerctl('pull', '--help'), /--platform/);
    assert.equal((await stack.daemon.layerctl('pull', '--no-such-option', 'x')).code, 2);
    assert.equal((await stack.daemon.layerctl('fetch')).code, 2);
  });

  it('completes in bash, zsh and fish', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      assert.match(await layerctl('completion', shell), /layerctl/, shell);
    }
  });

  it('says which daemon it could not reach', async () => {
    const nowhere = 'unix:///nonexistent/layerd.sock';
    assert.ok(failed(await stack.daemon.layerctl('--host', nowhere, 'images')).includes(nowhere));
    const env = { LAYERD_HOST: undefined, DOCKER_HOST: nowhere };
    const { code, stderr } = await stack.daemon.run('bin/layerctl', ['images'], { env });
    assert.equal(code, 1);
    assert.ok(stderr.includes(nowhere), stderr);
  });
});

describe('layerctl’s credentials', { skip: needs('docker-registry') }, () => {
  it('come from the docker client’s configuration, helpers included', async () => {
    await using stack = await startStack({ registry: { htpasswd: true } });
    await stack.push('secret:1', image({ layers: [await layer([{ name: 'secret' }])] }), ACCOUNT);
    assert.match(failed(await stack.daemon.layerctl('pull', stack.ref('secret:1'))), /unauthorized|authentication/i);
    const configure = async (config: object): Promise<void> =>
      writeFile(join(stack.daemon.env['DOCKER_CONFIG'] ?? '', 'config.json'), JSON.stringify(config));
    const auth = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64');
    await configure({ auths: { [stack.proxy.host]: { auth } } });
    succeeded(await stack.daemon.layerctl('pull', stack.ref('secret:1')));
    succeeded(await stack.daemon.layerctl('rmi', stack.ref('secret:1')));

    const answer = JSON.stringify({
      ServerURL: stack.proxy.host,
      Username: ACCOUNT.username,
      Secret: ACCOUNT.password,
    });
    const helper = join(stack.daemon.dir, 'docker-credential-sample');
    await writeFile(helper, `#!/bin/sh\ncat >/dev/null\nprintf '%s' '${answer}'\n`, { mode: 0o755 });
    await configure({ credHelpers: { [stack.proxy.host]: 'sample' } });
    const env = { PATH: `${stack.daemon.dir}:${process.env['PATH'] ?? ''}` };
    succeeded(await stack.daemon.run('bin/layerctl', ['pull', stack.ref('secret:1')], { env }));
  });
});
