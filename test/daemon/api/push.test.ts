import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request, { type Response } from 'supertest';
import type { PushRequest } from '../../../src/daemon/images/push.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const ANONYMOUS = { 'X-Registry-Auth': 'e30=' };

describe('POST /images/{name}/push', () => {
  let api: Fixture;
  let requests: PushRequest[];
  beforeEach(async () => {
    api = await Fixture.start();
    requests = [];
    api.remote.push = (asked, progress) => {
      requests.push(asked);
      return Promise.resolve(progress({ status: 'The push refers to repository [x]' }));
    };
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function push(
    target: string,
    { headers = ANONYMOUS, body, version = '1.56' }: { headers?: object; body?: string; version?: string } = {},
  ): Promise<Response> {
    const path = `/v${version}/images/${target}`;
    const sent = request(`http+unix://${encodeURIComponent(api.socket)}`)
      .post(path)
      .set({ ...headers });
    const response = await (body === undefined ? sent : sent.send(body)).buffer(true).parse((stream, done) => {
      let text = '';
      stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
      stream.on('end', () => done(null, text));
    });
    const text = response.body as string;
    contract?.check('POST', path, { status: response.status, headers: response.headers, text });
    return Object.assign(response, { text });
  }

  it('asks for the tag of the parameter, of the name, or for all', async () => {
    for (const [target, path, tag] of [
      ['team/app/push?tag=1', 'team/app', '1'],
      ['team/app:2/push?tag=1', 'team/app', '1'],
      ['team/app:2/push', 'team/app', '2'],
      ['docker.io/team/app/push', 'team/app', undefined],
    ] as const) {
      requests = [];
      assert.equal((await push(target)).status, 200);
      assert.deepEqual(
        requests.map(({ reference }) => reference),
        [{ registry: 'docker.io', path, tag, digest: undefined }],
      );
    }
  });

  it('takes a platform since 1.46', async () => {
    const target = `app/push?tag=1&platform=${encodeURIComponent('{"os":"linux","architecture":"arm64"}')}`;
    await push(target);
    await push(target, { version: '1.45' });
    assert.deepEqual(
      requests.map(({ platform }) => platform?.architecture),
      ['arm64', undefined],
    );
  });

  it('takes credentials in the header or in the body, and wants one of them', async () => {
    const account = { username: 'ann', password: 'secret' };
    const header = Buffer.from(JSON.stringify(account)).toString('base64url');
    await push('app/push?tag=1', { headers: { 'X-Registry-Auth': header } });
    await push('app/push?tag=1', { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(account) });
    await push('app/push?tag=1', { headers: { 'Content-Type': 'application/json' }, body: '{}' });
    await push('app/push?tag=1');
    assert.deepEqual(
      requests.map(({ credentials }) => credentials),
      [account, account, undefined, undefined],
    );
    for (const body of [undefined, 'x'.repeat(100_000)]) {
      const refused = await push('app/push?tag=1', { headers: {}, ...(body === undefined ? {} : { body }) });
      assert.equal(refused.status, 400);
      assert.match(refused.text, /missing X-Registry-Auth/);
    }
  });

  it('names the parameter that is wrong, and asks for nothing', async () => {
    for (const [target, message] of [
      ['App/push?tag=1', /parameter name: .* must be lowercase/],
      ['app/push?tag=no%20tag', /parameter tag: invalid tag format/],
      ['app/push?tag=1&platform=linux', /parameter platform: /],
    ] as const) {
      const response = await push(target);
      assert.equal(response.status, 400, target);
      assert.match(response.text, message);
    }
    assert.deepEqual(requests, []);
  });

  it('answers a failure before the first line with its status, and a later one with a last line', async () => {
    api.remote.push = () => Promise.reject(new LayerdError('not-found', 'tag does not exist: app:1'));
    assert.equal((await push('app/push?tag=1')).status, 404);
    api.remote.push = async (_request, progress) => {
      await progress({ status: 'The push refers to repository [x]' });
      throw new LayerdError('forbidden', 'denied: requested access to the resource is denied');
    };
    const response = await push('app/push?tag=1');
    assert.equal(response.status, 200);
    const [, last] = response.text.trim().split('\r\n');
    const message = 'denied: requested access to the resource is denied';
    assert.deepEqual(JSON.parse(last ?? ''), { errorDetail: { message }, error: message });
  });
});
