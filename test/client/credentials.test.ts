import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { configDirectory, DockerConfig } from '../../src/client/credentials/config.ts';
import { LayerdError } from '../../src/protocol/errors.ts';
import { temporaryDirectory } from './support.ts';

const HUB = 'https://index.docker.io/v1/';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** A helper that notes what it was asked and answers for one server, as those of docker-credential-helpers do. */
async function withHelper(context: TestContext, name: string, script: string): Promise<NodeJS.ProcessEnv> {
  const directory = await temporaryDirectory(context);
  await writeFile(join(directory, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { PATH: `${directory}:/usr/bin:/bin`, ASKED: join(directory, 'asked') };
}

const KEYRING = `
read -r server
echo "$1 $server" >> "$ASKED"
case $server in
  registry.example.com:5000) echo '{"ServerURL":"x","Username":"ann","Secret":"s3cret"}' ;;
  ${HUB}) echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}' ;;
  broken) echo 's3cret leaked'; exit 3 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac`;

describe('credentials from the file', () => {
  const config = new DockerConfig({
    auths: {
      'registry.example.com:5000': { auth: base64('ann:pass:word\0\0') },
      [HUB]: { auth: base64('bob:hub') },
      'https://old.example.com/v1/': { username: 'carl', password: 'old' },
      'token.example.com': { identitytoken: 'refresh' },
      'bearer.example.com': { registrytoken: 'bearer' },
      'empty.example.com': {},
      'none.example.com': { auth: '' },
    },
  });
  const found = [
    [
      'registry.example.com:5000/team/app',
      { username: 'ann', password: 'pass:word', serveraddress: 'registry.example.com:5000' },
    ],
    ['redis', { username: 'bob', password: 'hub', serveraddress: HUB }],
    ['docker.io/library/redis:7', { username: 'bob', password: 'hub', serveraddress: HUB }],
    ['index.docker.io/team/app', { username: 'bob', password: 'hub', serveraddress: HUB }],
    ['old.example.com/app', { username: 'carl', password: 'old', serveraddress: 'old.example.com' }],
    ['token.example.com/app', { identitytoken: 'refresh', serveraddress: 'token.example.com' }],
    ['bearer.example.com/app', { registrytoken: 'bearer', serveraddress: 'bearer.example.com' }],
    ['empty.example.com/app', undefined],
    ['none.example.com/app', undefined],
    ['registry.example.com/team/app', undefined],
    ['constructor.example.com/app', undefined],
  ] as const;
  for (const [reference, auth] of found) {
    it(`for ${reference} are ${JSON.stringify(auth)}`, async () => {
      assert.deepEqual(await config.forReference(reference), auth);
    });
  }

  it('are read from the directory that DOCKER_CONFIG names', async (context) => {
    const directory = await temporaryDirectory(context);
    await writeFile(join(directory, 'config.json'), JSON.stringify({ auths: { [HUB]: { auth: base64('a:b') } } }));
    const loaded = await DockerConfig.load(configDirectory({ DOCKER_CONFIG: directory }));
    assert.equal((await loaded.forReference('redis'))?.username, 'a');
  });

  it('are none without a file', async (context) => {
    const directory = await temporaryDirectory(context);
    assert.equal(await (await DockerConfig.load(join(directory, 'none'))).forReference('redis'), undefined);
  });

  it('are an error when the file is damaged or unreadable, which does not quote it', async (context) => {
    const directory = await temporaryDirectory(context);
    await writeFile(join(directory, 'config.json'), '{"auths": s3cret');
    await assert.rejects(
      DockerConfig.load(directory),
      (error) => error instanceof LayerdError && !error.message.includes('s3cret'),
    );
    const other = await temporaryDirectory(context);
    await mkdir(join(other, 'config.json'));
    await assert.rejects(DockerConfig.load(other), /cannot read .*config\.json/);
  });
});

describe('credentials from a helper', () => {
  it('come from the one for the registry, before the one for all and the file', async (context) => {
    const env = await withHelper(context, 'keyring', KEYRING);
    const config = new DockerConfig(
      {
        auths: { 'registry.example.com:5000': { auth: base64('file:file') } },
        credHelpers: { 'registry.example.com:5000': 'keyring' },
        credsStore: 'missing',
      },
      env,
    );
    assert.deepEqual(await config.forReference('registry.example.com:5000/app'), {
      username: 'ann',
      password: 's3cret',
      serveraddress: 'registry.example.com:5000',
    });
    assert.equal(await readFile(env['ASKED'] ?? '', 'utf8'), 'get registry.example.com:5000\n');
  });

  it('are identity tokens under the name for them, and asked for under the old name of Docker Hub', async (context) => {
    const config = new DockerConfig({ credsStore: 'keyring' }, await withHelper(context, 'keyring', KEYRING));
    assert.deepEqual(await config.forReference('redis'), { identitytoken: 'identity', serveraddress: HUB });
  });

  it('are none when it knows none, also when the file has some', async (context) => {
    const config = new DockerConfig(
      { credsStore: 'keyring', auths: { 'other.example.com': { auth: base64('a:b') } } },
      await withHelper(context, 'keyring', KEYRING),
    );
    assert.equal(await config.forReference('other.example.com/app'), undefined);
  });

  it('are an error when it fails, is missing or answers nonsense, which does not quote its output', async (context) => {
    const env = await withHelper(context, 'keyring', KEYRING);
    const failing = new DockerConfig({ credHelpers: { broken: 'keyring' } }, env);
    await assert.rejects(
      failing.forRegistry('broken'),
      (error) => error instanceof LayerdError && /status 3/.test(error.message) && !error.message.includes('s3cret'),
    );
    await assert.rejects(
      new DockerConfig({ credsStore: 'none' }, env).forRegistry('a'),
      /docker-credential-none is not installed/,
    );
    const talking = await withHelper(context, 'talk', 'echo s3cret');
    await assert.rejects(
      new DockerConfig({ credsStore: 'talk' }, talking).forRegistry('a'),
      (error) => error instanceof LayerdError && !error.message.includes('s3cret'),
    );
  });

  it('are not asked of a program elsewhere', async () => {
    await assert.rejects(
      new DockerConfig({ credsStore: '../../bin/true' }).forRegistry('a'),
      /not a name of a credential helper/,
    );
  });

  it('are given up when the user interrupts', async (context) => {
    const env = await withHelper(context, 'slow', 'exec sleep 30');
    const interruption = new AbortController();
    const asking = new DockerConfig({ credsStore: 'slow' }, env).forRegistry('a', interruption.signal);
    interruption.abort(new Error('enough'));
    await assert.rejects(asking, /enough/);
  });
});
