import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Listeners, type Handler, type ListenOptions } from '../../../src/daemon/api/listeners.ts';
import { parseHost } from '../../../src/daemon/config/host.ts';
import type { LogFields } from '../../../src/daemon/log.ts';
import { isKind } from '../../../src/protocol/errors.ts';
import { must, needs, Running, scratch } from '../../support/process.ts';

const greet: Handler = {
  request: (_request, response) => response.end('hello'),
  upgrade: (_request, connection) => connection.destroy(),
};

/** Options for the hosts, with a log that remembers its warnings. */
function options(hosts: string[], more: Partial<ListenOptions> = {}) {
  const warnings: [string, LogFields | undefined][] = [];
  const none = () => undefined;
  const warn = (message: string, fields?: LogFields) => void warnings.push([message, fields]);
  const log = { fatal: none, error: none, warn, info: none, debug: none };
  const parsed = hosts.map(parseHost);
  return { hosts: parsed, group: undefined, tls: undefined, passed: [], handler: greet, log, ...more, warnings };
}

/** What a GET of the root answers. */
async function get(target: https.RequestOptions, transport: typeof http | typeof https = http): Promise<string> {
  const request = transport.get({ agent: false, ...target });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return body;
}

describe('a Unix socket', () => {
  it('lets its owner and group in and nobody else, whatever the umask', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/run/layerd.sock`;
    const mask = process.umask(0);
    try {
      const listeners = await Listeners.open(options([`unix://${path}`]));
      writeFileSync(`${folder.path}/file`, '', { mode: 0o777 });
      assert.equal(statSync(`${folder.path}/file`).mode & 0o777, 0o777, 'the umask is as before');
      assert.equal(statSync(path).mode & 0o777, 0o660);
      assert.equal(statSync(`${folder.path}/run`).mode & 0o777, 0o711);
      assert.deepEqual(listeners.addresses, [`unix://${path}`]);
      assert.equal(await get({ socketPath: path }), 'hello');
      await listeners.close(0);
    } finally {
      process.umask(mask);
    }
    assert.ok(!existsSync(path), 'it is removed in the end');
  });

  it('belongs to the group that was named, by name or number', { skip: needs('root') }, async () => {
    await using folder = await scratch('listen');
    for (const [group, gid] of [
      ['daemon', 1],
      ['4711', 4711],
    ] as const) {
      const path = `${folder.path}/${group}`;
      const listeners = await Listeners.open(options([`unix://${path}`], { group }));
      assert.equal(statSync(path).gid, gid);
      await listeners.close(0);
    }
  });

  it('is not opened for a group that does not exist', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const opened = Listeners.open(options([`unix://${path}`], { group: 'no-such-group' }));
    await assert.rejects(opened, /cannot give the socket to group no-such-group: there is no such group/);
    assert.ok(!existsSync(path));
  });

  it('takes the place of one that a dead process left', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    await using dead = new Running(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
    ]);
    await dead.until('its socket', ({ stdout }) => stdout.includes('up'));
    await dead.kill('SIGKILL');
    assert.ok(existsSync(path));
    const listeners = await Listeners.open(options([`unix://${path}`]));
    assert.equal(await get({ socketPath: path }), 'hello');
    await listeners.close(0);
  });

  it('leaves alone one that answers, and what is no socket', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const first = await Listeners.open(options([`unix://${path}`]));
    const conflict = (text: string) => (error: unknown) => isKind(error, 'conflict') && error.message.includes(text);
    await assert.rejects(Listeners.open(options([`unix://${path}`])), conflict('another process is listening there'));
    assert.equal(await get({ socketPath: path }), 'hello');
    await first.close(0);
    writeFileSync(path, 'precious');
    await assert.rejects(Listeners.open(options([`unix://${path}`])), conflict('not a socket'));
    assert.equal(readFileSync(path, 'utf8'), 'precious');
  });

  it('is named in the error when it cannot be opened', async () => {
    await using folder = await scratch('listen');
    writeFileSync(`${folder.path}/file`, '');
    const opened = Listeners.open(options([`unix://${folder.path}/file/s`]));
    await assert.rejects(opened, /cannot listen on unix:\/\/.*\/file\/s: /);
  });
});

describe('listeners', () => {
  it('are all closed again when one of them cannot be opened', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as net.AddressInfo;
    const opened = Listeners.open(options([`unix://${path}`, `tcp://127.0.0.1:${port}`]));
    await assert.rejects(opened, new RegExp(`cannot listen on tcp://127.0.0.1:${port}: .*EADDRINUSE`));
    assert.ok(!existsSync(path));
    taken.close();
  });

  it('refuse fd:// where systemd passed nothing', async () => {
    await assert.rejects(
      Listeners.open(options(['fd://'])),
      /no sockets were passed for fd:\/\/: start layerd through/,
    );
    const passed = [{ fd: 3, name: 'a.socket', kind: 'unix' as const }];
    await assert.rejects(
      Listeners.open(options(['fd://b'], { passed: [...passed, { fd: 4, name: undefined, kind: 'unix' }] })),
      /^LayerdError: cannot listen on fd:\/\/b: systemd passed no socket of that name, but fd:\/\/a\.socket, fd:\/\/4 without a name; see FileDescriptorName=/,
    );
  });

  it('warn of tcp without TLS', async () => {
    const opened = options(['tcp://127.0.0.1:0']);
    const listeners = await Listeners.open(opened);
    assert.equal(opened.warnings.length, 1);
    assert.match(opened.warnings[0]?.[0] ?? '', /without --tlsverify.*can act as root/);
    const url = new URL(listeners.addresses[0] ?? '');
    assert.notEqual(url.port, '0', 'the port that was taken is told');
    assert.equal(await get({ host: url.hostname, port: url.port }), 'hello');
    await listeners.close(0);
  });

  it('take more headers than Node by itself, and not without limit', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const listeners = await Listeners.open(options([`unix://${path}`]));
    assert.equal(await get({ socketPath: path, headers: { 'X-Registry-Auth': 'x'.repeat(50_000) } }), 'hello');
    const request = http.get({ socketPath: path, agent: false, headers: { 'X-Registry-Auth': 'x'.repeat(100_000) } });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal(response.statusCode, 431);
    response.resume();
    await listeners.close(0);
  });
});

describe('closing', () => {
  /** A listener whose requests are answered when `finish` is called, and the first of which has arrived. */
  async function busy(path: string) {
    const { promise: finish, resolve: answer } = Promise.withResolvers<undefined>();
    const { promise: arrived, resolve: arrive } = Promise.withResolvers<undefined>();
    const handler: Handler = {
      request: (_request, response) => {
        arrive(undefined);
        void finish.then(() => response.end('done'));
      },
      upgrade: (_request, socket) => {
        socket.on('error', () => undefined);
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      },
    };
    const listeners = await Listeners.open(options([`unix://${path}`], { handler }));
    return { listeners, arrived, answer: () => answer(undefined) };
  }

  it('waits for requests under way, takes no new ones, and not for idle connections', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const { listeners, arrived, answer } = await busy(path);
    const agent = new http.Agent({ keepAlive: true });
    const body = get({ socketPath: path, agent });
    await arrived;
    const closed = listeners.close(60_000);
    await assert.rejects(get({ socketPath: path }), /ENOENT|ECONNREFUSED/);
    answer();
    assert.equal(await body, 'done');
    await closed;
    agent.destroy();
  });

  it('cuts a request that does not end in time', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const { listeners, arrived } = await busy(path);
    const body = get({ socketPath: path });
    await Promise.all([arrived.then(() => listeners.close(20)), assert.rejects(body, /socket hang up|ECONNRESET/)]);
  });

  it('cuts connections that have become something else', async () => {
    await using folder = await scratch('listen');
    const path = `${folder.path}/s`;
    const { listeners } = await busy(path);
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket' };
    const request = http.get({ socketPath: path, agent: false, headers });
    const [, socket] = (await once(request, 'upgrade')) as [http.IncomingMessage, net.Socket];
    const cut = once(socket, 'close');
    await listeners.close(20);
    socket.resume();
    await cut;
  });
});

describe('tcp with TLS', { skip: needs('openssl') }, () => {
  /** An authority, a certificate of the daemon, another one and one of a client. */
  async function certificates(dir: string): Promise<Record<'ca' | 'cert' | 'key' | 'client' | 'clientKey', string>> {
    const openssl = (...args: string[]) => must('openssl', args, { cwd: dir });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    await openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=authority');
    for (const name of ['server', 'renewed', 'client']) {
      const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'subjectAltName=IP:127.0.0.1'];
      await openssl(
        'req',
        '-x509',
        ...key,
        ...signed,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.pem`,
        '-subj',
        `/CN=${name}`,
      );
    }
    const path = (name: string) => `${dir}/${name}`;
    return {
      ca: path('ca.pem'),
      cert: path('server.pem'),
      key: path('server.key'),
      client: path('client.pem'),
      clientKey: path('client.key'),
    };
  }

  it('demands a certificate of the authority, speaks TLS 1.2 or newer, and renews its own', async () => {
    await using folder = await scratch('tls');
    const files = await certificates(folder.path);
    const tls = { cert: files.cert, key: files.key, clientCa: files.ca };
    const opened = options(['tcp://127.0.0.1:0'], { tls });
    const listeners = await Listeners.open(opened);
    assert.deepEqual(opened.warnings, []);
    const port = Number(new URL(listeners.addresses[0] ?? '').port);
    const ca = readFileSync(files.ca);
    const client = { ca, cert: readFileSync(files.client), key: readFileSync(files.clientKey) };
    const target = { host: '127.0.0.1', port };

    assert.equal(await get({ ...target, ...client }, https), 'hello');
    await assert.rejects(get({ ...target, ca }, https), /certificate required|ECONNRESET|hang up/i);
    assert.equal(await get(target), 'Client sent an HTTP request to an HTTPS server.\n');
    const nonsense = net.connect(port, '127.0.0.1').end('nonsense');
    assert.equal((await nonsense.toArray()).length, 0, 'what is no HTTP is not answered');

    const old = connectTls({
      ...target,
      ...client,
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    const [refusal] = (await once(old, 'error')) as [Error];
    assert.match(refusal.message, /protocol version|unsupported protocol/i);

    const subject = async () => {
      const socket = connectTls({ ...target, ...client });
      await once(socket, 'secureConnect');
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return CN;
    };
    assert.equal(await subject(), 'server');
    listeners.reloadTls({ ...tls, cert: `${folder.path}/renewed.pem`, key: `${folder.path}/renewed.key` });
    assert.equal(await subject(), 'renewed');
    assert.throws(() => listeners.reloadTls({ ...tls, key: files.clientKey }), /cannot use the TLS certificates/);
    assert.equal(await subject(), 'renewed');
    await listeners.close(0);
  });

  it('is not opened with certificates that are missing or do not fit', async () => {
    await using folder = await scratch('tls');
    const { cert, clientKey: key } = await certificates(folder.path);
    const open = (files: { cert: string; key: string }) =>
      Listeners.open(options(['tcp://127.0.0.1:0'], { tls: { ...files, clientCa: undefined } }));
    await assert.rejects(
      open({ cert, key }),
      (error) => isKind(error, 'invalid') && /certificates/.test(error.message),
    );
    await assert.rejects(open({ cert: '/nonexistent', key }), /cannot use the TLS certificates: ENOENT/);
  });
});
