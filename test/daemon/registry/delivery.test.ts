import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { HttpResponse } from '../../../src/daemon/registry/http.ts';
import { locationOf } from '../../../src/daemon/registry/location.ts';
import type { Credentials, Delivery, LocalBlob } from '../../../src/daemon/registry/registry.ts';
import { blobOf, image, layerOfTar, noise, type Blob } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import { bytesOf, internetAt127001, repositoryAt, serve, startClient, type Client, type Server } from './harness.ts';

/** More than is sent in one piece. */
const LARGE = 3_000_000;
const PIECE = 64 * 1024;

const large = (seed: string): Blob => blobOf(noise(seed, LARGE));

/** A blob as the store would give it, piece by piece. */
function local({ digest, bytes }: Blob): LocalBlob & { readonly opened: number[] } {
  const opened: number[] = [];
  return {
    digest,
    size: bytes.length,
    opened,
    async *open(offset) {
      opened.push(offset);
      for (let at = offset; at < bytes.length; at += PIECE) {
        yield await Promise.resolve(bytes.subarray(at, Math.min(at + PIECE, bytes.length)));
      }
    },
  };
}

interface Options {
  readonly from?: readonly string[];
  readonly onSent?: (bytes: number) => void;
  readonly credentials?: Credentials;
  readonly signal?: AbortSignal;
  readonly path?: string;
}

describe('a blob that is pushed', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  before(async () => {
    registry = await startRegistry();
    proxy = await startProxy(registry);
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => proxy.reset());

  const deliver = (client: Client, blob: LocalBlob, options: Options = {}): Promise<Delivery> => {
    const { from = [], onSent = () => undefined, path = 'team/app', ...rest } = options;
    return client.registries.deliver(repositoryAt(proxy.host, path), blob, { from, onSent, ...rest });
  };
  const stored = async ({ digest, bytes }: Blob): Promise<void> =>
    assert.ok((await readFile(registry.blobPath(digest))).equals(bytes), 'the registry has other bytes');
  const asked = (): string[] =>
    proxy.seen.map(({ method, status }) => `${method} ${status}`).filter((line) => line !== 'GET 401');

  it('is not sent where it is already', async () => {
    await using client = startClient();
    const blob = large('present');
    assert.deepEqual(await deliver(client, local(blob)), { how: 'uploaded' });
    await stored(blob);
    proxy.reset();
    const again = local(blob);
    assert.deepEqual(await deliver(client, again), { how: 'present' });
    assert.deepEqual([asked(), again.opened], [['HEAD 200'], []]);
  });

  it('goes with the request that ends the upload when it is small', async () => {
    await using client = startClient();
    for (const blob of [blobOf('small'), blobOf('')]) {
      proxy.reset();
      await deliver(client, local(blob));
      await stored(blob);
      assert.deepEqual(asked(), ['HEAD 404', 'POST 202', 'PUT 201']);
    }
  });

  it('is streamed when it is large, and tells how far it is', async () => {
    await using client = startClient();
    const blob = large('streamed');
    const sent: number[] = [];
    await deliver(client, local(blob), { onSent: (bytes) => sent.push(bytes) });
    await stored(blob);
    assert.deepEqual(asked(), ['HEAD 404', 'POST 202', 'PATCH 202', 'PUT 201']);
    assert.equal(proxy.seen[2]?.headers['content-range'], `0-${LARGE - 1}`);
    assert.equal(sent.at(-1), LARGE);
    assert.ok(sent.length > LARGE / PIECE);
  });

  it('begins anew after a cut where the registry cannot go on, as the distribution project’s cannot', async () => {
    await using client = startClient();
    const blob = large('cut');
    proxy.inject({ method: 'PATCH', times: 1, cutRequestAfter: 2_000_000 });
    const source = local(blob);
    await deliver(client, source);
    await stored(blob);
    assert.deepEqual(source.opened, [0, 0]);
  });

  it('is not sent again when only the answer to its last request was lost', async () => {
    await using client = startClient();
    for (const blob of [large('unanswered'), blobOf('unanswered')]) {
      proxy.reset();
      proxy.inject({ method: 'PUT', times: 1, cutAfter: 0 });
      const source = local(blob);
      await deliver(client, source);
      await stored(blob);
      assert.deepEqual(source.opened, [0]);
    }
  });

  it('waits as a registry asks that limits requests, and tries again after its bad moments', async () => {
    await using client = startClient();
    const blob = large('limited');
    proxy.inject({ method: 'POST', times: 1, answer: { status: 429, headers: { 'Retry-After': '7' } } });
    proxy.inject({ method: 'PATCH', times: 1, answer: { status: 429, headers: { 'Retry-After': '9' } } });
    proxy.inject({ method: 'PUT', times: 1, answer: { status: 503 } });
    await deliver(client, local(blob));
    await stored(blob);
    // Half a jitter each, as the harness has it; the last is the backoff after a second attempt.
    assert.deepEqual(client.waits, [7250, 9250, 500]);
  });

  it('fails when the registry takes nothing, saying how far it got, and cancels the upload', async () => {
    await using client = startClient();
    const blob = large('refused for ever');
    const body = JSON.stringify({ errors: [{ code: 'UNAVAILABLE', message: 'out to lunch' }] });
    proxy.inject({ method: 'PATCH', answer: { status: 503, body } });
    await assert.rejects(deliver(client, local(blob)), {
      kind: 'unavailable',
      message: new RegExp(
        `^pushing ${blob.digest} failed, 0 of ${LARGE} bytes had arrived: unavailable: out to lunch: `,
      ),
    });
    assert.equal(proxy.seen.filter(({ method }) => method === 'PATCH').length, client.options.maxAttempts);
    assert.equal(asked().at(-1), 'DELETE 204');
  });

  it('fails at once with the reason of a registry that refuses', async () => {
    await using client = startClient();
    for (const [method, status, code, message, kind] of [
      ['POST', 403, 'DENIED', 'quota of the project exceeded', 'forbidden'],
      ['POST', 400, 'NAME_INVALID', 'invalid repository name', 'invalid'],
      ['POST', 404, 'NAME_UNKNOWN', 'make the repository first', 'not-found'],
      ['PATCH', 413, 'SIZE_INVALID', 'larger than the plan allows', 'invalid'],
      ['PUT', 400, 'DIGEST_INVALID', 'provided digest did not match uploaded content', 'invalid'],
    ] as const) {
      proxy.reset();
      proxy.inject({ method, answer: { status, body: JSON.stringify({ errors: [{ code, message }] }) } });
      const text = `${code.toLowerCase().replace('_', ' ')}: ${message}: `;
      await assert.rejects(deliver(client, local(large('refused'))), {
        kind,
        message: new RegExp(`^${text}.*team/app`),
      });
      assert.equal(proxy.seen.filter((seen) => seen.method === method).length, 1, method);
    }
    assert.deepEqual(client.waits, []);
  });

  it('stops when nobody wants it any more, and cancels the upload', async () => {
    await using client = startClient();
    const stop = new AbortController();
    const onSent = (bytes: number): void => {
      if (bytes > 500_000) stop.abort();
    };
    const source = local(large('stopped'));
    await assert.rejects(deliver(client, source, { onSent, signal: stop.signal }), { kind: 'cancelled' });
    await proxy.until('the upload to be cancelled', (seen) => seen.some(({ method }) => method === 'DELETE'));
    assert.equal(await client.registries.hasBlob(repositoryAt(proxy.host), source.digest), false);
  });

  describe('from another repository', () => {
    it('is mounted, and not sent', async () => {
      await using client = startClient();
      const blob = large('mounted');
      await deliver(client, local(blob), { path: 'team/base' });
      proxy.reset();
      const source = local(blob);
      assert.deepEqual(await deliver(client, source, { from: ['team/base'] }), { how: 'mounted', from: 'team/base' });
      assert.deepEqual([asked(), source.opened], [['HEAD 404', 'POST 201'], []]);
      assert.equal(await client.registries.hasBlob(repositoryAt(proxy.host), blob.digest), true);
    });

    it('is uploaded where no repository has it, in the upload that the last mount began', async () => {
      await using client = startClient();
      const blob = large('not mounted');
      assert.deepEqual(await deliver(client, local(blob), { from: ['team/one', 'team/two'] }), { how: 'uploaded' });
      await stored(blob);
      assert.deepEqual(asked(), ['HEAD 404', 'POST 202', 'DELETE 204', 'POST 202', 'PATCH 202', 'PUT 201']);
    });

    it('is uploaded where the registry knows no mounts', async () => {
      await using client = startClient();
      for (const status of [404, 405]) {
        proxy.reset();
        const blob = large(`no mounts ${status}`);
        proxy.inject({ method: 'POST', path: /mount=/, answer: { status } });
        assert.deepEqual(await deliver(client, local(blob), { from: ['team/one'] }), { how: 'uploaded' });
        await stored(blob);
      }
    });
  });

  describe('to a Location', () => {
    /** The registry's answer to the beginning of an upload. */
    const elsewhere = (Location: string): void => {
      proxy.inject({ method: 'POST', answer: { status: 202, headers: { Location } } });
    };
    const secret = { registryToken: 'secret' };

    it('that is relative goes to the registry, with the credentials and the query as it is', async () => {
      await using client = startClient();
      elsewhere('/upload/here?state=a%20b&x=%7E');
      proxy.inject({ method: 'PUT', answer: { status: 201 } });
      await deliver(client, local(blobOf('relative')), { credentials: secret });
      const put = proxy.seen.find(({ method }) => method === 'PUT');
      assert.match(put?.path ?? '', /^\/upload\/here\?state=a%20b&x=%7E&digest=sha256%3A[0-9a-f]{64}$/);
      assert.equal(put?.authorization, 'Bearer secret');
    });

    it('on another host gets the bytes without the credentials, and never gets them back', async () => {
      await using client = startClient();
      const blob = large('elsewhere');
      await using storage = await serve((request, response) => {
        // Sent on from there to the registry again, as an attacker would who wants it to seem trusted.
        const headers = { Location: request.method === 'PATCH' ? `${proxy.url}/back` : '/' };
        request.resume().on('end', () => response.writeHead(202, headers).end());
      }, '127.0.0.2');
      elsewhere(`${storage.url}/upload`);
      proxy.inject({ method: 'PUT', answer: { status: 201 } });
      await deliver(client, local(blob), { credentials: secret });
      assert.deepEqual(
        storage.requests.map(({ method, headers }) => [method, headers.authorization]),
        [['PATCH', undefined]],
      );
      const put = proxy.seen.find(({ method }) => method === 'PUT');
      assert.deepEqual([put?.path.split('?')[0], put?.authorization], ['/back', undefined]);
    });

    it('inside of our network is not gone to for a registry on the Internet', async () => {
      await using client = startClient({}, { classify: internetAt127001 });
      await using inside = await serve((_request, response) => response.writeHead(201).end(), '127.0.0.2');
      for (const blob of [blobOf('inside'), large('inside')]) {
        proxy.reset();
        elsewhere(`${inside.url}/latest/meta-data`);
        await assert.rejects(deliver(client, local(blob)), { kind: 'forbidden', message: /must not send us to/ });
      }
      assert.deepEqual(inside.requests, []);
    });

    it('of another scheme is no place for an upload, nor is none', async () => {
      await using client = startClient();
      for (const answer of [{ Location: 'file:///etc/passwd' }, {}] as Record<string, string>[]) {
        proxy.reset();
        proxy.inject({ method: 'POST', answer: { status: 202, headers: answer } });
        await assert.rejects(deliver(client, local(blobOf('nowhere'))), {
          kind: 'unavailable',
          message: /does not say where the upload goes on/,
        });
      }
    });

    it('to which a registry redirects an upload is not followed', async () => {
      await using client = startClient();
      await using other = await serve((_request, response) => response.writeHead(201).end());
      proxy.inject({ method: 'PUT', answer: { status: 307, headers: { Location: `${other.url}/x` } } });
      await assert.rejects(deliver(client, local(blobOf('redirected'))), { message: /status 307/ });
      assert.deepEqual(other.requests, []);
    });
  });

  it('of a manifest arrives as it is, under its tag and its digest', async () => {
    await using client = startClient();
    const repository = repositoryAt(proxy.host, 'team/manifest');
    const made = image({ layers: [layerOfTar(Buffer.alloc(1024))] });
    const { mediaType, digest, bytes } = made;
    await assert.rejects(client.registries.putManifest(repository, 'early', { mediaType, digest, bytes }), {
      kind: 'invalid',
      message: /blob unknown/,
    });
    for (const blob of made.blobs) await deliver(client, local(blob), { path: 'team/manifest' });
    await client.registries.putManifest(repository, '1', { mediaType, digest, bytes });
    assert.ok((await client.registries.manifest(repository, '1')).bytes.equals(bytes));
    assert.equal(await client.registries.hasManifest(repository, digest), true);
    assert.equal(await client.registries.hasManifest(repository, blobOf('no manifest').digest), false);
  });
});

/** A registry that keeps what arrived of an upload that broke, as the specification has it; real ones that do are few. */
async function startKeeper(cuts: number[], range?: string): Promise<Server & { readonly received: () => Buffer }> {
  let chunks: Buffer[] = [];
  const received = (): Buffer => Buffer.concat(chunks);
  const server = await serve((request, response) => {
    const answer = (status: number, headers: Record<string, string> = {}): void => {
      request.resume();
      response.writeHead(status, { Location: '/upload', ...headers }).end();
    };
    switch (request.method) {
      case 'HEAD': {
        answer(404);
        return;
      }
      case 'POST':
        chunks = [];
        {
          answer(202);
          return;
        }
      case 'GET': {
        answer(204, { Range: range ?? `0-${received().length - 1}` });
        return;
      }
      case 'DELETE': {
        answer(204);
        return;
      }
      case 'PUT': {
        answer(201);
        return;
      }
    }
    const start = Number(/^\d+/.exec(request.headers['content-range'] ?? '')?.[0]);
    if (start !== received().length) {
      answer(416);
      return;
    }
    const cut = cuts.shift() ?? Infinity;
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (received().length >= cut) request.destroy();
    });
    request.on('end', () => answer(202));
    request.on('error', () => undefined);
  });
  return Object.assign(server, { received });
}

describe('an upload that breaks', () => {
  const send = (client: Client, { host }: Server, blob: LocalBlob): Promise<Delivery> =>
    client.registries.deliver(repositoryAt(host), blob, { from: [], onSent: () => undefined });

  it('goes on from where the registry says it stands, as often as it takes', async () => {
    await using registry = await startKeeper([500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000]);
    await using client = startClient();
    const blob = large('kept');
    const source = local(blob);
    await send(client, registry, source);
    assert.ok(registry.received().equals(blob.bytes));
    assert.equal(source.opened.length, 6);
    source.opened.forEach((offset, index) => assert.ok(offset >= index * 500_000, `${index}: ${offset}`));
    const ranges = registry.requests.flatMap(({ headers }) => headers['content-range'] ?? []);
    assert.deepEqual(
      ranges,
      source.opened.map((offset) => `${offset}-${LARGE - 1}`),
    );
  });

  it('begins anew where what the registry says makes no sense', async () => {
    // Nothing or one byte; more than there is; not from the beginning; no range at all.
    for (const range of ['0-0', `0-${LARGE}`, '5-100', 'all of it']) {
      await using registry = await startKeeper([500_000], range);
      await using client = startClient();
      const blob = large('nonsense');
      const source = local(blob);
      await send(client, registry, source);
      assert.ok(registry.received().equals(blob.bytes), range);
      assert.deepEqual(source.opened, [0, 0], range);
      assert.equal(registry.requests.filter(({ method }) => method === 'DELETE').length, 1, range);
    }
  });
});

describe('the place where an upload goes on', () => {
  const answer = (from: string, location: string, isPublic = false): HttpResponse => ({
    status: 202,
    headers: { location },
    url: new URL(from),
    public: isPublic,
    body: Readable.from([]),
    discard: () => Promise.resolve(),
  });

  it('is never plain HTTP after TLS, unless the registry is insecure', () => {
    const downgrade = answer('https://registry.example/v2/', 'http://registry.example/upload');
    assert.throws(() => locationOf(downgrade, undefined, { insecure: false }), {
      kind: 'forbidden',
      message: /plain HTTP/,
    });
    assert.equal(locationOf(downgrade, undefined, { insecure: true }).trusted, false);
  });

  it('has no credentials of the other side’s choosing', () => {
    const named = answer('https://registry.example/v2/', 'https://user:secret@registry.example/upload#x');
    const location = locationOf(named, undefined, { insecure: false });
    assert.deepEqual([location.url.href, location.trusted], ['https://registry.example/upload', true]);
  });

  it('stays public once a public host has named it', () => {
    const first = locationOf(answer('https://r.example/', 'https://s.example/', true), undefined, { insecure: false });
    assert.equal(first.reach, 'public');
    const second = locationOf(answer('https://s.example/', 'https://t.example/'), first, { insecure: false });
    assert.deepEqual([second.reach, second.trusted], ['public', false]);
  });
});

describe('the tokens of a push', { skip: needs('docker-registry', 'openssl') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  before(async () => {
    registry = await startRegistry({ tokenAuth: true });
    proxy = await startProxy(registry);
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    proxy.reset();
    registry.tokens?.requests.splice(0);
  });
  const scopes = (): (readonly string[])[] => (registry.tokens?.requests ?? []).map((request) => request.scopes);
  const options = { credentials: ACCOUNT, from: [], onSent: () => undefined };

  it('are for pushing to that repository, one for all its requests, and never serve a pull', async () => {
    await using client = startClient();
    const repository = repositoryAt(proxy.host);
    const blob = large('tokens');
    await client.registries.deliver(repository, local(blob), options);
    await client.registries.deliver(repository, local(blobOf('tokens')), options);
    assert.deepEqual(scopes(), [['repository:team/app:pull,push']]);
    const pushing = proxy.seen.findLast(({ method }) => method === 'PUT')?.authorization;
    // The same account's pull, and somebody else's.
    for (const credentials of [ACCOUNT, undefined]) {
      proxy.reset();
      registry.tokens?.requests.splice(0);
      await bytesOf(await client.registries.blob(repository, blob.digest, { credentials }));
      assert.deepEqual(scopes(), [['repository:team/app:pull']]);
      assert.ok(proxy.seen.every(({ authorization }) => authorization !== pushing));
    }
  });

  it('read the repository that is mounted from, too', async () => {
    await using client = startClient();
    const blob = large('mounted with a token');
    await client.registries.deliver(repositoryAt(proxy.host, 'team/base'), local(blob), options);
    registry.tokens?.requests.splice(0);
    const to = repositoryAt(proxy.host, 'team/other');
    const delivery = await client.registries.deliver(to, local(blob), { ...options, from: ['team/base'] });
    assert.deepEqual(delivery, { how: 'mounted', from: 'team/base' });
    assert.deepEqual(scopes(), [
      ['repository:team/other:pull,push'],
      ['repository:team/other:pull,push', 'repository:team/base:pull'],
    ]);
  });

  it('are not had by anybody: the push is denied with the words that people know', async () => {
    await using client = startClient();
    const anonymous = { ...options, credentials: undefined };
    await assert.rejects(client.registries.deliver(repositoryAt(proxy.host), local(large('anonymous')), anonymous), {
      kind: 'forbidden',
      message: /^denied: requested access to the resource is denied: .* refuses a push to .*, see 'docker login'$/,
    });
    const wrong = { ...options, credentials: { username: ACCOUNT.username, password: 'wrong' } };
    await assert.rejects(client.registries.deliver(repositoryAt(proxy.host), local(large('wrong')), wrong), {
      kind: 'unauthorized',
      message: /wrong user name or password/,
    });
  });

  it('are replaced when they expire in the middle of a push', async () => {
    await using client = startClient();
    const repository = repositoryAt(proxy.host);
    await client.registries.deliver(repository, local(large('before')), options);
    proxy.inject({
      method: 'PATCH',
      times: 1,
      answer: {
        status: 401,
        headers: {
          'WWW-Authenticate': `Bearer realm="${registry.tokens?.realm}",service="${registry.tokens?.service}",error="invalid_token"`,
        },
      },
    });
    const blob = large('after');
    await client.registries.deliver(repository, local(blob), options);
    assert.ok((await readFile(registry.blobPath(blob.digest))).equals(blob.bytes));
    assert.equal(scopes().length, 2);
  });

  it('are asked for no other repository, whatever the registry wants', async () => {
    await using client = startClient();
    const challenge = `Bearer realm="${registry.tokens?.realm}",service="${registry.tokens?.service}",scope="repository:victim/app:pull,push,delete registry:catalog:*"`;
    proxy.inject({ times: 1, answer: { status: 401, headers: { 'WWW-Authenticate': challenge } } });
    await client.registries.deliver(repositoryAt(proxy.host), local(blobOf('asked for more')), options);
    assert.deepEqual(scopes(), [['repository:team/app:pull,push']]);
  });
});

describe('a push to Docker Hub', { skip: needs('docker-registry') }, () => {
  it('never goes to a mirror', async () => {
    await using mirror = await serve((_request, response) => response.writeHead(202, { Location: '/' }).end());
    const lookup = (hostname: string): Promise<never> =>
      Promise.reject(Object.assign(new Error(hostname), { code: 'ENOTFOUND' }));
    await using client = startClient({ mirrors: [mirror.url] }, { lookup });
    const repository = { registry: 'docker.io', path: 'library/app' };
    const blob = local(blobOf('mirror'));
    for (const request of [
      client.registries.deliver(repository, blob, { from: [], onSent: () => undefined }),
      client.registries.hasBlob(repository, blob.digest),
      client.registries.hasManifest(repository, blob.digest),
      client.registries.putManifest(repository, '1', { mediaType: 'x', digest: blob.digest, bytes: Buffer.of() }),
    ]) {
      await assert.rejects(request, { message: /registry-1\.docker\.io: no such host/ });
    }
    assert.deepEqual(mirror.requests, []);
  });
});
