import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ConnectionError, EngineError, LayerdClient } from '../../src/client/index.ts';
import { json, scriptedEngine, stream, temporaryDirectory } from './support.ts';

describe('the client', () => {
  it('speaks the older of both sides’ versions, asked once', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => json(response, []), '1.41');
    await using client = new LayerdClient({ host: engine.host });
    await client.images();
    await client.inspect('a');
    assert.deepEqual(
      engine.seen.map(({ version, path }) => [version, path]),
      [
        ['1.41', '/images/json'],
        ['1.41', '/images/a/json'],
      ],
    );
  });

  it('keeps its connections for the next requests', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => json(response, []));
    await using client = new LayerdClient({ host: engine.host });
    for (let request = 0; request < 20; request += 1) await client.images();
    // One may still be finishing a request when the next one begins.
    assert.ok(engine.connections() <= 2, `${engine.connections()} connections`);
  });

  it('speaks no newer version than it knows, and the one it was given', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => json(response, []), '1.99');
    await using newest = new LayerdClient({ host: engine.host });
    await newest.images();
    await using given = new LayerdClient({ host: engine.host, apiVersion: '1.30' });
    await given.images();
    assert.deepEqual(
      engine.seen.map(({ version }) => version),
      ['1.56', '1.30'],
    );
  });

  it('sends what the Engine API asks for', async (context) => {
    const engine = await scriptedEngine(context, (request, response) =>
      request.path === '/images/create' ? stream(response, []) : json(response, []),
    );
    await using client = new LayerdClient({ host: engine.host });
    await client.images({ all: true, digests: true, sharedSize: true, manifests: true, filters: { label: ['a=b'] } });
    await client.inspect('team/app:1', { platform: 'linux/arm/v7', manifests: true });
    await client.history('4a5f');
    await client.remove('redis:7', { force: true, noPrune: true, platforms: ['linux/amd64'] });
    await client.distribution('redis');
    await Array.fromAsync(client.pull('redis', { platform: 'linux/arm64' }));
    await Array.fromAsync(client.pull('localhost:5000/a@sha256:'.concat('0'.repeat(64))));
    await Array.fromAsync(client.pull('team/app', { allTags: true }));
    await client.layers('redis:7');
    await client.referrers('team/app:1', { platform: 'linux/arm64', artifactType: 'application/spdx+json' });
    await client.registries();
    await client.search('redis', { limit: 5, filters: { stars: ['3'] } });
    await client.attestations('redis:7', { platform: 'linux/amd64', types: ['a', 'b'], statement: true });
    await client.logIn({ username: 'ann', password: 's3cret' });
    assert.deepEqual(
      engine.seen.map(({ method, path, query }) => `${method} ${path}?${decodeURIComponent(query.toString())}`),
      [
        'GET /images/json?all=1&digests=1&shared-size=1&manifests=1&filters={"label":["a=b"]}',
        'GET /images/team/app:1/json?platform={"os":"linux","architecture":"arm","variant":"v7"}&manifests=1',
        'GET /images/4a5f/history?',
        'DELETE /images/redis:7?force=1&noprune=1&platforms={"os":"linux","architecture":"amd64"}',
        'GET /distribution/redis/json?',
        'POST /images/create?fromImage=redis&tag=latest&platform=linux/arm64',
        `POST /images/create?fromImage=localhost:5000/a&tag=sha256:${'0'.repeat(64)}`,
        'POST /images/create?fromImage=team/app',
        'GET /layerd/images/redis:7/layers?',
        'GET /layerd/images/team/app:1/referrers?platform={"os":"linux","architecture":"arm64"}&artifactType=application/spdx+json',
        'GET /layerd/registries?',
        'GET /images/search?term=redis&limit=5&filters={"stars":["3"]}',
        'GET /images/redis:7/attestations?platform={"os":"linux","architecture":"amd64"}&type=a&type=b&statement=1',
        'POST /auth?',
      ],
    );
  });

  it('sends credentials as URL-safe base64 of JSON', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => stream(response, []));
    await using client = new LayerdClient({ host: engine.host });
    const auth = { username: 'ann', password: '???>>>~~~', serveraddress: 'a' };
    await Array.fromAsync(client.pull('a.example.com/b', { auth }));
    const header = String(engine.seen[0]?.headers['x-registry-auth']);
    assert.match(header, /^[\w-]+=*$/);
    assert.deepEqual(JSON.parse(Buffer.from(header, 'base64url').toString()), auth);
  });

  it('logs in where an engine says so without a body', async (context) => {
    let account: unknown;
    const engine = await scriptedEngine(context, async ({ body }, response) => {
      account = JSON.parse(await body());
      response.writeHead(204).end();
    });
    await using client = new LayerdClient({ host: engine.host });
    assert.deepEqual(await client.logIn({ username: 'ann', password: 's3cret' }), { Status: 'Login Succeeded' });
    assert.deepEqual(account, { username: 'ann', password: 's3cret' });
    assert.equal(engine.seen[0]?.headers['x-registry-auth'], undefined);
  });

  it('refuses what the daemon is too old for, before asking', async (context) => {
    const engine = await scriptedEngine(context, () => undefined, '1.40');
    await using client = new LayerdClient({ host: engine.host });
    await assert.rejects(
      client.inspect('a', { platform: 'linux/amd64' }),
      /needs API version 1\.49; the daemon speaks 1\.40/,
    );
    await assert.rejects(client.attestations('a'), /needs API version 1\.55; the daemon speaks 1\.40/);
    assert.deepEqual(engine.seen, []);
  });

  for (const [status, kind] of [
    [400, 'invalid'],
    [401, 'unauthorized'],
    [403, 'forbidden'],
    [404, 'not-found'],
    [409, 'conflict'],
    [429, 'too-many-requests'],
    [500, 'internal'],
    [501, 'not-implemented'],
    [503, 'unavailable'],
  ] as const) {
    it(`takes status ${status} for an error of kind ${kind} with the daemon’s message`, async (context) => {
      const engine = await scriptedEngine(context, (_request, response) => json(response, { message: 'why' }, status));
      await using client = new LayerdClient({ host: engine.host });
      await assert.rejects(
        client.info(),
        (error) =>
          error instanceof EngineError && error.kind === kind && error.status === status && error.message === 'why',
      );
    });
  }

  it('tells of an answer that is no engine’s', async (context) => {
    const engine = await scriptedEngine(context, ({ path }, response) => {
      response.writeHead(path === '/info' ? 502 : 200).end('<html>');
    });
    await using client = new LayerdClient({ host: engine.host });
    await assert.rejects(client.info(), /<html>/);
    await assert.rejects(client.images(), /is not JSON/);
  });

  it('gives messages as they come and lets go of the daemon when the iteration is left', async (context) => {
    const gone = Promise.withResolvers<undefined>();
    const engine = await scriptedEngine(context, (_request, response) => {
      response.writeHead(200).write('{"status":"first"}\n');
      response.on('close', () => gone.resolve(undefined));
    });
    await using client = new LayerdClient({ host: engine.host });
    for await (const { status } of client.pull('a')) {
      assert.equal(status, 'first');
      break;
    }
    await gone.promise;
  });

  it('ends a stream with the signal’s reason', async (context) => {
    const engine = await scriptedEngine(
      context,
      (_request, response) => void response.writeHead(200).write('{"Type":"image"}\n'),
    );
    await using client = new LayerdClient({ host: engine.host });
    const stop = new AbortController();
    const events = client.events({ signal: stop.signal });
    await events.next();
    const next = events.next();
    stop.abort(new Error('enough'));
    await assert.rejects(next, /enough/);
    await assert.rejects(client.info({ signal: stop.signal }), /enough/);
  });

  it('throws the failure that a pull’s stream tells of', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) =>
      stream(response, [{ status: 'x' }, { error: 'denied', errorDetail: { code: 403, message: 'denied: no' } }]),
    );
    await using client = new LayerdClient({ host: engine.host });
    await assert.rejects(
      Array.fromAsync(client.pull('a')),
      (error) => error instanceof EngineError && error.kind === 'forbidden' && error.message === 'denied: no',
    );
  });

  it('tells a connection that was cut from an end', async (context) => {
    const engine = await scriptedEngine(context, async (_request, response) => {
      response.writeHead(200, { 'Transfer-Encoding': 'chunked' });
      response.write('{"status":"x"}\n');
      await once(response, 'drain').catch(() => undefined);
    });
    await using client = new LayerdClient({ host: engine.host });
    const messages = client.pull('a');
    await messages.next();
    const next = messages.next();
    client.close();
    await assert.rejects(next, (error) => error instanceof ConnectionError && error.kind === 'unavailable');
  });

  it('says which socket is not there', async (context) => {
    const host = `unix://${await temporaryDirectory(context)}/none.sock`;
    await using client = new LayerdClient({ host });
    await assert.rejects(
      client.ping(),
      (error) => error instanceof ConnectionError && error.code === 'ENOENT' && error.host === host,
    );
  });

  it('asks for the version again when it could not', async (context) => {
    const directory = await temporaryDirectory(context);
    await using client = new LayerdClient({ host: `unix://${join(directory, 'x.sock')}` });
    await assert.rejects(client.info());
    await assert.rejects(client.info(), ConnectionError);
  });

  it('gives a manifest’s bytes as they are, with digest and media type', async (context) => {
    const bytes = Buffer.from('{ "schemaVersion": 2 }\n');
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const engine = await scriptedEngine(context, (request, response) => {
      assert.equal(request.path, '/layerd/manifests/redis:7');
      response
        .writeHead(200, { 'Content-Type': 'application/x; charset=utf-8', 'Docker-Content-Digest': digest })
        .end(bytes);
    });
    await using client = new LayerdClient({ host: engine.host });
    assert.deepEqual(await client.manifest('redis:7'), { mediaType: 'application/x', digest, bytes });
  });
});
