import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { bulk, image, push, type TestImage } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import { bytesOf, collect, startClient, type Client } from './harness.ts';

const REDIS = { registry: 'docker.io', path: 'library/redis' };
/** Nobody must be asked for on the Internet by a test. */
const offline = (hostname: string): Promise<{ address: string; family: number }[]> =>
  Promise.reject(Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: 'ENOTFOUND' }));

describe('mirrors of Docker Hub', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let first: Proxy;
  let second: Proxy;
  let pushed: TestImage;
  before(async () => {
    registry = await startRegistry();
    first = await startProxy(registry);
    second = await startProxy(registry);
    pushed = image({ layers: [await bulk('layer', 1000)] });
    await push(registry.host, 'library/redis', '7', pushed);
  });
  after(async () => {
    await first.stop();
    await second.stop();
    await registry.stop();
  });
  beforeEach(() => {
    first.reset();
    second.reset();
  });
  const start = (): Client => startClient({ mirrors: [first.url, `${second.url}/`] }, { lookup: offline });

  it('are asked in their order, and before Docker Hub', async () => {
    await using client = start();
    const { descriptor } = await client.registries.manifest(REDIS, '7');
    assert.equal(descriptor.digest, pushed.digest);
    assert.deepEqual([first.seen.length, second.seen.length], [1, 0]);
    assert.deepEqual(await collect(client.registries.tags(REDIS)), ['7']);
  });

  it('are asked for no login, no search and no referrers', async () => {
    await using client = start();
    const { registries } = client;
    const credentials = ACCOUNT;
    for (const asked of [
      registries.logIn('docker.io', { credentials }),
      registries.search('docker.io', 'redis', { limit: 1, credentials }),
      registries.referrers(REDIS, pushed.digest, { credentials }),
    ]) {
      await assert.rejects(asked, { kind: 'unavailable', message: /(?:registry-1|index)\.docker\.io/ });
    }
    assert.deepEqual([...first.seen, ...second.seen], []);
  });

  it('that fail are passed over, and the log tells', async () => {
    for (const status of [404, 401, 403, 400]) {
      await using client = start();
      first.reset();
      first.inject({ answer: { status } });
      assert.equal((await client.registries.manifest(REDIS, '7')).descriptor.digest, pushed.digest);
      const line = client.log.find(({ message }) => message === 'trying the next endpoint');
      assert.equal(line?.level, status === 404 || status === 403 ? 'info' : 'warn');
      assert.equal(line.fields['endpoint'], first.url);
    }
  });

  it('that serve wrong bytes are passed over', async () => {
    await using client = start();
    first.inject({ corruptAt: 5 });
    assert.equal((await client.registries.manifest(REDIS, pushed.digest)).descriptor.digest, pushed.digest);
  });

  it('are tried last for a blob when their bytes proved wrong', async () => {
    await using client = start();
    const [blob] = pushed.blobs;
    assert.ok(blob);
    const remote = await client.registries.blob(REDIS, blob.digest, { avoid: new Set([first.host]) });
    assert.equal(remote.host, second.host);
    assert.deepEqual(await bytesOf(remote), blob.bytes);
    const avoid = new Set([first.host, second.host, 'registry-1.docker.io']);
    assert.equal((await client.registries.blob(REDIS, blob.digest, { avoid })).host, first.host);
  });

  it('are avoided for a blob also by the host that they have it served from', async () => {
    await using storage = await startProxy(registry);
    await using client = start();
    const [blob] = pushed.blobs;
    assert.ok(blob);
    const location = `${storage.url}/v2/library/redis/blobs/${blob.digest}`;
    first.inject({ path: /blobs/, answer: { status: 307, headers: { Location: location } } });
    const remote = await client.registries.blob(REDIS, blob.digest);
    assert.equal(remote.host, storage.host);
    await bytesOf(remote);
    const again = await client.registries.blob(REDIS, blob.digest, { avoid: new Set([storage.host]) });
    assert.equal(again.host, second.host);
  });

  it('do not get the credentials for Docker Hub', async () => {
    await using client = start();
    const headers = { 'WWW-Authenticate': 'Basic realm="mirror"' };
    for (const mirror of [first, second]) mirror.inject({ answer: { status: 401, headers } });
    await assert.rejects(client.registries.manifest(REDIS, '7', { credentials: ACCOUNT }));
    for (const { authorization } of [...first.seen, ...second.seen]) assert.equal(authorization, undefined);
  });

  it('are told of beside Docker Hub itself when all fail', async () => {
    await using client = start();
    first.inject({ answer: { status: 404 } });
    second.inject({ answer: { status: 400 } });
    await assert.rejects(client.registries.manifest(REDIS, '7'), (error: Error) => {
      assert.match(
        error.message,
        /^cannot reach registry-1\.docker\.io: no such host \(mirror .*not found.*; mirror .*400/,
      );
      return true;
    });
  });

  it('are for Docker Hub only', async () => {
    await using client = start();
    await assert.rejects(client.registries.manifest({ registry: 'registry.test', path: 'library/redis' }, '7'));
    assert.deepEqual([first.seen.length, second.seen.length], [0, 0]);
  });
});
