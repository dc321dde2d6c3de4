import assert from 'node:assert/strict';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PullRequest } from '../../../src/daemon/api/parts.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import type { ProgressMessage } from '../../../src/protocol/progress.ts';
import { Fixture } from './fixture.ts';

describe('POST /images/create', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  function open(query: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const path = `/images/create?${query}`;
      httpRequest({ socketPath: api.socket, path, method: 'POST', headers }, resolve).once('error', reject).end();
    });
  }

  const lines = (body: string): ProgressMessage[] =>
    body
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as ProgressMessage);

  /** What the pull is asked for by a request. */
  async function asked(query: string, headers: Record<string, string> = {}): Promise<PullRequest> {
    const requests: PullRequest[] = [];
    api.remote.pull = (request) => {
      requests.push(request);
      return Promise.resolve();
    };
    const response = await open(query, headers);
    assert.equal(response.statusCode, 200, await text(response));
    assert.equal(requests.length, 1);
    return requests[0] as PullRequest;
  }

  it('asks for all platforms by a parameter of its own, which excludes that of one', async () => {
    assert.equal((await asked('fromImage=redis&tag=7')).allPlatforms, false);
    assert.equal((await asked('fromImage=redis&tag=7&all-platforms=0&platform=linux')).allPlatforms, false);
    assert.equal((await asked('fromImage=redis&tag=7&all-platforms=1')).allPlatforms, true);
    const refused = await open('fromImage=redis&tag=7&all-platforms=1&platform=linux/arm64');
    assert.equal(refused.statusCode, 400);
    assert.match(await text(refused), /all-platforms and platform cannot both be set/);
  });

  it('asks for the reference that image and tag make', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const redis = { registry: 'docker.io', path: 'library/redis' };
    for (const [query, expected, all] of [
      ['fromImage=redis&tag=7', { ...redis, tag: '7', digest: undefined }, false],
      ['fromImage=redis:6&tag=7', { ...redis, tag: '7', digest: undefined }, false],
      ['fromImage=redis:7', { ...redis, tag: '7', digest: undefined }, false],
      [`fromImage=redis&tag=${digest}`, { ...redis, tag: undefined, digest }, false],
      ['fromImage=redis', { ...redis, tag: undefined, digest: undefined }, true],
      ['fromImage=redis:', { ...redis, tag: undefined, digest: undefined }, true],
      [
        'fromImage=%5B%3A%3A1%5D%3A5000%2Fa%2Fb&tag=1',
        { registry: '[::1]:5000', path: 'a/b', tag: '1', digest: undefined },
        false,
      ],
    ] as const) {
      const request = await asked(query);
      assert.deepEqual(request.reference, expected);
      assert.equal(request.all, all);
    }
  });

  it('passes the platform on, from the version on that has it', async () => {
    assert.equal((await asked('fromImage=redis&tag=7&platform=linux/arm64')).platform, 'linux/arm64');
    assert.equal((await asked('fromImage=redis&tag=7&platform=')).platform, undefined);
  });

  it('takes credentials in either alphabet of base64 and every form, and none for no credentials', async () => {
    const given = async (header: string): Promise<unknown> =>
      (await asked('fromImage=redis&tag=7', { 'X-Registry-Auth': header })).credentials;
    const encode = (value: object, alphabet: 'base64' | 'base64url' = 'base64url'): string =>
      Buffer.from(JSON.stringify(value)).toString(alphabet);
    const pair = { username: 'me', password: 'ÿ~?>secret' };
    assert.deepEqual(await given(encode(pair)), pair);
    assert.deepEqual(await given(encode(pair, 'base64')), pair);
    assert.deepEqual(await given(encode({ auth: Buffer.from('me:a:b').toString('base64') })), {
      username: 'me',
      password: 'a:b',
    });
    assert.deepEqual(await given(encode({ identitytoken: 'token', serveraddress: 'x' })), { identityToken: 'token' });
    assert.deepEqual(await given(encode({ registrytoken: 'token' })), { registryToken: 'token' });
    for (const none of ['', 'e30=', 'not base64 at all', encode({ username: '', password: '' }), encode([1])]) {
      assert.equal(await given(none), undefined, none);
    }
  });

  it('refuses a reference that is none, a reserved name, an import as well and nothing at all', async () => {
    for (const [query, status] of [
      ['fromImage=Redis&tag=7', 400],
      ['fromImage=redis&tag=no%20tag', 400],
      ['fromImage=scratch&tag=latest', 403],
      ['fromImage=redis&tag=7&fromSrc=-', 400],
      ['', 400],
    ] as const) {
      const response = await open(query);
      assert.equal(response.statusCode, status, query);
      assert.ok((JSON.parse(await text(response)) as { message: string }).message.length > 10);
    }
  });

  it('streams the progress line by line as it comes', async () => {
    const go: PromiseWithResolvers<void> = Promise.withResolvers();
    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Pulling from library/redis', id: '7' });
      await go.promise;
      await progress({ status: 'Digest: sha256:…' });
    };
    const response = await open('fromImage=redis&tag=7');
    assert.equal(response.headers['content-type'], 'application/json');
    const [first] = (await once(response, 'data')) as [Buffer];
    assert.deepEqual(lines(first.toString()), [{ status: 'Pulling from library/redis', id: '7' }]);
    go.resolve();
    assert.deepEqual(lines(await text(response)), [{ status: 'Digest: sha256:…' }]);
  });

  it('answers a failure before the first line with its status, and one after it with a last line', async () => {
    api.remote.pull = () => Promise.reject(new LayerdError('not-found', 'no such tag'));
    assert.equal((await open('fromImage=redis&tag=7')).statusCode, 404);

    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Pulling' });
      throw new LayerdError('corrupt', 'digests differ');
    };
    const response = await open('fromImage=redis&tag=7');
    assert.equal(response.statusCode, 200);
    assert.deepEqual(lines(await text(response)), [
      { status: 'Pulling' },
      { errorDetail: { message: 'digests differ' }, error: 'digests differ' },
    ]);
  });

  it('keeps the details of a defect to the log in the last line too', async () => {
    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Pulling' });
      throw new TypeError('secret internals');
    };
    const body = await text(await open('fromImage=redis&tag=7'));
    assert.doesNotMatch(body, /secret/);
    assert.match(body, /under request [0-9a-f]+/);
  });

  it('aborts the pull when the client goes away, before the first line and after it', async () => {
    for (const early of [true, false]) {
      const started: PromiseWithResolvers<void> = Promise.withResolvers();
      const aborted: PromiseWithResolvers<void> = Promise.withResolvers();
      api.remote.pull = async ({ signal }, progress) => {
        if (!early) await progress({ status: 'Pulling' });
        signal.addEventListener('abort', () => aborted.resolve());
        started.resolve();
        await aborted.promise;
        signal.throwIfAborted();
      };
      const request = httpRequest({
        socketPath: api.socket,
        path: '/images/create?fromImage=redis&tag=7',
        method: 'POST',
      });
      request.on('error', () => undefined).end();
      await started.promise;
      request.destroy();
      await aborted.promise;
    }
    // Going away is no defect of the daemon.
    while (api.lines.filter(({ message }) => message === 'a client went away').length < 2) await sleep(1);
    assert.deepEqual(
      api.lines.filter(({ level }) => level === 'error'),
      [],
    );
  });

  it('does not abort a pull that is complete', async () => {
    const { signal } = await asked('fromImage=redis&tag=7');
    assert.equal(signal.aborted, false);
  });

  it('holds back only the latest line of each layer for a client that does not read', async () => {
    const layers = 5;
    const rounds = 20_000;
    let waited = 0;
    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Pulling' });
      for (let round = 0; round <= rounds; round += 1) {
        for (let layer = 0; layer < layers; layer += 1) {
          const sent = progress({
            status: 'Downloading',
            id: `layer${layer}`,
            progressDetail: { current: round, total: rounds },
          });
          if (sent !== undefined) waited += 1;
        }
      }
      await progress({ status: 'Status: Downloaded newer image' });
    };
    const response = await open('fromImage=redis&tag=7');
    response.pause();
    await sleep(50);
    const received = lines(await text(response));
    assert.ok(waited > layers * rounds * 0.5, 'the connection was never full');
    assert.ok(received.length < layers * rounds * 0.5, `${received.length} lines were buffered`);
    assert.deepEqual(received.at(-1), { status: 'Status: Downloaded newer image' });
    for (let layer = 0; layer < layers; layer += 1) {
      const own = received.filter(({ id }) => id === `layer${layer}`);
      assert.equal(own.at(-1)?.progressDetail?.current, rounds);
      const steps = own.map(({ progressDetail }) => progressDetail?.current ?? -1);
      assert.deepEqual(
        steps,
        steps.toSorted((a, b) => a - b),
      );
    }
  });
});
