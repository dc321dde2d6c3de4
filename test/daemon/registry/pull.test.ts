import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { MAX_DOCUMENT_BYTES } from '../../../src/protocol/oci.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import { bulk, digestOf, image, index, push, schema1, type TestImage } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { startRegistry, type Registry } from '../../support/registry.ts';
import { bytesOf, collect, repositoryAt, serve, startClient, type Client } from './harness.ts';

describe('pulling from a registry', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let client: Client;
  let pushed: TestImage;
  let pushedIndex: TestImage;
  let blob: { digest: TestImage['digest']; bytes: Buffer };

  before(async () => {
    registry = await startRegistry();
    proxy = await startProxy(registry);
    pushed = image({ layers: [await bulk('layer', 300_000)], format: 'oci' });
    pushedIndex = index([pushed], { format: 'oci' });
    for (const tag of ['1', '2', '3']) await push(registry.host, 'team/app', tag, pushed);
    await push(registry.host, 'team/app', 'multi', pushedIndex);
    const [layer] = pushed.layers;
    assert.ok(layer);
    blob = layer;
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    client = startClient({}, { timeouts: { headers: 2000, stall: 150 } });
  });
  afterEach(async () => {
    await client.registries.close();
    proxy.reset();
  });
  const repository = (): ReturnType<typeof repositoryAt> => repositoryAt(proxy.host);

  describe('manifests', () => {
    it('are got by tag and by digest, with the bytes that their digest is of', async () => {
      const expected = { mediaType: pushed.mediaType, digest: pushed.digest, size: pushed.bytes.length };
      for (const reference of ['1', pushed.digest]) {
        const manifest = await client.registries.manifest(repository(), reference);
        assert.deepEqual(manifest, { descriptor: expected, bytes: pushed.bytes });
      }
    });

    it('are asked for by all media types, as what layerd calls itself', async () => {
      await client.registries.manifest(repository(), 'multi');
      const seen = proxy.seen.at(-1);
      for (const type of [MediaType.ociIndex, MediaType.dockerIndex, MediaType.ociManifest, MediaType.dockerManifest]) {
        assert.ok(seen?.headers.accept?.includes(type));
      }
      assert.equal(seen?.headers['user-agent'], 'layerd/test');
      assert.equal(seen.headers['accept-encoding'], 'identity');
    });

    it('are resolved without their bytes', async () => {
      const descriptor = await client.registries.resolve(repository(), 'multi');
      assert.deepEqual(descriptor, {
        mediaType: pushedIndex.mediaType,
        digest: pushedIndex.digest,
        size: pushedIndex.bytes.length,
      });
      assert.deepEqual(
        proxy.seen.map(({ method }) => method),
        ['HEAD'],
      );
    });

    it('are resolved by GET where HEAD is refused, or tells no digest', async () => {
      proxy.inject({ method: 'HEAD', answer: { status: 405 }, times: 1 });
      proxy.inject({ method: 'HEAD', headers: { 'Docker-Content-Digest': 'md5:x' } });
      assert.equal((await client.registries.resolve(repository(), '1')).digest, pushed.digest);
      assert.equal((await client.registries.resolve(repository(), '1')).digest, pushed.digest);
      assert.deepEqual(
        proxy.seen.map(({ method }) => method),
        ['HEAD', 'GET', 'HEAD', 'GET'],
      );
    });

    it('that are not there are told in the words of dockerd', async () => {
      const name = `${proxy.host}/team/app`;
      const expected = {
        kind: 'not-found',
        message: `manifest for ${name}:9 not found: manifest unknown: manifest unknown`,
      };
      await assert.rejects(client.registries.manifest(repository(), '9'), expected);
      await assert.rejects(client.registries.resolve(repository(), '9'), expected);
    });

    it('that do not have the digest that was asked for are refused, with both digests', async () => {
      proxy.inject({ path: /manifests/, forwardTo: `/v2/team/app/manifests/${pushedIndex.digest}` });
      await assert.rejects(client.registries.manifest(repository(), pushed.digest), (error: Error) => {
        assert.match(error.message, new RegExp(pushed.digest));
        assert.match(error.message, new RegExp(pushedIndex.digest));
        return 'kind' in error && error.kind === 'corrupt';
      });
      await assert.rejects(client.registries.resolve(repository(), pushed.digest), { kind: 'corrupt' });
    });

    it('are hashed, whatever digest the registry says they have', async () => {
      proxy.inject({ path: /manifests/, headers: { 'Docker-Content-Digest': digestOf('lie') } });
      assert.equal((await client.registries.manifest(repository(), '1')).descriptor.digest, pushed.digest);
    });

    it('larger than the limit are refused, announced or not', async () => {
      const body = ' '.repeat(MAX_DOCUMENT_BYTES + 1);
      const headers = { 'Content-Type': pushed.mediaType };
      proxy.inject({ path: /manifests/, answer: { status: 200, headers, body }, times: 1 });
      const expected = { kind: 'invalid', message: /larger than the limit of 4194304 bytes/ };
      await assert.rejects(client.registries.manifest(repository(), '1'), expected);
      await using endless = await serve((_, response) => {
        const spaces = function* (): Generator<Buffer> {
          for (;;) yield Buffer.alloc(65_536, ' ');
        };
        response.writeHead(200, headers);
        Readable.from(spaces()).pipe(response);
      });
      await assert.rejects(client.registries.manifest(repositoryAt(endless.host), '1'), expected);
    });

    it('of schema 1 are refused, also by HEAD', async () => {
      const { contentType, body } = schema1('team/app', '1');
      proxy.inject({ path: /manifests/, answer: { status: 200, headers: { 'Content-Type': contentType }, body } });
      const expected = { kind: 'invalid', message: /schema 1 support has been removed/ };
      await assert.rejects(client.registries.manifest(repository(), '1'), expected);
      await assert.rejects(client.registries.resolve(repository(), '1'), expected);
    });

    it('whose connection breaks in the middle are asked for again', async () => {
      proxy.inject({ path: /manifests/, cutAfter: 100, times: 1 });
      proxy.inject({ path: /manifests/, stallAfter: 100, times: 1 });
      assert.equal((await client.registries.manifest(repository(), '1')).descriptor.digest, pushed.digest);
      assert.equal(client.waits.length, 2);
    });

    it('must come to an end, however busily they drip', async () => {
      await using dripping = startClient({ maxAttempts: 1 }, { timeouts: { stall: 1000, document: 200 } });
      proxy.inject({ path: /manifests/, bytesPerSecond: 80 });
      await assert.rejects(dripping.registries.manifest(repository(), '1'), {
        kind: 'unavailable',
        message: /did not come within 0.2 s/,
      });
    });
  });

  describe('blobs', () => {
    it('come whole, with their size and host', async () => {
      const remote = await client.registries.blob(repository(), blob.digest);
      assert.deepEqual([remote.offset, remote.size, remote.host], [0, blob.bytes.length, proxy.host]);
      assert.deepEqual(await bytesOf(remote), blob.bytes);
    });

    it('come from an offset on', async () => {
      const remote = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
      assert.deepEqual([remote.offset, remote.size], [1000, blob.bytes.length]);
      assert.deepEqual(await bytesOf(remote), blob.bytes.subarray(1000));
    });

    it('come whole from a registry without ranges', async () => {
      proxy.inject({ path: /blobs/, ignoreRange: true });
      const remote = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
      assert.deepEqual([remote.offset, remote.size], [0, blob.bytes.length]);
      assert.deepEqual(await bytesOf(remote), blob.bytes);
    });

    it('come whole where the registry has another part than was asked for', async () => {
      for (const range of ['bytes 0-9/10', 'bytes 1000-2/5', 'nonsense']) {
        proxy.inject({ path: /blobs/, headers: { 'Content-Range': range }, times: 1 });
        const remote = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
        assert.equal(remote.offset, 0, range);
        assert.deepEqual(await bytesOf(remote), blob.bytes);
      }
    });

    it('come whole where the registry has fewer bytes than are here', async () => {
      const remote = await client.registries.blob(repository(), blob.digest, { offset: blob.bytes.length + 5 });
      assert.deepEqual(
        proxy.seen.map(({ status }) => status),
        [416, 200],
      );
      assert.equal(remote.offset, 0);
      assert.deepEqual(await bytesOf(remote), blob.bytes);
    });

    it('tell of a total size that has changed', async () => {
      proxy.inject({ path: /blobs/, headers: { 'Content-Range': 'bytes 1000-1999/2000', 'Content-Length': '1000' } });
      const remote = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
      assert.deepEqual([remote.offset, remote.size], [1000, 2000]);
    });

    it('go on only if the registry still has what was begun', async () => {
      await bytesOf(await client.registries.blob(repository(), blob.digest));
      const remote = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
      assert.equal(proxy.seen.at(-1)?.headers['if-range'], `"${blob.digest}"`);
      assert.equal(remote.offset, 1000);
      // Another ETag was seen than the registry has now.
      proxy.inject({ path: /blobs/, headers: { ETag: '"before"' }, times: 1 });
      await bytesOf(await client.registries.blob(repository(), blob.digest));
      const changed = await client.registries.blob(repository(), blob.digest, { offset: 1000 });
      assert.equal(changed.offset, 0);
    });

    it('end with an error that can be resumed after when the connection breaks', async () => {
      proxy.inject({ path: /blobs/, cutAfter: 200_000, times: 1 });
      const remote = await client.registries.blob(repository(), blob.digest);
      let received = 0;
      await assert.rejects(
        async () => {
          for await (const chunk of remote.body) received += chunk.byteLength;
        },
        { kind: 'unavailable' },
      );
      const rest = await client.registries.blob(repository(), blob.digest, { offset: received });
      assert.deepEqual(await bytesOf(rest), blob.bytes.subarray(received));
    });

    it('end with an error that can be resumed after when no byte comes any more', async () => {
      proxy.inject({ path: /blobs/, stallAfter: 5000 });
      const remote = await client.registries.blob(repository(), blob.digest);
      await assert.rejects(bytesOf(remote), { kind: 'unavailable', message: /stalled: no byte came for 0.15 s/ });
    });

    it('may come slowly as long as they come, and be read slowly', async () => {
      const small = pushed.blobs[0];
      assert.ok(small);
      proxy.inject({ path: new RegExp(small.digest), bytesPerSecond: 400 });
      const remote = await client.registries.blob(repository(), small.digest);
      assert.deepEqual(await bytesOf(remote), small.bytes);
    });

    it('in a coding that was not asked for are refused', async () => {
      proxy.inject({ path: /blobs/, headers: { 'Content-Encoding': 'gzip' } });
      await assert.rejects(client.registries.blob(repository(), blob.digest), { kind: 'corrupt' });
    });

    it('that are not there are told', async () => {
      await assert.rejects(client.registries.blob(repository(), digestOf('nothing')), { kind: 'not-found' });
    });

    it('stop when the one who asked goes away', async () => {
      const abort = new AbortController();
      proxy.inject({ path: /blobs/, stallAfter: 5000 });
      const remote = await client.registries.blob(repository(), blob.digest, { signal: abort.signal });
      const reading = bytesOf(remote);
      abort.abort();
      await assert.rejects(reading, { kind: 'cancelled' });
      await proxy.until('the connection to be closed', (seen) => seen.at(-1)?.end === 'cut');
    });
  });

  describe('tags', () => {
    it('are listed', async () => {
      assert.deepEqual((await collect(client.registries.tags(repository()))).sort(), ['1', '2', '3', 'multi']);
    });

    it('are listed page by page', async () => {
      proxy.inject({
        path: /tags\/list\?n=1000$/,
        answer: {
          status: 200,
          headers: { Link: '</v2/team/app/tags/list?n=1000&last=a>; rel="next"' },
          body: '{"name":"team/app","tags":["a"]}',
        },
      });
      assert.deepEqual((await collect(client.registries.tags(repository()))).sort(), ['1', '2', '3', 'a', 'multi']);
    });

    it('are not looked for on another host, nor in another repository', async () => {
      await using elsewhere = await serve((_, response) => response.end('{"tags":["stolen"]}'));
      for (const link of [`${elsewhere.url}/v2/team/app/tags/list?last=a`, '/v2/team/other/tags/list', '/admin']) {
        proxy.reset();
        const headers = { Link: `<${link}>; rel="next"` };
        proxy.inject({ path: /tags/, answer: { status: 200, headers, body: '{"tags":["a"]}' } });
        await assert.rejects(collect(client.registries.tags(repository())), { kind: 'forbidden' });
      }
      assert.deepEqual(elsewhere.requests, []);
    });

    it('of an endless chain of pages come to an end', async () => {
      const headers = { Link: '</v2/team/app/tags/list?n=1>; rel="next"' };
      await using endless = await serve((_, response) => response.writeHead(200, headers).end('{"tags":null}'));
      await assert.rejects(collect(client.registries.tags(repositoryAt(endless.host))), {
        kind: 'invalid',
        message: /more than 1000 pages/,
      });
    });

    it('of a repository that is not there are told in the words of dockerd', async () => {
      await assert.rejects(collect(client.registries.tags(repositoryAt(proxy.host, 'team/none'))), {
        kind: 'not-found',
        message: `repository ${proxy.host}/team/none not found: name unknown: repository name not known to registry`,
      });
    });

    it('that are none are refused', async () => {
      for (const body of ['{"tags":["../x"]}', '{"tags":[1]}', '[]', '{}', 'no']) {
        proxy.reset();
        proxy.inject({ path: /tags/, answer: { status: 200, body } });
        await assert.rejects(collect(client.registries.tags(repository())), { kind: 'corrupt' });
      }
    });
  });

  describe('retries', () => {
    it('wait with backoff and jitter while the registry has a bad moment', async () => {
      proxy.inject({ path: /manifests/, answer: { status: 503 }, times: 2 });
      assert.equal((await client.registries.manifest(repository(), '1')).descriptor.digest, pushed.digest);
      assert.deepEqual(client.waits, [250, 500]);
    });

    it('wait as long as the registry says, in seconds or until a date, within limits', async () => {
      for (const [value, wait] of [
        ['7', 7250],
        ['86400', 60_250],
        [new Date(20_000).toUTCString(), 10_250],
        [new Date(0).toUTCString(), 250],
        ['soon', 250],
      ] as const) {
        await using clocked = startClient({}, { now: () => 10_000 });
        proxy.reset();
        proxy.inject({ path: /blobs/, answer: { status: 429, headers: { 'Retry-After': value } }, times: 1 });
        assert.deepEqual(await bytesOf(await clocked.registries.blob(repository(), blob.digest)), blob.bytes);
        assert.deepEqual(clocked.waits, [wait], value);
      }
    });

    it('end with what the registry said', async () => {
      const body = '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}';
      proxy.inject({ answer: { status: 429, headers: { 'Retry-After': '7' }, body } });
      await assert.rejects(client.registries.manifest(repository(), '1'), {
        kind: 'too-many-requests',
        retryAfter: 7000,
        message: /^toomanyrequests: You have reached your pull rate limit/,
      });
      assert.equal(proxy.seen.length, 3);
    });

    it('end with the status when the registry says nothing else', async () => {
      proxy.inject({ answer: { status: 502, body: '<html>Bad Gateway</html>' } });
      await assert.rejects(client.registries.manifest(repository(), '1'), {
        kind: 'unavailable',
        message: /status 502/,
      });
    });

    it('follow connections that are cut before the headers come', async () => {
      await using broken = await serve((request) => request.socket.destroy());
      await assert.rejects(client.registries.manifest(repositoryAt(broken.host), '1'), { kind: 'unavailable' });
      assert.equal(client.waits.length, 2);
    });

    it('stop when the one who asked goes away in between', async () => {
      const abort = new AbortController();
      await using waiting = startClient(
        {},
        {
          sleep: (_, signal) =>
            new Promise((_resolve, reject) => {
              signal?.addEventListener('abort', () => reject(new Error('woken')));
              abort.abort();
            }),
        },
      );
      proxy.inject({ answer: { status: 503 } });
      await assert.rejects(waiting.registries.manifest(repository(), '1', { signal: abort.signal }), {
        kind: 'cancelled',
      });
      assert.equal(proxy.seen.length, 1);
    });

    it('are not made of what will not change', async () => {
      for (const status of [400, 403, 404, 501]) {
        proxy.reset();
        proxy.inject({ answer: { status } });
        await assert.rejects(client.registries.manifest(repository(), '1'));
        assert.equal(proxy.seen.length, 1, String(status));
      }
    });
  });

  describe('what a registry writes', () => {
    it('reaches messages on one line, without control characters and at a bounded length', async () => {
      const message = `no\r\n2026-01-01 ERROR forged \u001b[31m\u202e${'x'.repeat(10_000)}`;
      const body = JSON.stringify({ errors: [{ code: 'DENIED', message }] });
      proxy.inject({ answer: { status: 403, body } });
      await assert.rejects(client.registries.manifest(repository(), '1'), (error: Error) => {
        assert.match(error.message, /: denied: no 2026-01-01 ERROR forged \[31m x+…$/);
        assert.ok(error.message.length < 1000);
        return true;
      });
    });

    it('is not read without end', async () => {
      proxy.inject({ answer: { status: 404, body: `"${'x'.repeat(200_000)}"` } });
      await assert.rejects(client.registries.manifest(repository(), '1'), { kind: 'not-found' });
    });
  });

  it('remembers which scheme a registry answers at', async () => {
    await client.registries.manifest(repository(), '1');
    await client.registries.manifest(repository(), '1');
    assert.equal(client.log.filter(({ message }) => message === 'falling back to plain HTTP').length, 1);
  });

  it('refuses paths and references that would lead elsewhere', async () => {
    for (const path of ['../x', 'a/../b', 'a//b', 'A', 'a?x', '']) {
      await assert.rejects(client.registries.manifest(repositoryAt(proxy.host, path), '1'), { kind: 'invalid' });
    }
    for (const reference of ['../x', 'a?b', '', 'sha512:abc']) {
      await assert.rejects(client.registries.manifest(repository(), reference), { kind: 'invalid' });
    }
    await assert.rejects(client.registries.manifest(repositoryAt('user@host'), '1'), { kind: 'invalid' });
    assert.deepEqual(proxy.seen, []);
  });

  it('keeps the pull limits that a registry tells, and logs them when they change notably', async () => {
    const remaining = [76, 75, 49, 48, 0];
    for (const left of remaining) {
      proxy.inject({
        path: /manifests/,
        headers: {
          'RateLimit-Limit': '100;w=21600',
          'RateLimit-Remaining': `${left};w=21600`,
          'Docker-RateLimit-Source': '192.0.2.1',
        },
        times: 1,
      });
      await client.registries.resolve(repository(), '1');
    }
    const { at, ...rest } = client.registries.rateLimits().get(proxy.host) ?? { at: 0 };
    assert.deepEqual(rest, { limit: 100, remaining: 0, source: '192.0.2.1' });
    assert.ok(at > 0);
    const told = client.log.filter(({ level }) => level === 'info').map(({ fields }) => fields['remaining']);
    assert.deepEqual(told, [76, 49, 0]);
  });
});
