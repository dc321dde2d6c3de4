import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer as createHttp } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { makeCertificate } from '../../support/certificates.ts';
import { image, layer, push } from '../../support/images.ts';
import { listen } from '../../support/listen.ts';
import { needs, scratch } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import { serve, startClient, type Client } from './harness.ts';

const names = (found: readonly { name: string }[]): string[] => found.map(({ name }) => name);
const json = { 'Content-Type': 'application/json' };

describe('searching a registry without a search', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let client: Client;
  before(async () => {
    registry = await startRegistry();
    proxy = await startProxy(registry);
    const some = image({ layers: [await layer([{ name: 'some' }])] });
    for (const path of ['library/redis', 'team/app', 'team/redis-exporter', 'team/web', 'tools/redis']) {
      await push(registry.host, path, '1', some);
    }
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    client = startClient();
  });
  afterEach(async () => {
    await client[Symbol.asyncDispose]();
    proxy.reset();
  });

  it('looks through the pages of its catalog for paths with the term, as far as needed', async () => {
    // The registry's own pages, made small.
    proxy.inject({ path: /_catalog\?n=100/, forwardTo: '/v2/_catalog?n=2' });
    const search = async (term: string, limit: number): Promise<string[]> =>
      names(await client.registries.search(proxy.host, term, { limit }));
    const all = ['library/redis', 'team/redis-exporter', 'tools/redis'].map((path) => `${proxy.host}/${path}`);
    assert.deepEqual(await search('Redis', 25), all);
    assert.equal(proxy.seen.filter(({ path }) => path.includes('_catalog')).length, 3);
    proxy.seen.length = 0;
    assert.deepEqual(await search('redis', 2), all.slice(0, 2));
    assert.equal(proxy.seen.filter(({ path }) => path.includes('_catalog')).length, 2);
    assert.equal((await search('', 25)).length, 5);
    assert.deepEqual(await search('nothing', 25), []);
  });

  it('takes nothing for a search that is none, and no name that is none', async () => {
    proxy.inject({ path: /^\/v1\//, answer: { status: 200, body: '<html>' } });
    const body = JSON.stringify({ repositories: ['team/app', '../up', 7, 'UPPER'] });
    const remove = proxy.inject({ path: /_catalog/, answer: { status: 200, headers: json, body } });
    assert.deepEqual(names(await client.registries.search(proxy.host, '', { limit: 25 })), [`${proxy.host}/team/app`]);
    remove();
    proxy.inject({ path: /_catalog/, answer: { status: 200, headers: json, body: '{"repositories":"all"}' } });
    await assert.rejects(client.registries.search(proxy.host, '', { limit: 25 }), { kind: 'corrupt' });
  });

  it('ends an endless catalog, and says so in the log', async () => {
    const headers = { ...json, Link: '</v2/_catalog?last=a>; rel="next"' };
    proxy.inject({ path: /_catalog/, answer: { status: 200, headers, body: '{"repositories":["a"]}' } });
    assert.equal((await client.registries.search(proxy.host, 'a', { limit: 1000 })).length, 100);
    assert.ok(client.log.some(({ level, message }) => level === 'warn' && message.includes('in part')));
  });

  it('does not follow a next page to elsewhere', async () => {
    await using elsewhere = await serve((_request, response) => response.end('{"repositories":["b"]}'));
    for (const next of [`${elsewhere.url}/v2/_catalog?last=a`, '/v2/team/app/tags/list']) {
      const remove = proxy.inject({
        path: /_catalog/,
        answer: { status: 200, headers: { ...json, Link: `<${next}>; rel="next"` }, body: '{"repositories":["a"]}' },
      });
      await assert.rejects(client.registries.search(proxy.host, 'b', { limit: 25 }), { kind: 'forbidden' });
      remove();
    }
    assert.deepEqual(elsewhere.requests, []);
  });

  it('says why the registry refuses', async () => {
    for (const [status, kind, message] of [
      [401, 'unauthorized', /cannot be searched: .*_catalog answered with status 401: .*docker login/],
      [403, 'forbidden', /cannot be searched/],
      [404, 'not-found', /neither a search nor a catalog/],
      [429, 'too-many-requests', /cannot be searched/],
    ] as const) {
      const remove = proxy.inject({ path: /_catalog/, answer: { status } });
      await assert.rejects(client.registries.search(proxy.host, 'a', { limit: 25 }), { kind, message });
      remove();
    }
  });
});

describe('searching with an account', { skip: needs('docker-registry') }, () => {
  for (const options of [{ htpasswd: true }, { tokenAuth: { anonymousPull: false } }]) {
    it(`is authorized by ${Object.keys(options).join()}`, async () => {
      await using registry = await startRegistry(options);
      await using client = startClient();
      const search = (credentials: object): Promise<unknown> =>
        client.registries.search(registry.host, '', { limit: 1, credentials });
      assert.deepEqual(await search(ACCOUNT), []);
      await assert.rejects(search({ ...ACCOUNT, password: 'wrong' }), { kind: 'unauthorized' });
      await assert.rejects(search({}), { kind: 'unauthorized' });
    });
  }
});

describe('searching by the first version of the API', () => {
  const results = [
    { name: 'redis', description: 'a cache', is_official: true, is_automated: true, star_count: 12 },
    { name: 'team/redis', description: null, is_official: false, star_count: 'many' },
    { name: 7 },
    null,
  ];

  it('asks a registry that has it', async () => {
    await using server = await serve((_request, response) =>
      response.writeHead(200, json).end(JSON.stringify({ results })),
    );
    await using client = startClient();
    assert.deepEqual(await client.registries.search(server.host, 'redis', { limit: 10 }), [
      { name: `${server.host}/redis`, description: 'a cache', official: true, stars: 12 },
      { name: `${server.host}/team/redis`, description: '', official: false, stars: 0 },
    ]);
    assert.deepEqual(
      server.requests.map(({ url }) => url),
      ['/v1/search?q=redis&n=10'],
    );
    assert.equal((await client.registries.search(server.host, 'redis', { limit: 1 })).length, 1);
  });

  it('asks Docker Hub’s index, not its mirrors', { skip: needs('openssl') }, async () => {
    await using folder = await scratch('hub');
    const { certificate, key } = await makeCertificate(folder.path, 'hub');
    const asked: string[] = [];
    let status = 200;
    const hub = createHttps({ cert: await readFile(certificate), key: await readFile(key) }, (request, response) => {
      asked.push(`${request.headers.host ?? ''} ${request.url ?? ''} ${request.headers.authorization ?? ''}`);
      response.writeHead(status, json).end(status === 200 ? JSON.stringify({ results }) : '{"message":"no such page"}');
    });
    const { close: closeHub } = await listen(hub);
    // A proxy by which every name leads there.
    const proxy = createHttp();
    proxy.on('connect', (_request, client) => {
      const upstream = connect((hub.address() as AddressInfo).port, '127.0.0.1', () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
      upstream.on('error', () => client.destroy());
      client.on('error', () => upstream.destroy());
    });
    const { host, close } = await listen(proxy);
    await using mirror = await serve((_request, response) => response.writeHead(500).end());
    await using client = startClient({
      proxies: { https: `http://${host}` },
      insecureRegistries: ['index.docker.io'],
      mirrors: [mirror.url],
    });
    try {
      const found = await client.registries.search('docker.io', 'redis', { limit: 25, credentials: ACCOUNT });
      assert.deepEqual(names(found), ['redis', 'team/redis']);
      status = 404;
      await assert.rejects(client.registries.search('docker.io', 'redis', { limit: 25 }), { kind: 'not-found' });
      assert.deepEqual(asked, Array(2).fill('index.docker.io /v1/search?q=redis&n=25 '));
      assert.deepEqual(mirror.requests, []);
    } finally {
      await client[Symbol.asyncDispose]();
      await closeHub();
      await close();
    }
  });
});
