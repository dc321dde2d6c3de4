import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { bulk, image, push, type TestImage } from '../../support/images.ts';
import { must, needs, scratch } from '../../support/process.ts';
import { startProxy } from '../../support/proxy.ts';
import { startRegistry, type Registry } from '../../support/registry.ts';
import { repositoryAt, serve, startClient } from './harness.ts';

/** So that loopback, the only place where a test can serve, is treated like any other network. */
const STRICT = { implicitlyInsecure: [] };

describe('a registry with a certificate of its own', { skip: needs('docker-registry', 'openssl') }, () => {
  let registry: Registry;
  let ca: string;
  let pushed: TestImage;
  before(async () => {
    registry = await startRegistry({ tls: true });
    ca = registry.ca ?? '';
    pushed = image({ layers: [await bulk('layer', 1000)] });
    await push(registry.host, 'team/app', '1', pushed, { ca: await readFile(ca, 'utf8') });
  });
  after(() => registry.stop());

  /** A folder of certificates with these files for the registry. */
  const certs = async (dir: string, files: Readonly<Record<string, string>>): Promise<string> => {
    const folder = join(dir, registry.host);
    await mkdir(folder, { recursive: true });
    for (const [name, source] of Object.entries(files)) await copyFile(source, join(folder, name));
    return dir;
  };

  it('is not trusted', async () => {
    await using client = startClient({}, STRICT);
    await assert.rejects(client.registries.manifest(repositoryAt(registry.host), '1'), {
      kind: 'unavailable',
      message: /certificate signed by unknown authority; put the authority's certificate into certs\.d/,
    });
    assert.deepEqual(client.waits, [], 'another try would not change that');
  });

  it('is trusted with its authority in certs.d', async () => {
    await using dir = await scratch('certs');
    const certsDirs = [join(dir.path, 'none'), await certs(dir.path, { 'ca.crt': ca })];
    await using client = startClient({ certsDirs }, STRICT);
    const { descriptor } = await client.registries.manifest(repositoryAt(registry.host), '1');
    assert.equal(descriptor.digest, pushed.digest);
  });

  it('is spoken to without trust when it is named insecure: host, network, and loopback anyway', async () => {
    for (const [insecureRegistries, environment] of [
      [[registry.host], STRICT],
      [['127.0.0.0/8'], STRICT],
      [[], {}],
    ] as const) {
      await using client = startClient({ insecureRegistries }, environment);
      const { descriptor } = await client.registries.manifest(repositoryAt(registry.host), '1');
      assert.equal(descriptor.digest, pushed.digest);
    }
  });

  it('is trusted or not in the same way with a login and a search', async () => {
    await using dir = await scratch('certs');
    const credentials = { username: 'ann', password: 'secret' };
    const certsDirs = [await certs(dir.path, { 'ca.crt': ca })];
    for (const options of [{ certsDirs }, { insecureRegistries: [registry.host] }]) {
      await using client = startClient(options, STRICT);
      await client.registries.logIn(registry.host, { credentials });
      assert.equal((await client.registries.search(registry.host, 'app', { limit: 1 })).length, 1);
    }
    await using client = startClient({}, STRICT);
    await assert.rejects(client.registries.logIn(registry.host, { credentials }), { message: /unknown authority/ });
    await assert.rejects(client.registries.search(registry.host, '', { limit: 1 }), { message: /unknown authority/ });
  });

  it('needs both halves of a client certificate', async () => {
    for (const [files, message] of [
      [{ 'client.cert': ca }, /missing key client\.key for client certificate .*client\.cert/],
      [{ 'client.key': ca }, /missing client certificate client\.cert for key .*client\.key/],
      [{ 'ca.crt': ca, 'client.cert': ca, 'client.key': ca }, /cannot be used/],
    ] as const) {
      await using dir = await scratch('certs');
      await using client = startClient({ certsDirs: [await certs(dir.path, files)] }, STRICT);
      await assert.rejects(client.registries.manifest(repositoryAt(registry.host), '1'), { kind: 'invalid', message });
    }
  });

  it('is shown the client certificate', async () => {
    await using dir = await scratch('certs');
    const [key, certificate] = [join(dir.path, 'client.key'), join(dir.path, 'client.crt')];
    const files = ['-keyout', key, '-out', certificate];
    await must('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=me', ...files]);
    const server = createServer(
      {
        key: await readFile(ca.replace(/\.crt$/, '.key')),
        cert: await readFile(ca),
        ca: await readFile(certificate),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (_, response) => response.writeHead(200, { 'Content-Type': pushed.mediaType }).end(pushed.bytes),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const folder = join(dir.path, 'certs.d', host);
    await mkdir(folder, { recursive: true });
    await copyFile(ca, join(folder, 'ca.crt'));
    await using without = startClient({ certsDirs: [join(dir.path, 'certs.d')], maxAttempts: 1 }, STRICT);
    await assert.rejects(without.registries.manifest(repositoryAt(host), '1'), { kind: 'unavailable' });
    await copyFile(certificate, join(folder, 'client.cert'));
    await writeFile(join(folder, 'client.key'), await readFile(key));
    await using client = startClient({ certsDirs: [join(dir.path, 'certs.d')] }, STRICT);
    const { descriptor } = await client.registries.manifest(repositoryAt(host), '1');
    assert.equal(descriptor.digest, pushed.digest);
    await client.registries.close();
    await new Promise((resolve) => server.close(resolve));
  });

  it('must not redirect to plain HTTP, unless it is insecure itself', async () => {
    await using storage = await serve((_, response) => response.end('x'));
    const server = createServer(
      { key: await readFile(ca.replace(/\.crt$/, '.key')), cert: await readFile(ca) },
      (_, response) => response.writeHead(307, { Location: storage.url }).end(),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await using dir = await scratch('certs');
    await mkdir(join(dir.path, host));
    await copyFile(ca, join(dir.path, host, 'ca.crt'));
    const { digest } = pushed;
    {
      await using strict = startClient({ certsDirs: [dir.path] }, STRICT);
      await assert.rejects(strict.registries.blob(repositoryAt(host), digest), {
        kind: 'forbidden',
        message: /sends us to plain HTTP/,
      });
      assert.deepEqual(storage.requests, []);
      await using lax = startClient();
      assert.equal((await lax.registries.blob(repositoryAt(host), digest)).host, storage.host);
    }
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('a registry without TLS', { skip: needs('docker-registry') }, () => {
  it('is never spoken to unless it is insecure', async () => {
    await using registry = await startRegistry();
    await using proxy = await startProxy(registry);
    await using client = startClient({ insecureRegistries: ['other.test:5000', '10.0.0.0/8'] }, STRICT);
    await assert.rejects(client.registries.manifest(repositoryAt(proxy.host), '1'), {
      kind: 'unavailable',
      message: /server gave HTTP response to HTTPS client; if it has no TLS, add it to insecure-registries/,
    });
    assert.deepEqual(proxy.seen, []);
  });

  it('is insecure by a listed network only at the addresses of that network', async () => {
    await using registry = await startRegistry();
    await using proxy = await startProxy(registry);
    const port = proxy.host.split(':')[1] ?? '';
    const answers = ['10.0.0.1'];
    // Shows a listed address when asked whether it is insecure, and another one when it is connected to.
    const lookup = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([{ address: answers.shift() ?? '127.0.0.1', family: 4 }]);
    await using client = startClient({ insecureRegistries: ['10.0.0.0/8'] }, { ...STRICT, lookup });
    await assert.rejects(client.registries.manifest(repositoryAt(`rebinding.test:${port}`), '1'), {
      kind: 'forbidden',
      message: /no longer in a network of insecure-registries/,
    });
    assert.deepEqual(proxy.seen, []);
  });

  it('takes effect of a new configuration', async () => {
    await using registry = await startRegistry();
    await using client = startClient({}, STRICT);
    const pushed = await push(registry.host, 'team/app', '1', image({ layers: [] }));
    await assert.rejects(client.registries.resolve(repositoryAt(registry.host), '1'), { kind: 'unavailable' });
    client.registries.reconfigure({ ...client.options, insecureRegistries: [registry.host] });
    assert.equal((await client.registries.resolve(repositoryAt(registry.host), '1')).digest, pushed.digest);
    assert.throws(() => client.registries.reconfigure({ ...client.options, proxies: { http: 'ftp://x' } }), {
      kind: 'invalid',
    });
    assert.equal((await client.registries.resolve(repositoryAt(registry.host), '1')).digest, pushed.digest);
  });
});
