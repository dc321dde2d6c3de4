import assert from 'node:assert/strict';
import { chownSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { describe, it } from 'node:test';
import { Daemon, ROOT } from '../support/daemon.ts';
import { must, needs, run, Running, scratch } from '../support/process.ts';

const LAYERD = `${ROOT}/bin/layerd`;

/** Launches the daemon and waits until it says that it serves. */
async function serve(daemon: Daemon): Promise<Running> {
  const running = daemon.launch();
  await running.until('the daemon', ({ stderr }) => stderr.includes('layerd is ready'));
  return running;
}

/** Replaces what daemon.json says. */
function configure(daemon: Daemon, content: unknown): void {
  writeFileSync(daemon.configFile, typeof content === 'string' ? content : JSON.stringify(content));
}

const lines = (text: string): string[] => text.split('\n').slice(0, -1);

describe('the daemon', () => {
  it('serves, and leaves nothing behind but its data when SIGTERM or SIGINT stops it', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      await using daemon = await Daemon.prepare();
      const running = await serve(daemon);
      assert.equal(readFileSync(daemon.pidfile, 'utf8'), `${running.child.pid ?? 0}\n`);
      assert.equal(statSync(daemon.dataRoot).mode & 0o777, process.geteuid?.() === 0 ? 0o710 : 0o700);
      assert.match((await daemon.request('/nonsense')).body, /^\{"message":/);
      const { code, stdout, stderr } = await running.kill(signal);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, new RegExp(`stopping signal=${signal}\n.*stopped\n$`));
      assert.ok(!existsSync(daemon.pidfile));
      assert.ok(!existsSync(daemon.socket));
    }
  });

  it('tells what its build wrote of itself, and nothing where it runs from sources', async () => {
    await using daemon = await Daemon.prepare();
    await serve(daemon);
    const { GitCommit, BuildTime } = (await daemon.request('/version')).json<{
      GitCommit: string;
      BuildTime: string;
    }>();
    const file = `${ROOT}/dist/build.json`;
    const built: unknown = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { commit: '', time: '' };
    assert.deepEqual({ commit: GitCommit, time: BuildTime }, built);
  });

  it('is the only one of its data root, and says so to the next', async () => {
    await using daemon = await Daemon.prepare();
    await using other = await Daemon.prepare({ dataRoot: daemon.dataRoot });
    const running = await serve(daemon);
    const { code, stderr } = await other.launch().exited;
    assert.equal(code, 1);
    assert.equal(lines(stderr).length, 1);
    assert.match(
      stderr,
      new RegExp(`in use by layerd with process ID ${running.child.pid ?? 0}, listening on unix://`),
    );
    assert.equal((await daemon.request('/nonsense')).status, 404);
    assert.ok(existsSync(daemon.pidfile), 'the loser has not touched what is the holder’s');
    assert.ok(!existsSync(other.pidfile) && !existsSync(other.socket));
  });

  it('starts again after kill -9, over the socket and PID file it left', async () => {
    await using daemon = await Daemon.prepare();
    await (await serve(daemon)).kill('SIGKILL');
    assert.ok(existsSync(daemon.pidfile) && existsSync(daemon.socket));
    assert.equal((await (await serve(daemon)).kill('SIGTERM')).code, 0);
  });

  it('undoes what it had started when a start fails', async () => {
    await using daemon = await Daemon.prepare();
    await using other = await Daemon.prepare({ args: ['-H', `unix://${daemon.socket}`] });
    await serve(daemon);
    const { code, stderr } = await other.launch().exited;
    assert.equal(code, 1);
    assert.match(lines(stderr).at(-1) ?? '', /^layerd: cannot listen on unix:.*another process is listening there/);
    assert.ok(!existsSync(other.pidfile) && !existsSync(other.socket));
    await daemon.kill('SIGTERM');
    assert.equal((await (await serve(other)).kill('SIGTERM')).code, 0, 'nothing held the data root');
  });

  it('says in one line why it cannot use a data root', async () => {
    for (const dataRoot of ['/proc/nowhere/deeper', '/dev/null', '/dev/null/below']) {
      await using daemon = await Daemon.prepare({ dataRoot });
      const { code, stderr } = await daemon.launch().exited;
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^layerd: cannot use the data root ${dataRoot}: .*\n$`));
    }
  });

  it('says of a data root that is a file that it is not a directory', async () => {
    await using folder = await scratch('file');
    const dataRoot = `${folder.path}/data`;
    writeFileSync(dataRoot, '');
    await using daemon = await Daemon.prepare({ dataRoot });
    const { code, stderr } = await daemon.launch().exited;
    assert.equal(code, 1);
    assert.equal(stderr, `layerd: cannot use the data root ${dataRoot}: it is not a directory\n`);
  });

  it('names metadata that it cannot use, says what to do, and touches nothing', async () => {
    await using daemon = await Daemon.prepare();
    await (await serve(daemon)).kill('SIGTERM');
    const path = `${daemon.dataRoot}/metadata.db`;
    const blob = `${daemon.dataRoot}/blobs/sha256/${'0'.repeat(64)}`;
    writeFileSync(blob, 'a blob');
    const sound = readFileSync(path);
    const newer = Buffer.from(sound);
    newer.writeUInt32BE(99, 60); // user_version
    const rebuild = `metadata ${path} is damaged \\(.*\\): restore it from a backup, or stop layerd and run it once with --rebuild-metadata, .*`;
    for (const [content, message] of [
      [Buffer.from('not a database\n'.repeat(1000)), rebuild],
      [sound.subarray(0, sound.length / 2), rebuild],
      [sound.subarray(0, 100), rebuild],
      [Buffer.alloc(0), rebuild],
      [
        newer,
        `metadata ${path} has schema 99, written by a newer layerd; .*upgrade layerd, go back to the copy ${path}.schema-N .*, or use another --data-root`,
      ],
    ] as const) {
      writeFileSync(path, content);
      const { code, stderr } = await daemon.launch().exited;
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^layerd: the ${message}\n$`));
      assert.deepEqual(readFileSync(path), content);
      assert.ok(existsSync(blob));
    }
    rmSync(path);
    const { stderr } = await daemon.launch().exited;
    assert.match(stderr, /is damaged \(the file is not there, and there are blobs\)/);
    // Where there is nothing to lose it begins anew.
    rmSync(blob);
    assert.equal((await (await serve(daemon)).kill('SIGTERM')).code, 0);
  });

  it('stops at once at the second signal', async () => {
    // A request that never ends holds up the first stop, up to the shutdown timeout.
    await using daemon = await Daemon.prepare({ args: ['--shutdown-timeout', '600'] });
    const running = await serve(daemon);
    const request = http.request({ socketPath: daemon.socket, method: 'POST', path: '/nonsense' });
    request.on('error', () => undefined).setHeader('Content-Length', 10);
    request.flushHeaders();
    await new Promise((resolve) => request.once('socket', (socket) => socket.once('connect', resolve)));
    await daemon.request('/nonsense');
    running.child.kill('SIGTERM');
    await running.until('the stop', ({ stderr }) => stderr.includes('stopping signal'));
    const { code, stderr } = await running.kill('SIGTERM');
    assert.equal(code, 1);
    assert.match(stderr, /stopping at once/);
    assert.equal((await (await serve(daemon)).kill('SIGTERM')).code, 0);
  });

  it('takes on at SIGHUP what can be reloaded, and says so', async () => {
    await using daemon = await Daemon.prepare({ config: { 'max-concurrent-downloads': 2 } });
    const running = await serve(daemon);
    configure(daemon, { 'log-level': 'debug', 'registry-mirrors': ['https://mirror.example'], group: 'x' });
    running.child.kill('SIGHUP');
    await running.until('the reload', ({ stderr }) => stderr.includes('after a restart'));
    assert.match(running.stderr, /reloaded file=\S+ changed=registry-mirrors,max-concurrent-downloads,log-level\n/);
    assert.match(running.stderr, /WARN {2}some options take effect after a restart options=group\n/);
    assert.equal((await running.kill()).code, 0);
  });

  it('keeps the configuration in force when SIGHUP finds a bad one', async () => {
    await using daemon = await Daemon.prepare();
    const running = await serve(daemon);
    for (const bad of ['{"debug": true, "debug": false}', '{"hosts": ["fd://"]}', '{"log-level": "loud"}']) {
      const before = running.stderr.length;
      configure(daemon, bad);
      running.child.kill('SIGHUP');
      await running.until('the refusal', ({ stderr }) => stderr.slice(before).includes('not reloaded'));
      assert.match(
        running.stderr.slice(before),
        /ERROR configuration not reloaded, the present one stays in force: \S/,
      );
    }
    assert.equal((await daemon.request('/nonsense')).status, 404);
    assert.equal((await running.kill()).code, 0);
  });

  it('ends with an error nobody foresaw, and logs it', async () => {
    const throwing = 'process.on("SIGUSR2",()=>{throw new Error("boom")})';
    const rejecting = 'process.on("SIGUSR2",()=>{Promise.reject(new Error("boom"))})';
    for (const code of [throwing, rejecting]) {
      const env = { NODE_OPTIONS: `--import="data:text/javascript,${encodeURIComponent(code)}"` };
      await using daemon = await Daemon.prepare({ env });
      const outcome = await (await serve(daemon)).kill('SIGUSR2');
      assert.equal(outcome.code, 1);
      assert.match(lines(outcome.stderr).at(-1) ?? '', /FATAL unforeseen error, stopping error="Error: boom\\n/);
    }
  });

  it('tells systemd of its life', { skip: needs('socat') }, async () => {
    await using daemon = await Daemon.prepare();
    const path = `${daemon.dir}/notify`;
    await using receiver = new Running('socat', ['-u', '-d', '-d', `UNIX-RECV:${path}`, 'STDOUT']);
    await receiver.until('the socket', ({ stderr }) => stderr.includes('starting data transfer loop'));
    const env = { ...daemon.env, NOTIFY_SOCKET: path, WATCHDOG_USEC: '100000' };
    await using running = new Running(LAYERD, daemon.args, { env });
    await receiver.until('a sign of life', ({ stdout }) => stdout.includes('WATCHDOG=1'));
    assert.ok(receiver.stdout.startsWith(`READY=1\nSTATUS=Serving on unix://${daemon.socket}WATCHDOG=1`));
    running.child.kill('SIGHUP');
    await receiver.until('the reload', ({ stdout }) => /RELOADING=1\nMONOTONIC_USEC=\d+\n.*READY=1/s.test(stdout));
    assert.equal((await running.kill('SIGTERM')).code, 0);
    await receiver.until('the end', ({ stdout }) => stdout.includes('STOPPING=1'));
  });
});

describe('the daemon of a user', { skip: needs('root') }, () => {
  it('has its socket in XDG_RUNTIME_DIR and its data in XDG_DATA_HOME, for nobody else', async () => {
    await using folder = await scratch('user');
    const nobody = 65534;
    chownSync(folder.path, nobody, nobody);
    const env = { XDG_RUNTIME_DIR: folder.path, XDG_DATA_HOME: `${folder.path}/share`, HOME: folder.path };
    // An installed copy is readable by everybody; a checkout may lie where only its owner gets, so its directory is held
    // open by the capability to read and search.
    const user = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'];
    const reading = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
    await using running = new Running('setpriv', [...user, ...reading, LAYERD], { env });
    await running.until('the daemon', ({ stderr }) => stderr.includes('layerd is ready'));
    const { uid, mode } = statSync(`${folder.path}/share/layerd`);
    assert.deepEqual([uid, mode & 0o777], [nobody, 0o700]);
    const socket = `${folder.path}/layerd/layerd.sock`;
    assert.equal(statSync(socket).uid, nobody);
    assert.ok(running.stderr.includes(`addresses=unix://${socket}`));
    assert.equal((await running.kill('SIGTERM')).code, 0);
  });

  it('is not started without XDG_RUNTIME_DIR', async () => {
    const args = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=+dac_read_search'];
    const env = { XDG_RUNTIME_DIR: undefined };
    const { code, stderr } = await run('setpriv', [...args, '--ambient-caps=+dac_read_search', LAYERD], { env });
    assert.equal(code, 1);
    assert.match(stderr, /^layerd: XDG_RUNTIME_DIR is not set[^\n]*\n$/);
  });
});

describe('the command line of the daemon', () => {
  const layerd = (...args: string[]) => run(LAYERD, args, { env: { HTTP_PROXY: '', HTTPS_PROXY: '', NO_PROXY: '' } });

  it('answers --version, --help and --validate on standard output', async () => {
    const version = await layerd('--version');
    assert.match(version.stdout, /^layerd version \d+\.\d+\.\d+\n$/);
    const help = await layerd('--help');
    assert.match(help.stdout, /^Usage: layerd \[options\]\n.*Examples:\n/s);
    const valid = await layerd('--validate', '-H', 'fd://', '--exec-root', '/e', '--pidfile', '/p');
    assert.equal(valid.stdout, 'configuration OK\n');
    for (const { code, stderr } of [version, help, valid]) assert.deepEqual([code, stderr], [0, '']);
  });

  it(
    'validates what a start would need of the world: the group, the TLS files and the signature policy',
    { skip: needs('openssl') },
    async () => {
      await using folder = await scratch('validate');
      const [one, other] = [`${folder.path}/one`, `${folder.path}/other`];
      for (const name of [one, other]) {
        const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
        await must('openssl', ['req', '-x509', ...key, '-out', `${name}.pem`, '-days', '2', '-subj', '/CN=x']);
      }
      writeFileSync(`${folder.path}/text`, 'no certificate');
      const places = [`--data-root=${folder.path}/d`, `--exec-root=${folder.path}/e`, `--pidfile=${folder.path}/p`];
      const tls = (cert: string, key: string, ca = `${one}.pem`) => [
        ...['-H', 'tcp://127.0.0.1:0', '--tlsverify'],
        ...['--tlscert', cert, '--tlskey', key, '--tlscacert', ca],
      ];
      const unix = ['-H', `unix://${folder.path}/s`];
      for (const [args, message] of [
        [[...unix, '--group', 'nosuch'], /cannot give the socket to group nosuch: there is no such group; create it/],
        [[...unix, '--signature-policy', '/nonexistent'], /cannot use the signature policy \/nonexistent: ENOENT/],
        [tls('/nonexistent', `${one}.key`), /cannot use the TLS certificates: ENOENT.*'\/nonexistent'/],
        [tls(`${one}.pem`, `${one}.key`, '/nonexistent'), /cannot use the TLS certificates: ENOENT.*'\/nonexistent'/],
        [tls(`${one}.pem`, `${other}.key`), /cannot use the TLS certificates: .*key values mismatch/],
        [tls(`${folder.path}/text`, `${one}.key`), /cannot use the TLS certificates: .*no start line/i],
        [tls(`${one}.pem`, `${one}.key`, `${folder.path}/text`), /cannot use the TLS certificates: .*no start line/i],
      ] as const) {
        const validated = await layerd('--validate', ...places, ...args);
        assert.match(validated.stderr, message);
        assert.deepEqual([validated.code, validated.stdout], [1, '']);
        const started = await layerd(...places, ...args);
        assert.equal(started.stderr, validated.stderr, 'a start says the same');
      }
      const valid = await layerd('--validate', ...places, ...tls(`${one}.pem`, `${one}.key`), ...unix, '--group', '0');
      assert.deepEqual([valid.code, valid.stdout], [0, 'configuration OK\n'], valid.stderr);
      // As at the start: without a tcp listener nobody reads them.
      const unused = ['--tlsverify', '--tlscert=/no', '--tlskey=/no', '--tlscacert=/no'];
      assert.equal((await layerd('--validate', ...places, ...unix, ...unused)).code, 0);
    },
  );

  it('refuses with one line on standard error and status 1', async () => {
    for (const args of [
      ['--no-such-flag'],
      ['--config-file', '/nonexistent'],
      ['-H', 'nowhere'],
      ['-H', 'tcp://0.0.0.0:2375'],
      ['--validate', '--log-level', 'loud\nlouder'],
    ]) {
      const { code, stdout, stderr } = await layerd(...args);
      assert.equal(code, 1);
      assert.equal(stdout, '');
      assert.match(stderr, /^layerd: [^\n]+\n$/);
    }
  });
});
