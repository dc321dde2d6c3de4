import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { bulk, image, push, type TestImage } from '../../support/images.ts';
import { needs, scratch } from '../../support/process.ts';
import { startRegistry, type Registry } from '../../support/registry.ts';
import { bytesOf, repositoryAt, serve, startClient } from './harness.ts';

const CREDENTIALS = `Basic ${btoa('me:secret')}`;
/** Names are resolved by the proxy alone. */
const nowhere = (hostname: string): Promise<{ address: string; family: number }[]> =>
  Promise.reject(Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: 'ENOTFOUND' }));

describe('an HTTP proxy', { skip: needs('docker-registry', 'openssl') }, () => {
  let plain: Registry;
  let secure: Registry;
  let pushed: TestImage;
  const seen: string[] = [];
  /** A forward proxy that knows where the names of the tests are. */
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '');
    seen.push(`${request.method ?? ''} ${url.origin}`);
    if (!allowed(request)) return response.writeHead(407).end();
    const { headers } = request;
    const forwarded = httpRequest({ host: '127.0.0.1', port: url.port, path: url.pathname, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    });
    return forwarded.on('error', () => response.destroy()).end();
  });
  const allowed = (request: IncomingMessage): boolean => request.headers['proxy-authorization'] === CREDENTIALS;
  server.on('connect', (request: IncomingMessage, client) => {
    seen.push(`CONNECT ${request.url ?? ''}`);
    if (!allowed(request)) return void client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const upstream = connect(Number(request.url?.split(':')[1]), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  let proxy: string;

  before(async () => {
    plain = await startRegistry();
    secure = await startRegistry({ tls: true });
    pushed = image({ layers: [await bulk('layer', 1000)] });
    await push(plain.host, 'team/app', '1', pushed);
    await push(secure.host, 'team/app', '1', pushed, { ca: await readFile(secure.ca ?? '', 'utf8') });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    proxy = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await plain.stop();
    await secure.stop();
  });
  beforeEach(() => {
    seen.length = 0;
  });
  const portOf = (registry: Registry): string => registry.host.split(':')[1] ?? '';

  it('tunnels to a registry with TLS, whose certificate is verified', async () => {
    await using dir = await scratch('certs');
    const host = `localhost.test:${portOf(secure)}`;
    await mkdir(join(dir.path, host));
    await copyFile(secure.ca ?? '', join(dir.path, host, 'ca.crt'));
    const proxies = { https: `http://me:secret@${proxy}` };
    await using client = startClient({ proxies, certsDirs: [dir.path] }, { lookup: nowhere });
    // The certificate is for another name, so it is found valid but not his.
    await assert.rejects(client.registries.manifest(repositoryAt(host), '1'), {
      kind: 'unavailable',
      message: /cannot verify localhost\.test/,
    });
    assert.deepEqual([...new Set(seen)], [`CONNECT ${host}`]);
    await using lax = startClient({ proxies, insecureRegistries: [host] }, { lookup: nowhere });
    const [blob] = pushed.blobs;
    assert.ok(blob);
    assert.deepEqual(await bytesOf(await lax.registries.blob(repositoryAt(host), blob.digest)), blob.bytes);
  });

  it('is asked in absolute form for a registry without TLS', async () => {
    const host = `registry.test:${portOf(plain)}`;
    const proxies = { http: `http://me:secret@${proxy}`, https: `http://me:secret@${proxy}` };
    await using client = startClient({ proxies, insecureRegistries: [host] }, { lookup: nowhere });
    const { descriptor } = await client.registries.manifest(repositoryAt(host), '1');
    assert.equal(descriptor.digest, pushed.digest);
    assert.deepEqual(seen, [`CONNECT ${host}`, `GET http://${host}`]);
  });

  it('does not keep a stalled registry from being noticed', async () => {
    await using stalling = await serve((_, response) => response.writeHead(200, { 'Content-Length': '9' }).write('x'));
    const host = `registry.test:${stalling.host.split(':')[1] ?? ''}`;
    const proxies = { http: `http://me:secret@${proxy}`, https: `http://me:secret@${proxy}` };
    await using client = startClient(
      { proxies, insecureRegistries: [host] },
      { lookup: nowhere, timeouts: { stall: 100 } },
    );
    const [blob] = pushed.blobs;
    assert.ok(blob);
    const remote = await client.registries.blob(repositoryAt(host), blob.digest);
    await assert.rejects(bytesOf(remote), { kind: 'unavailable', message: /stalled/ });
  });

  it('that refuses is told of without its password', async () => {
    const host = `registry.test:${portOf(secure)}`;
    await using client = startClient({ proxies: { https: `http://me:wrong-secret@${proxy}` } }, { lookup: nowhere });
    await assert.rejects(client.registries.manifest(repositoryAt(host), '1'), (error: Error) => {
      assert.match(error.message, /407/);
      assert.doesNotMatch(error.message, /wrong-secret/);
      return 'kind' in error && error.kind === 'unavailable';
    });
  });

  it('is not used for loopback, nor for what NO_PROXY names', async () => {
    const proxies = { http: proxy, https: proxy, no: '.test' };
    const lookup = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([{ address: '127.0.0.1', family: 4 }]);
    await using client = startClient({ proxies }, { lookup });
    for (const host of [plain.host, `registry.test:${portOf(plain)}`]) {
      assert.equal((await client.registries.manifest(repositoryAt(host), '1')).descriptor.digest, pushed.digest);
    }
    assert.deepEqual(seen, []);
  });
});
