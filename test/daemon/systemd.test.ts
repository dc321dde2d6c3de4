import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { describe, it } from 'node:test';
import { Daemon, ROOT } from '../support/daemon.ts';
import { must, needs, run, Running, scratch } from '../support/process.ts';

const UNITS = `${ROOT}/systemd`;

describe('systemd/', () => {
  /** A copy of the units with the launcher of this checkout, which has to exist for a verification. */
  async function units() {
    const folder = await scratch('units');
    for (const name of readdirSync(UNITS)) cpSync(`${UNITS}/${name}`, `${folder.path}/${name}`);
    const service = `${folder.path}/layerd.service`;
    const text = readFileSync(service, 'utf8');
    assert.match(text, /^ExecStart=layerd /m);
    writeFileSync(service, text.replace(/^ExecStart=layerd /m, `ExecStart=${ROOT}/bin/layerd `));
    return folder;
  }

  it('passes systemd-analyze verify', { skip: needs('systemd-analyze') }, async () => {
    await using folder = await units();
    const names = ['layerd.socket', 'layerd.service'].map((name) => `${folder.path}/${name}`);
    const { code, stdout, stderr } = await run('systemd-analyze', ['verify', ...names]);
    assert.equal(`${stdout}${stderr}`, '');
    assert.equal(code, 0);
  });

  it('exposes at most what an image daemon has to', { skip: needs('systemd-analyze') }, async () => {
    await using folder = await units();
    const args = ['security', '--offline=true', '--threshold=30', `${folder.path}/layerd.service`];
    const { code, stdout, stderr } = await run('systemd-analyze', args);
    assert.equal(code, 0, `${stdout}${stderr}`);
  });

  it(
    'makes the group and the directories',
    { skip: needs('root', 'systemd-sysusers', 'systemd-tmpfiles') },
    async () => {
      await using folder = await scratch('root');
      const root = folder.path;
      mkdirSync(`${root}/etc`);
      writeFileSync(`${root}/etc/passwd`, 'root:x:0:0::/root:/bin/sh\n');
      writeFileSync(`${root}/etc/group`, 'root:x:0:\n');
      await must('systemd-sysusers', [`--root=${root}`, `${UNITS}/layerd.sysusers.conf`]);
      assert.match(readFileSync(`${root}/etc/group`, 'utf8'), /^layerd:x:\d+:$/m);
      await must('systemd-tmpfiles', [`--root=${root}`, '--create', `${UNITS}/layerd.tmpfiles.conf`]);
      const mode = (path: string) => statSync(root + path).mode & 0o777;
      assert.deepEqual(['/run/layerd', '/var/lib/layerd', '/etc/layerd'].map(mode), [0o711, 0o710, 0o755]);
    },
  );
});

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe('socket activation', { skip: needs('systemd-socket-activate', 'curl') }, () => {
  it('hands over a socket that outlives the daemon', async () => {
    await using daemon = await Daemon.prepare();
    const places = daemon.args.slice(2);
    const socket = `${daemon.dir}/activated.sock`;
    const launch = [
      '-l',
      socket,
      '--fdname=layerd.socket',
      `${ROOT}/bin/layerd`,
      '-H',
      'fd://layerd.socket',
      ...places,
    ];
    await using activator = new Running('systemd-socket-activate', launch);
    await activator.until('the socket', ({ stderr }) => stderr.includes('Listening on'));
    // The connection starts the daemon, which becomes the process that listened, and answers it.
    const answer = await must('curl', ['-sS', '--unix-socket', socket, 'http://localhost/nonsense']);
    assert.match(answer, /^\{"message":/);
    assert.match(activator.stderr, /layerd is ready addresses=fd:\/\/layerd\.socket/);
    assert.ok(!existsSync(daemon.socket), 'it listens on nothing else');

    const descriptor = readFileSync(`/proc/${activator.child.pid ?? 0}/fdinfo/3`, 'utf8');
    const flags = Number.parseInt(/flags:\s+(\d+)/.exec(descriptor)?.[1] ?? '0', 8);
    assert.ok(flags & 0o2000000, 'the socket is closed in children of the daemon');
    assert.equal((await activator.kill('SIGTERM')).code, 0, activator.stderr);
    assert.ok(existsSync(socket), 'the socket is systemd’s');
  });

  it('serves a tcp socket too, and warns that it is not protected', async () => {
    await using daemon = await Daemon.prepare();
    const port = await freePort();
    const launch = ['-l', `127.0.0.1:${port}`, `${ROOT}/bin/layerd`, '-H', 'fd://', ...daemon.args.slice(2)];
    await using activator = new Running('systemd-socket-activate', launch);
    await activator.until('the socket', ({ stderr }) => stderr.includes('Listening on'));
    const answer = await must('curl', ['-sS', `http://127.0.0.1:${port}/nonsense`]);
    assert.match(answer, /^\{"message":/);
    assert.match(activator.stderr, /WARN {2}listening on tcp without --tlsverify/);
    assert.equal((await activator.kill('SIGTERM')).code, 0);
  });

  it('is not taken for one’s own when it was meant for another process', async () => {
    await using daemon = await Daemon.prepare();
    await using running = new Running(`${ROOT}/bin/layerd`, ['-H', 'fd://', ...daemon.args.slice(2)], {
      env: { LISTEN_PID: '1', LISTEN_FDS: '1' },
    });
    const { code, stderr } = await running.exited;
    assert.equal(code, 1);
    assert.match(stderr, /no sockets were passed/);
  });
});
