import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { pullScopes } from '../../../src/daemon/registry/authorization.ts';
import { bulk, image, push, type TestImage } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import type { TokenServer } from '../../support/tokens.ts';
import { bytesOf, internetAt127001, repositoryAt, serve, startClient, type Client } from './harness.ts';

const WRONG = { username: ACCOUNT.username, password: 'wrong' };

describe('a registry with Basic authentication', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let client: Client;
  let pushed: TestImage;
  before(async () => {
    registry = await startRegistry({ htpasswd: true });
    proxy = await startProxy(registry);
    pushed = image({ layers: [await bulk('layer', 1000)] });
    await push(registry.host, 'team/app', '1', pushed, ACCOUNT);
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    client = startClient();
  });
  afterEach(async () => {
    await client.registries.close();
    proxy.reset();
  });

  it('gets the credentials when it asks for them, and unasked from then on', async () => {
    const options = { credentials: ACCOUNT };
    const { descriptor } = await client.registries.manifest(repositoryAt(proxy.host), '1', options);
    assert.equal(descriptor.digest, pushed.digest);
    await client.registries.manifest(repositoryAt(proxy.host), '1', options);
    assert.deepEqual(
      proxy.seen.map(({ status, authorization }) => [status, authorization !== undefined]),
      [
        [401, false],
        [200, true],
        [200, true],
      ],
    );
  });

  it('refuses wrong credentials, and missing ones, with its own reason', async () => {
    const repository = repositoryAt(proxy.host);
    await assert.rejects(client.registries.manifest(repository, '1', { credentials: WRONG }), {
      kind: 'unauthorized',
      message: /^unauthorized: authentication required: .* refused the credentials/,
    });
    await assert.rejects(client.registries.resolve(repository, '1'), {
      kind: 'unauthorized',
      message: /^unauthorized: authentication required: .* wants credentials/,
    });
  });

  it('is not sent one client’s credentials for another client', async () => {
    await client.registries.manifest(repositoryAt(proxy.host), '1', { credentials: ACCOUNT });
    await assert.rejects(client.registries.manifest(repositoryAt(proxy.host), '1'), { kind: 'unauthorized' });
  });
});

describe('a registry with bearer tokens', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let tokens: TokenServer;
  let client: Client;
  let pushed: TestImage;
  before(async () => {
    registry = await startRegistry({ tokenAuth: { anonymousPull: false } });
    proxy = await startProxy(registry);
    assert.ok(registry.tokens);
    tokens = registry.tokens;
    const open = await startRegistry({ storage: join(registry.dir, 'storage') });
    pushed = image({ layers: [await bulk('layer', 100_000)] });
    await push(open.host, 'team/app', '1', pushed);
    await open.stop();
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    client = startClient();
    tokens.requests.length = 0;
    tokens.expiresIn = 300;
  });
  afterEach(async () => {
    await client.registries.close();
    proxy.reset();
  });
  const pull = (credentials: object = ACCOUNT): Promise<unknown> =>
    client.registries.manifest(repositoryAt(proxy.host), '1', { credentials });
  /** Has the registry name another realm. */
  const nameRealm = (realm: string): void => {
    const challenge = `Bearer realm="${realm}",service="${tokens.service}",scope="repository:team/app:pull"`;
    proxy.inject({ answer: { status: 401, headers: { 'WWW-Authenticate': challenge } }, times: 1 });
  };

  it('gets a token that it verifies, made once for all requests', async () => {
    await Promise.all([pull(), pull(), pull()]);
    await pull();
    assert.deepEqual(tokens.requests, [
      { scopes: ['repository:team/app:pull'], account: ACCOUNT.username, granted: true },
    ]);
  });

  it('gets tokens of their own for each set of credentials', async () => {
    await pull();
    await assert.rejects(pull(WRONG), { kind: 'unauthorized', message: /unauthorized: wrong user name or password/ });
    await assert.rejects(pull({}), { kind: 'unauthorized' });
    assert.deepEqual(
      tokens.requests.map(({ granted }) => granted),
      [true, false, false],
    );
  });

  it('gets a new token before the old one expires', async () => {
    let now = Date.now();
    await using clocked = startClient({}, { now: () => now });
    const ask = (): Promise<unknown> =>
      clocked.registries.manifest(repositoryAt(proxy.host), '1', { credentials: ACCOUNT });
    await ask();
    now += 289_000;
    await ask();
    assert.equal(tokens.requests.length, 1);
    now += 2000;
    await ask();
    assert.equal(tokens.requests.length, 2);
  });

  it('takes a token without expires_in for good for 60 seconds', async () => {
    let now = Date.now();
    await using clocked = startClient({}, { now: () => now });
    tokens.expiresIn = 0;
    const ask = (): Promise<unknown> =>
      clocked.registries.manifest(repositoryAt(proxy.host), '1', { credentials: ACCOUNT });
    await ask();
    now += 49_000;
    await ask();
    assert.equal(tokens.requests.length, 1);
    now += 2000;
    await ask();
    assert.equal(tokens.requests.length, 2);
  });

  it('gets a new token early when the old one was not fresh, but not because clocks disagree', async () => {
    for (const [age, requests] of [
      [280, 2],
      [10_000, 1],
      [-500, 1],
    ] as const) {
      let now = Date.now();
      await using clocked = startClient({}, { now: () => now });
      await using realm = await serve((request, response) => {
        const { authorization = '' } = request.headers;
        const url = `${tokens.realm}${request.url ?? ''}`;
        fetch(url, { headers: { authorization } })
          .then((answer) => answer.json() as Promise<object>)
          .then((answer) => {
            const issued_at = new Date(now - age * 1000).toISOString();
            response.end(JSON.stringify({ ...answer, issued_at }));
          })
          .catch(() => response.destroy());
      });
      nameRealm(realm.url);
      const ask = (): Promise<unknown> =>
        clocked.registries.manifest(repositoryAt(proxy.host), '1', { credentials: ACCOUNT });
      await ask();
      now += 16_000;
      await ask();
      assert.equal(realm.requests.length, requests, `${age} s old`);
    }
  });

  it('is given a new token when it no longer takes the old one in the middle of a pull', async () => {
    await pull();
    const challenge = `Bearer realm="${tokens.realm}",service="${tokens.service}",scope="repository:team/app:pull",error="invalid_token"`;
    proxy.inject({ path: /blobs/, answer: { status: 401, headers: { 'WWW-Authenticate': challenge } }, times: 1 });
    const [layer] = pushed.layers;
    assert.ok(layer);
    const options = { credentials: ACCOUNT, offset: 10 };
    const blob = await client.registries.blob(repositoryAt(proxy.host), layer.digest, options);
    assert.deepEqual(await bytesOf(blob), layer.bytes.subarray(10));
    assert.equal(tokens.requests.length, 2);
    const [before, after] = proxy.seen.filter(({ path }) => path.includes('blobs'));
    assert.notEqual(before?.authorization, after?.authorization);
  });

  it('is asked no more than twice when it takes no token at all', async () => {
    const challenge = `Bearer realm="${tokens.realm}",service="${tokens.service}",scope="repository:team/app:pull",error="insufficient_scope"`;
    proxy.inject({ answer: { status: 401, headers: { 'WWW-Authenticate': challenge } } });
    const name = `${proxy.host}/team/app`;
    await assert.rejects(pull(), {
      kind: 'forbidden',
      message: `pull access denied for ${name}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
    });
    assert.equal(proxy.seen.length, 2);
  });

  it('gets the token that a client brought along as it is', async () => {
    await assert.rejects(pull({ registryToken: 'brought.along' }), { kind: 'unauthorized' });
    assert.equal(proxy.seen[0]?.authorization, 'Bearer brought.along');
    assert.deepEqual(tokens.requests, []);
  });

  it('may name a realm elsewhere, which a refresh token is posted to', async () => {
    const asked: string[] = [];
    await using realm = await serve((request, response) => {
      request.setEncoding('utf8').on('data', (text: string) => asked.push(text));
      request.on('end', () => {
        const basic = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64');
        const url = `${tokens.realm}?service=${tokens.service}&scope=repository:team/app:pull`;
        fetch(url, { headers: { authorization: `Basic ${basic}` } })
          .then((answer) => answer.json() as Promise<{ token: string }>)
          .then(({ token }) => response.end(JSON.stringify({ access_token: token })))
          .catch(() => response.destroy());
      });
    });
    nameRealm(`${realm.url}/oauth`);
    await pull({ username: '<token>', identityToken: 'refresh me' });
    assert.equal(realm.requests[0]?.method, 'POST');
    assert.equal(realm.requests[0].headers.authorization, undefined);
    const form = new URLSearchParams(asked.join(''));
    assert.deepEqual(
      ['grant_type', 'refresh_token', 'service', 'scope', 'client_id'].map((name) => form.get(name)),
      ['refresh_token', 'refresh me', tokens.service, 'repository:team/app:pull', 'layerd'],
    );
  });

  it('cannot have a posted refresh token redirected elsewhere', async () => {
    await using thief = await serve((_, response) => response.end('{"token":"x"}'), '127.0.0.2');
    await using realm = await serve((_, response) => response.writeHead(307, { Location: thief.url }).end());
    nameRealm(realm.url);
    await assert.rejects(pull({ identityToken: 'refresh me' }), { kind: 'unavailable' });
    assert.deepEqual(thief.requests, []);
  });

  it('cannot have the password redirected elsewhere with the request for a token', async () => {
    await using thief = await serve((_, response) => response.end('{"token":"x"}'), '127.0.0.2');
    await using realm = await serve((_, response) => response.writeHead(302, { Location: thief.url }).end());
    nameRealm(realm.url);
    await assert.rejects(pull(), { kind: 'unauthorized' });
    assert.equal(thief.requests.length > 0, true);
    for (const { headers } of thief.requests) assert.equal(headers.authorization, undefined);
  });

  it('cannot name a realm inside of our network when it is public itself', async () => {
    await using inside = await serve((_, response) => response.end('{"token":"x"}'), '127.0.0.2');
    await using guarded = startClient({}, { classify: internetAt127001 });
    nameRealm(`${inside.url}/token`);
    await assert.rejects(guarded.registries.manifest(repositoryAt(proxy.host), '1', { credentials: ACCOUNT }), {
      kind: 'forbidden',
      message: /must not send us to a loopback, private or link-local address/,
    });
    assert.deepEqual(inside.requests, []);
  });

  it('cannot have tokens fetched over plain HTTP when it is not insecure itself', async () => {
    await using secure = await startRegistry({ tls: true, tokenAuth: true });
    assert.ok(secure.ca !== undefined && secure.tokens !== undefined);
    const dir = join(secure.dir, 'certs.d', secure.host);
    const { mkdir, writeFile } = await import('node:fs/promises');
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'ca.crt'), await readFile(secure.ca));
    await using strict = startClient({ certsDirs: [join(secure.dir, 'certs.d')] }, { implicitlyInsecure: [] });
    await assert.rejects(strict.registries.manifest(repositoryAt(secure.host), '1', { credentials: ACCOUNT }), {
      kind: 'forbidden',
      message: /wants tokens to be fetched over plain HTTP/,
    });
    assert.deepEqual(secure.tokens.requests, []);
  });

  it('does not get a token that would add headers of its own, or none at all', async () => {
    for (const answer of ['{"token":"a\\r\\nX: y"}', '{"token":""}', '{}', 'null', 'no JSON']) {
      await using realm = await serve((_, response) => response.end(answer));
      await using fresh = startClient();
      nameRealm(realm.url);
      await assert.rejects(fresh.registries.manifest(repositoryAt(proxy.host), '1'), {
        kind: 'unavailable',
        message: /without a usable token/,
      });
    }
  });

  it('fails the pull of one client only, when that one goes away while all wait for the token', async () => {
    const { promise: arrived, resolve: arrive } = Promise.withResolvers<undefined>();
    const { promise: released, resolve: release } = Promise.withResolvers<undefined>();
    await using realm = await serve((_, response) => {
      arrive(undefined);
      void released.then(async () => {
        const basic = Buffer.from(`${ACCOUNT.username}:${ACCOUNT.password}`).toString('base64');
        const url = `${tokens.realm}?service=${tokens.service}&scope=repository:team/app:pull`;
        const answer = await fetch(url, { headers: { authorization: `Basic ${basic}` } });
        response.end(await answer.text());
      });
    });
    nameRealm(realm.url);
    nameRealm(realm.url);
    const abort = new AbortController();
    const options = { credentials: ACCOUNT };
    const leaving = client.registries.manifest(repositoryAt(proxy.host), '1', { ...options, signal: abort.signal });
    const left = assert.rejects(leaving, { kind: 'cancelled' });
    const staying = client.registries.manifest(repositoryAt(proxy.host), '1', options);
    await arrived;
    abort.abort();
    await left;
    release(undefined);
    await staying;
  });
});

describe('a registry that pulls are anonymous from', { skip: needs('docker-registry') }, () => {
  it('says of what one may not see without credentials that it may not exist, as dockerd does', async () => {
    await using registry = await startRegistry({ tokenAuth: true });
    await using proxy = await startProxy(registry);
    await using client = startClient();
    await assert.rejects(client.registries.manifest(repositoryAt(proxy.host), '1'), { kind: 'not-found' });
    proxy.inject({ answer: { status: 403 } });
    await assert.rejects(client.registries.manifest(repositoryAt(proxy.host), '1'), {
      kind: 'not-found',
      message: /^pull access denied for .*: denied: requested access to the resource is denied$/,
    });
  });
});

describe('the scopes of a challenge', () => {
  it('are narrowed to pulling', () => {
    assert.deepEqual(pullScopes('repository:a/b:pull,push repository:c:* repository(plugin):d:pull', 'x'), [
      'repository:a/b:pull',
      'repository:c:pull',
      'repository(plugin):d:pull',
    ]);
  });

  it('are the repository’s own where nothing of them is for pulling', () => {
    for (const text of [undefined, '', 'registry:catalog:*', 'repository:a/b:push', 'repository::pull', 'nonsense']) {
      assert.deepEqual(pullScopes(text, 'a/b'), ['repository:a/b:pull']);
    }
  });
});
