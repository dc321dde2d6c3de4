import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { classifyAddress } from '../../../src/daemon/registry/address.ts';
import { bulk, image, push, type TestLayer } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import { bytesOf, internetAt127001, repositoryAt, serve, startClient } from './harness.ts';

describe('redirects of blobs', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let blob: TestLayer;
  before(async () => {
    registry = await startRegistry({ htpasswd: true });
    proxy = await startProxy(registry);
    blob = await bulk('layer', 50_000);
    await push(registry.host, 'team/app', '1', image({ layers: [blob] }), ACCOUNT);
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => proxy.reset());

  const redirect = (Location: string, status = 307): void => {
    // The first request is the one that is challenged.
    proxy.inject({ path: /blobs/, from: 2, answer: { status, headers: { Location } } });
  };
  const open = (client: ReturnType<typeof startClient>, offset = 0): ReturnType<typeof client.registries.blob> =>
    client.registries.blob(repositoryAt(proxy.host), blob.digest, { credentials: ACCOUNT, offset });
  const REFUSED = { kind: 'forbidden', message: /must not send us to a loopback, private or link-local address/ };

  it('are followed without the credentials, but with the range', async () => {
    await using storage = await serve((request, response) => {
      assert.equal(request.headers.range, 'bytes=100-');
      response.writeHead(206, { 'Content-Range': `bytes 100-${blob.bytes.length - 1}/${blob.bytes.length}` });
      response.end(blob.bytes.subarray(100));
    }, '127.0.0.2');
    await using client = startClient();
    redirect(`${storage.url}/presigned?secret=1`);
    const remote = await open(client, 100);
    assert.equal(remote.host, storage.host);
    assert.deepEqual(await bytesOf(remote), blob.bytes.subarray(100));
    assert.deepEqual(
      storage.requests.map(({ headers }) => headers.authorization),
      [undefined],
    );
    assert.notEqual(proxy.seen.at(-1)?.authorization, undefined);
    const followed = client.log.filter(({ message }) => message === 'following a redirect');
    assert.deepEqual(
      followed.map(({ fields }) => fields['to']),
      [`${storage.url}/presigned`],
    );
    assert.ok(!JSON.stringify(client.log).includes('secret'), 'a presigned query is a credential');
  });

  it('to a host that then asks for credentials do not get them', async () => {
    const challenge = `Bearer realm="http://127.0.0.2:1/",Basic realm="x"`;
    await using thief = await serve(
      (_, response) => response.writeHead(401, { 'WWW-Authenticate': challenge }).end(),
      '127.0.0.2',
    );
    await using client = startClient();
    redirect(thief.url);
    await assert.rejects(open(client), { kind: 'unauthorized' });
    assert.equal(thief.requests.length, 1);
    assert.equal(thief.requests[0]?.headers.authorization, undefined);
  });

  it('of a public registry to addresses inside of our network are refused', async () => {
    await using inside = await serve((_, response) => response.end('secret'), '127.0.0.2');
    for (const location of [
      `${inside.url}/latest/meta-data`,
      'http://169.254.169.254/latest/meta-data',
      'http://[::1]/',
      'http://[::ffff:169.254.169.254]/',
      'http://2130706434/',
      'http://10.0.0.1/',
      'http://0.0.0.0/',
    ]) {
      proxy.reset();
      await using client = startClient({}, { classify: internetAt127001 });
      redirect(location);
      await assert.rejects(open(client), REFUSED, location);
    }
    assert.deepEqual(inside.requests, []);
  });

  it('of a public registry to a name that leads inside of our network are refused', async () => {
    await using inside = await serve((_, response) => response.end('secret'), '127.0.0.2');
    const port = inside.host.split(':')[1] ?? '';
    const lookup = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([
        { address: '127.0.0.1', family: 4 },
        { address: '127.0.0.2', family: 4 },
      ]);
    await using client = startClient({}, { classify: internetAt127001, lookup });
    redirect(`http://innocent.test:${port}/`);
    await assert.rejects(open(client), REFUSED);
    assert.deepEqual(inside.requests, []);
  });

  it('of a public registry are checked at the address that is connected to, not at an earlier one', async () => {
    await using inside = await serve((_, response) => response.end('secret'), '127.0.0.2');
    const port = inside.host.split(':')[1] ?? '';
    const answers = ['127.0.0.1', '127.0.0.2'];
    const lookup = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([{ address: answers.shift() ?? '127.0.0.2', family: 4 }]);
    await using client = startClient({}, { classify: internetAt127001, lookup });
    redirect(`http://rebinding.test:${port}/`);
    await assert.rejects(open(client), REFUSED);
    assert.deepEqual(inside.requests, []);
  });

  it('stay outside once they were outside', async () => {
    await using inside = await serve((_, response) => response.end('secret'), '127.0.0.2');
    await using outside = await serve(
      (_, response) => response.writeHead(302, { Location: inside.url }).end(),
      '127.0.0.3',
    );
    const classify = (address: string): ReturnType<typeof classifyAddress> =>
      address === '127.0.0.3' ? 'public' : classifyAddress(address);
    await using client = startClient({}, { classify });
    redirect(outside.url);
    await assert.rejects(open(client), REFUSED);
    assert.deepEqual(inside.requests, []);
  });

  it('of a registry inside of our network may stay inside', async () => {
    await using inside = await serve((_, response) => response.end(blob.bytes), '127.0.0.2');
    await using client = startClient();
    redirect(inside.url);
    assert.deepEqual(await bytesOf(await open(client)), blob.bytes);
  });

  it('to what is no URL of HTTP are refused', async () => {
    for (const location of ['file:///etc/shadow', 'gopher://x/', 'http://', '']) {
      proxy.reset();
      await using client = startClient();
      redirect(location);
      await assert.rejects(open(client), { kind: 'unavailable' });
    }
  });

  it('end after ten', async () => {
    await using loop = await serve((_, response) => response.writeHead(302, { Location: '/again' }).end());
    await using client = startClient();
    await assert.rejects(client.registries.manifest(repositoryAt(loop.host), '1'), {
      kind: 'unavailable',
      message: /more than 10 times/,
    });
    assert.equal(loop.requests.length, 11);
  });
});
