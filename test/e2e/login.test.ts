import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { hexOf } from '../../src/protocol/digest.ts';
import { artifact, image, layer, push, referrersIndex } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { ACCOUNT, startRegistry, type RegistryOptions } from '../support/registry.ts';
import { failed, startStack, succeeded, type Stack } from '../support/stack.ts';

const configOf = async ({ daemon }: Stack): Promise<{ auths?: Record<string, object> }> =>
  JSON.parse(await readFile(join(daemon.env['DOCKER_CONFIG'] ?? '', 'config.json'), 'utf8')) as object;

/** Logs in, pulls, pushes, searches and logs out with a client, against a registry that demands an account. */
async function logInAndOut(client: 'docker' | 'layerctl', registry: RegistryOptions): Promise<void> {
  await using stack = await startStack({ registry, args: ['--debug'] });
  const { daemon, proxy } = stack;
  await using open = await startRegistry({ storage: join(stack.registry.dir, 'storage') });
  await push(open.host, 'team/app', '1', image({ layers: [await layer([{ name: client }])] }));
  const run = (...args: string[]): ReturnType<typeof daemon.docker> =>
    client === 'docker' ? daemon.docker(...args) : daemon.layerctl(...args);
  const logIn = (password: string): ReturnType<typeof daemon.run> =>
    daemon.run(
      'sh',
      [
        '-c',
        '"$1" login -u "$2" --password-stdin "$3"',
        'sh',
        client === 'docker' ? 'docker' : 'bin/layerctl',
        ACCOUNT.username,
        proxy.host,
      ],
      {
        input: `${password}\n`,
      },
    );
  failed(await run('pull', stack.ref('team/app:1')));
  assert.match(failed(await logIn('not the password')), /unauthorized/);
  assert.match(succeeded(await logIn(ACCOUNT.password)), /Login Succeeded/);
  assert.ok(proxy.host in ((await configOf(stack)).auths ?? {}));
  succeeded(await run('pull', stack.ref('team/app:1')));
  succeeded(await run('tag', stack.ref('team/app:1'), stack.ref('team/copy:1')));
  succeeded(await run('push', stack.ref('team/copy:1')));
  assert.equal(
    succeeded(await run('search', '--format', '{{.Name}}', `${proxy.host}/copy`)).trim(),
    stack.ref('team/copy'),
  );
  // What is kept is tried again; docker does so with passwords alone.
  if (client === 'layerctl') assert.match(succeeded(await run('login', proxy.host)), /Login Succeeded/);
  succeeded(await run('logout', proxy.host));
  failed(await run('push', stack.ref('team/copy:1')));
  assert.ok(daemon.log.includes('/auth'), 'the daemon logs its requests');
  const secrets = [ACCOUNT.password, 'not the password', stack.registry.tokens?.refreshToken];
  for (const secret of secrets.filter((each) => each !== undefined)) {
    for (const form of [secret, Buffer.from(`${ACCOUNT.username}:${secret}`).toString('base64')]) {
      assert.ok(!daemon.log.includes(form), 'a secret is in the log');
    }
  }
}

describe('logging in', { skip: needs('docker', 'docker-registry', 'openssl') }, () => {
  it('with docker, where Basic authentication is demanded', () => logInAndOut('docker', { htpasswd: true }));

  it('with docker, where a token server gives identity tokens', () =>
    logInAndOut('docker', { tokenAuth: { anonymousPull: false, refreshTokens: 'oauth2' } }));

  it('with layerctl, where a token server gives identity tokens', () =>
    logInAndOut('layerctl', { tokenAuth: { anonymousPull: false, refreshTokens: 'get' } }));
});

describe('layerctl inspect --referrers', { skip: needs('docker-registry') }, () => {
  it('tells what refers to an image in its registry', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const app = await stack.push('team/app:1', image({ layers: [await layer([{ name: 'app' }])], format: 'oci' }));
    const sbom = artifact('application/spdx+json', [Buffer.from('{}')]);
    succeeded(await daemon.layerctl('pull', '-q', stack.ref('team/app:1')));
    const inspect = async (...args: string[]): Promise<string> =>
      succeeded(await daemon.layerctl('inspect', '--referrers', ...args, stack.ref('team/app:1')));
    assert.match(await inspect(), /Nothing refers to it/);
    await stack.push(`team/app:sha256-${hexOf(app.digest)}`, referrersIndex([[sbom, 'application/spdx+json']]));
    assert.match(await inspect('--no-trunc'), new RegExp(`application/spdx\\+json +${sbom.digest} +\\d+B +about=`));
    const report = JSON.parse(await inspect('-f', 'json', '--artifact-type', 'none')) as unknown;
    assert.deepEqual(report, { repository: stack.ref('team/app'), digest: app.digest, referrers: [] });
  });
});
