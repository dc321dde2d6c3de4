import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { json, layerctl, scriptedEngine, temporaryDirectory, type CliOptions, type CliResult } from './support.ts';

const HUB = 'https://index.docker.io/v1/';
const REGISTRY = 'registry.example.com:5000';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** A registry behind the daemon that knows one account, and may give an identity token for it. */
async function setUp(context: TestContext, options: { identityToken?: string } = {}) {
  const asked: Record<string, string>[] = [];
  const engine = await scriptedEngine(context, async ({ path, method, body }, response) => {
    if (path !== '/auth' || method !== 'POST') return;
    const account = JSON.parse(await body()) as Record<string, string>;
    asked.push(account);
    if (account['password'] !== 'right' && account['identitytoken'] !== 'identity') {
      json(response, { message: 'unauthorized: authentication required' }, 401);
      return;
    }
    json(response, { Status: 'Login Succeeded', IdentityToken: options.identityToken ?? '' });
  });
  const directory = join(await temporaryDirectory(context), 'docker');
  const file = join(directory, 'config.json');
  const run = (argv: readonly string[], more: CliOptions = {}): Promise<CliResult> =>
    layerctl(argv, { ...more, env: { LAYERD_HOST: engine.host, DOCKER_CONFIG: directory, ...more.env } });
  const config = async (): Promise<unknown> => JSON.parse(await readFile(file, 'utf8'));
  const writeConfig = async (value: unknown): Promise<void> => {
    await mkdir(directory, { recursive: true });
    await writeFile(file, JSON.stringify(value));
  };
  return { asked, directory, file, run, config, writeConfig };
}

/** A terminal at which somebody types, that tells whether it shows what is typed. */
function terminal(
  typed: readonly string[],
): Readable & { isTTY: boolean; raw: boolean[]; setRawMode(raw: boolean): void } {
  const raw: boolean[] = [];
  const stream = new PassThrough();
  for (const text of typed) stream.write(text);
  return Object.assign(stream, { isTTY: true, raw, setRawMode: (isRaw: boolean) => void raw.push(isRaw) });
}

describe('layerctl login', () => {
  it('keeps the account in a file for its owner alone, and warns of it', async (context) => {
    const { run, config, file, directory, asked } = await setUp(context);
    const stdin = Readable.from(['right\n']);
    const { status, out, err } = await run(['login', '-u', 'ann', '--password-stdin', REGISTRY], { stdin });
    assert.equal(status, 0, err);
    assert.equal(out, 'Login Succeeded\n');
    assert.match(err, /WARNING! Your credentials are stored unencrypted in '.*config\.json'/);
    assert.deepEqual(asked, [{ username: 'ann', password: 'right', serveraddress: REGISTRY }]);
    assert.deepEqual(await config(), { auths: { [REGISTRY]: { auth: base64('ann:right') } } });
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    assert.deepEqual(await readdir(directory), ['config.json']);
  });

  it('keeps all else that the file holds, in its order, and a link to it', async (context) => {
    const { run, file, directory, writeConfig } = await setUp(context);
    const settings = join(directory, 'settings.json');
    await writeConfig({});
    const before = {
      psFormat: 'x',
      auths: { z: { auth: 'eg==' }, [REGISTRY]: { auth: 'b2xk' }, a: {} },
      HttpHeaders: { b: '1', a: '2' },
    };
    await writeFile(settings, JSON.stringify(before));
    await chmod(settings, 0o644);
    await rm(file);
    await symlink('settings.json', file);
    assert.equal((await run(['login', '-u', 'ann', '-p', 'right', `https://${REGISTRY}/v2/`])).status, 0);
    const text = await readFile(file, 'utf8');
    const after = { ...before, auths: { ...before.auths, [REGISTRY]: { auth: base64('ann:right') } } };
    assert.equal(text, JSON.stringify(after, undefined, '\t'));
    assert.equal(await readlink(file), 'settings.json');
    assert.equal((await stat(settings)).mode & 0o777, 0o600);
  });

  it('keeps an identity token in place of the password, and Docker Hub under its old name', async (context) => {
    const { run, config, asked } = await setUp(context, { identityToken: 'identity' });
    const { status, err } = await run(['login', '-u', 'ann', '-p', 'right']);
    assert.equal(status, 0);
    assert.match(err, /Using --password via the CLI is insecure/);
    assert.deepEqual(asked, [{ username: 'ann', password: 'right', serveraddress: HUB }]);
    assert.deepEqual(await config(), { auths: { [HUB]: { auth: base64('ann:'), identitytoken: 'identity' } } });
    // What is kept is what the next login tries.
    const again = await run(['login']);
    assert.equal(again.status, 0);
    assert.match(again.err, /Authenticating with existing credentials\.\.\. \[Username: ann\]/);
    assert.deepEqual(asked[1], { username: 'ann', identitytoken: 'identity', serveraddress: HUB });
  });

  it('asks for what it is not told, without showing the password', async (context) => {
    const { run, config, writeConfig } = await setUp(context);
    await writeConfig({ auths: { [REGISTRY]: { auth: base64('ann:old') } } });
    const stdin = terminal(['\n', 'wrong\u0015rigx\u007f', 'ht\r']);
    const { status, err } = await run(['login', REGISTRY], { stdin });
    assert.equal(status, 0, err);
    assert.match(err, /the stored credentials are refused: unauthorized/);
    assert.match(err, /Username \(ann\): Password: \n/);
    assert.doesNotMatch(err, /right|rig/);
    assert.deepEqual(stdin.raw, [true, false]);
    assert.deepEqual(await config(), { auths: { [REGISTRY]: { auth: base64('ann:right') } } });
  });

  it('takes what was typed ahead, and gives up on Ctrl-C and Ctrl-D', async (context) => {
    const { run, config } = await setUp(context);
    assert.equal((await run(['login', REGISTRY], { stdin: terminal(['ann\nright\n']) })).status, 0);
    assert.deepEqual(await config(), { auths: { [REGISTRY]: { auth: base64('ann:right') } } });
    const interrupted = terminal(['\u0003']);
    assert.equal((await run(['login', '-u', 'ann', REGISTRY], { stdin: interrupted })).status, 130);
    assert.deepEqual(interrupted.raw, [true, false]);
    const ended = await run(['login', '-u', 'ann', REGISTRY], { stdin: terminal(['\u0004']) });
    assert.equal(ended.status, 2);
    assert.match(ended.err, /the input ended before the answer/);
  });

  it('keeps nothing where the registry refuses, and says why', async (context) => {
    const { run, directory } = await setUp(context);
    const { status, out, err } = await run(['login', '-u', 'ann', '-p', 'wrong', REGISTRY]);
    assert.equal(status, 1);
    assert.equal(out, '');
    assert.match(err, /unauthorized: authentication required/);
    await assert.rejects(stat(directory), { code: 'ENOENT' });
  });

  it('refuses options that make no sense', async (context) => {
    const { run, asked } = await setUp(context);
    for (const [argv, message] of [
      [['-u', 'ann', '-p', 'right', '--password-stdin'], /--password and --password-stdin exclude each other/],
      [['--password-stdin'], /--password-stdin needs --username/],
      [['-u', 'ann', '--password-stdin'], /there is no password on standard input/],
      [['-u', 'ann'], /standard input is no terminal/],
      [[], /standard input is no terminal/],
      [['no host'], /is not the address of a registry/],
    ] as const) {
      const { status, err } = await run(['login', ...argv]);
      assert.equal(status, 2, argv.join(' '));
      assert.match(err, message);
    }
    assert.deepEqual(asked, []);
  });

  it('leaves a file alone that it cannot read or write', async (context) => {
    const { run, directory, file } = await setUp(context);
    await mkdir(directory);
    await writeFile(file, '{"auths": s3cret');
    const { status, err } = await run(['login', '-u', 'ann', '-p', 'right', REGISTRY]);
    assert.equal(status, 2);
    assert.match(err, /is not valid JSON/);
    assert.equal(await readFile(file, 'utf8'), '{"auths": s3cret');
    const other = join(directory, 'file');
    await writeFile(other, '');
    const env = { DOCKER_CONFIG: other };
    const refused = await run(['login', '-u', 'ann', '-p', 'right', REGISTRY], { env });
    assert.equal(refused.status, 1);
    assert.match(refused.err, /cannot write .*config\.json/);
  });
});

describe('layerctl login with a credential helper', () => {
  /** A helper that keeps what it is given in a folder, as those of docker-credential-helpers do. */
  async function withHelper(context: TestContext): Promise<{ PATH: string; KEPT: string }> {
    const directory = await temporaryDirectory(context);
    const script = `#!/bin/sh
read -r input
echo "$1 $input" >> "$KEPT/calls"
case $1 in
  store) echo "$input" | sed 's/"ServerURL":"[^"]*",//' > "$KEPT/kept" ;;
  get) cat "$KEPT/kept" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
  erase) rm "$KEPT/kept" 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
esac
[ "$FAIL" = "" ] || exit 3`;
    await writeFile(join(directory, 'docker-credential-box'), script, { mode: 0o755 });
    return { PATH: `${directory}:/usr/bin:/bin`, KEPT: directory };
  }

  it('keeps the account there, and the file clean', async (context) => {
    const { run, config, writeConfig, asked } = await setUp(context);
    const env = await withHelper(context);
    await writeConfig({ auths: { [REGISTRY]: { auth: base64('ann:old') } }, credHelpers: { [REGISTRY]: 'box' } });
    const { status, err } = await run(['login', '-u', 'ann', '-p', 'right', REGISTRY], { env });
    assert.equal(status, 0, err);
    assert.doesNotMatch(err, /unencrypted/);
    assert.deepEqual(await config(), { auths: { [REGISTRY]: {} }, credHelpers: { [REGISTRY]: 'box' } });
    assert.deepEqual(JSON.parse(await readFile(join(env.KEPT, 'kept'), 'utf8')), { Username: 'ann', Secret: 'right' });
    assert.equal((await run(['login', REGISTRY], { env })).status, 0);
    assert.deepEqual(asked[1], { username: 'ann', password: 'right', serveraddress: REGISTRY });
    const gone = await run(['logout', REGISTRY], { env });
    assert.equal(gone.out, `Removing login credentials for ${REGISTRY}\n`);
    assert.deepEqual(await config(), { auths: {}, credHelpers: { [REGISTRY]: 'box' } });
    assert.equal((await run(['logout', REGISTRY], { env })).out, `Not logged in to ${REGISTRY}\n`);
  });

  it('keeps an identity token under the name for them', async (context) => {
    const { run, writeConfig } = await setUp(context, { identityToken: 'identity' });
    const env = await withHelper(context);
    await writeConfig({ credsStore: 'box' });
    assert.equal((await run(['login', '-u', 'ann', '-p', 'right'], { env })).status, 0);
    assert.deepEqual(JSON.parse(await readFile(join(env.KEPT, 'kept'), 'utf8')), {
      Username: '<token>',
      Secret: 'identity',
    });
  });

  it('fails where the helper does, and keeps nothing in the file instead', async (context) => {
    const { run, config, writeConfig } = await setUp(context);
    const env = { ...(await withHelper(context)), FAIL: 'yes' };
    await writeConfig({ credsStore: 'box' });
    for (const argv of [['login', '-u', 'ann', '-p', 'right'], ['logout']]) {
      const { status, err } = await run(argv, { env });
      assert.equal(status, 1);
      assert.match(err, /the credential helper docker-credential-box failed for .* with status 3/);
      assert.doesNotMatch(err, /right/);
    }
    await writeConfig({ credsStore: 'missing' });
    assert.match(
      (await run(['login', '-u', 'ann', '-p', 'right'], { env })).err,
      /docker-credential-missing is not installed/,
    );
    assert.deepEqual(await config(), { credsStore: 'missing' });
  });
});

describe('layerctl logout', () => {
  it('forgets an account under every name of its registry, and no other', async (context) => {
    const { run, config, writeConfig } = await setUp(context);
    const other = { auth: base64('bob:other') };
    await writeConfig({
      auths: { [REGISTRY]: { auth: 'YQ==' }, [`https://${REGISTRY}/v1/`]: { auth: 'YQ==' }, [HUB]: other, other },
      detachKeys: 'ctrl-a',
    });
    const { status, out } = await run(['logout', REGISTRY]);
    assert.equal(status, 0);
    assert.equal(out, `Removing login credentials for ${REGISTRY}\n`);
    assert.deepEqual(await config(), { auths: { [HUB]: other, other }, detachKeys: 'ctrl-a' });
    assert.equal((await run(['logout'])).out, 'Removing login credentials for docker.io\n');
    assert.deepEqual(await config(), { auths: { other }, detachKeys: 'ctrl-a' });
    assert.equal((await run(['logout'])).out, 'Not logged in to docker.io\n');
    assert.equal((await run(['logout', 'no host'])).status, 2);
  });
});
