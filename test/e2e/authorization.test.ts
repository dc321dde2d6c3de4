import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { makeCertificate, type KeyPair } from '../support/certificates.ts';
import { Daemon, startDaemon } from '../support/daemon.ts';
import { bulk, image } from '../support/images.ts';
import { needs, run, scratch, type Outcome } from '../support/process.ts';
import { startStack, succeeded } from '../support/stack.ts';

const sha256 = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const me = `uid:${process.getuid?.() ?? 0}`;
const isRoot = process.getuid?.() === 0;

/** Runs curl as another user; the answer's status comes last. */
function curlAs(uid: number, socket: string, path: string, ...more: string[]): Promise<Outcome> {
  const curl = ['curl', '-s', '-w', '\\n%{http_code}', '--unix-socket', socket, ...more, `http://localhost${path}`];
  return run('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...curl]);
}

describe('the authorization policy', { skip: needs('docker', 'docker-registry', 'curl') }, () => {
  it('limits the docker CLI to what is allowed, where it is allowed', async () => {
    await using folder = await scratch('policy');
    const file = join(folder.path, 'authorization.json');
    await writeFile(file, JSON.stringify({ rules: [{ clients: [me], allow: [{ verbs: ['*'] }] }] }));
    await using stack = await startStack({ config: { 'authorization-policy': file } });
    const { daemon } = stack;
    for (const name of ['team/app:1', 'other/app:1']) {
      await stack.push(name, image({ layers: [await bulk(name, 1000)] }));
      succeeded(await daemon.docker('pull', stack.ref(name)));
    }
    const registry = stack.ref('team/app:1').split('/')[0] ?? '';
    const allow = [
      { verbs: ['pull', 'tag', 'remove', 'save'], repositories: [`${registry}/team/*`] },
      { verbs: ['read'] },
    ];
    await writeFile(file, JSON.stringify({ rules: [{ clients: [me], allow }] }));
    daemon.process.child.kill('SIGHUP');
    await daemon.process.until('the reload', ({ stderr }) => stderr.includes('configuration reloaded'));

    succeeded(await daemon.docker('images'));
    succeeded(await daemon.docker('pull', stack.ref('team/app:1')));
    const refused = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await daemon.docker(...args);
      assert.notEqual(code, 0, args.join(' '));
      assert.match(stderr, /may not \w+.*: so says the authorization policy/, args.join(' '));
    };
    await refused('pull', stack.ref('other/app:1'));
    await refused('tag', stack.ref('team/app:1'), stack.ref('other/app:2'));
    succeeded(await daemon.docker('tag', stack.ref('team/app:1'), stack.ref('team/app:2')));
    await refused('save', '-o', join(folder.path, 'saved.tar'), stack.ref('team/app:1'), stack.ref('other/app:1'));
    succeeded(await daemon.docker('save', '-o', join(folder.path, 'saved.tar'), stack.ref('team/app:1')));
    const { stdout: id } = await daemon.docker('images', '-q', '--no-trunc', stack.ref('other/app:1'));
    await refused('rmi', '-f', id.trim());
    await refused('rmi', stack.ref('other/app:1'));
    await refused('image', 'prune', '-a', '-f');
    await refused('push', stack.ref('team/app:1'));
    const events = await daemon.request('/events?until=0');
    assert.equal(events.status, 403);
    const socket = await daemon.request('/v1.56/layerd/events', {
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
      },
    });
    assert.equal(socket.status, 403);
    assert.equal((await daemon.request('/_ping')).status, 200);
    assert.equal((await daemon.request('/readyz')).status, 200);
    assert.match(daemon.process.stderr, /a request was refused by the authorization policy/);

    // A file that cannot be used changes nothing.
    await writeFile(file, '{"rules": [{}]}');
    daemon.process.child.kill('SIGHUP');
    await daemon.process.until('the refusal', ({ stderr }) => stderr.includes('rules[0].clients must be a list'));
    await refused('pull', stack.ref('other/app:1'));
    succeeded(await daemon.docker('pull', stack.ref('team/app:1')));
  });

  it('knows a client by the token it sends, and refuses one that is none', async () => {
    await using folder = await scratch('policy');
    const file = join(folder.path, 'authorization.json');
    const rules = [
      { clients: ['token:ci'], allow: [{ verbs: ['*'] }] },
      { clients: [me], allow: [{ verbs: ['read'] }] },
    ];
    await writeFile(file, JSON.stringify({ tokens: { ci: sha256('s3cret') }, rules }));
    await using daemon = await startDaemon({ config: { 'authorization-policy': file } });
    assert.match((await daemon.docker('image', 'prune', '-f')).stderr, /may not remove/);
    const docker = daemon.env['DOCKER_CONFIG'] ?? '';
    await mkdir(docker, { recursive: true });
    await writeFile(join(docker, 'config.json'), JSON.stringify({ HttpHeaders: { Authorization: 'Bearer s3cret' } }));
    succeeded(await daemon.docker('image', 'prune', '-f'));
    const layerctl = (token: string): Promise<Outcome> =>
      run(join(import.meta.dirname, '../../bin/layerctl'), ['prune', '-f'], {
        env: { ...daemon.env, LAYERD_TOKEN: token },
      });
    succeeded(await layerctl('s3cret'));
    const { code, stderr } = await layerctl('guess');
    assert.equal(code, 1);
    assert.match(stderr, /the token in the Authorization header is none of/);
    assert.doesNotMatch(daemon.process.stderr, /s3cret|guess/);
  });

  it(
    'knows a user by the kernel’s word, and makes a socket for reading alone',
    { skip: !isRoot && 'needs root' },
    async () => {
      await using folder = await scratch('policy');
      await chmod(folder.path, 0o755);
      const file = join(folder.path, 'authorization.json');
      const reading = join(folder.path, 'read.sock');
      const rules = [
        { clients: [`socket:${reading}`], allow: [{ verbs: ['read'] }] },
        { clients: ['uid:0'], allow: [{ verbs: ['*'] }] },
        { clients: ['gid:65534'], allow: [{ verbs: ['read'] }] },
      ];
      await writeFile(file, JSON.stringify({ rules }));
      const daemon = await Daemon.prepare({
        config: { 'authorization-policy': file },
        args: ['-H', `unix://${reading}`],
      });
      await using _ = daemon;
      await daemon.start();
      for (const socket of [daemon.socket, reading]) await chmod(socket, 0o666);
      await chmod(daemon.dir, 0o755);
      const statusOf = async (uid: number, socket: string, path: string, ...more: string[]): Promise<string> => {
        const { stdout } = await curlAs(uid, socket, path, ...more);
        return stdout.slice(stdout.lastIndexOf('\n') + 1);
      };
      const prune = ['/images/prune', '-X', 'POST'] as const;
      assert.equal(await statusOf(0, daemon.socket, ...prune), '200');
      assert.equal(await statusOf(0, reading, ...prune), '403');
      assert.equal(await statusOf(0, reading, '/images/json'), '200');
      assert.equal(await statusOf(65534, daemon.socket, '/images/json'), '200');
      assert.equal(await statusOf(65534, daemon.socket, ...prune), '403');
      assert.equal(await statusOf(1234, daemon.socket, '/images/json'), '403');
      assert.equal(await statusOf(1234, daemon.socket, '/_ping'), '200');
      const { stdout } = await curlAs(1234, daemon.socket, '/images/json');
      assert.match(stdout, /the client with uid 1234, gid 1234, .*may not read.*no rule of it names this client/);
    },
  );

  it('knows a client over TLS by its certificate', { skip: needs('openssl') }, async () => {
    await using folder = await scratch('policy');
    const file = join(folder.path, 'authorization.json');
    const rules = [{ clients: ['certificate:reader'], allow: [{ verbs: ['read'] }] }];
    await writeFile(file, JSON.stringify({ rules }));
    const authority = await makeCertificate(folder.path, 'authority');
    const [server, reader, other] = await Promise.all(
      ['server', 'reader', 'other'].map((name) => makeCertificate(folder.path, name, { authority })),
    );
    const own = [
      '--tlscacert',
      authority.certificate,
      '--tlscert',
      server?.certificate ?? '',
      '--tlskey',
      server?.key ?? '',
    ];
    const args = ['--authorization-policy', file, '-H', 'tcp://127.0.0.1:0', '--tlsverify', ...own];
    await using daemon = await startDaemon({ args });
    const address = /tcp:\/\/127\.0\.0\.1:[1-9]\d*/;
    await daemon.process.until('the address', () => address.test(daemon.log));
    const host = address.exec(daemon.log)?.[0] ?? '';
    const as = (shown: KeyPair | undefined, ...command: string[]): Promise<Outcome> => {
      const trust = ['--tlsverify', '--tlscacert', authority.certificate];
      const mine = ['--tlscert', shown?.certificate ?? '', '--tlskey', shown?.key ?? ''];
      return daemon.docker('-H', host, ...trust, ...mine, ...command);
    };
    succeeded(await as(reader, 'images'));
    assert.match((await as(reader, 'image', 'prune', '-f')).stderr, /certificate "reader" may not remove/);
    assert.match((await as(other, 'images')).stderr, /certificate "other" may not read/);
  });

  it('is checked by --validate, and a start without it is refused', async () => {
    await using folder = await scratch('policy');
    const file = join(folder.path, 'nothing.json');
    for (const more of [['--validate'], []]) {
      const daemon = await Daemon.prepare({ args: ['--authorization-policy', file, ...more] });
      await using _ = daemon;
      const { code, stderr } = await daemon.launch().exited;
      assert.equal(code, 1);
      assert.match(stderr, /cannot use the authorization policy .*nothing\.json: ENOENT/);
    }
  });
});
