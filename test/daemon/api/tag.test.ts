import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request from 'supertest';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

describe('POST /images/{name}/tag', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
    await api.fill();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  /** Sends the request, holds the answer to the definition, and returns its message. */
  async function tag(target: string, status: number): Promise<string> {
    const path = `/v1.56/images/${target}`;
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .post(path)
      .buffer(true);
    assert.equal(response.status, status, `${target}: ${response.text}`);
    contract?.check('POST', path, response);
    return response.text === '' ? '' : (JSON.parse(response.text) as { message: string }).message;
  }
  const targetOf = (name: string): string => api.store.store.resolve(name).target;

  it('takes repository and tag, together or apart', async () => {
    for (const [query, name] of [
      ['repo=app&tag=1', 'app:1'],
      ['repo=app:2', 'app:2'],
      ['repo=app:2&tag=3', 'app:3'],
      ['repo=localhost:5000/a/b', 'localhost:5000/a/b:latest'],
    ] as const) {
      assert.equal(await tag(`redis:7/tag?${query}`, 201), '');
      assert.equal(targetOf(name), targetOf('redis:7'));
    }
    await tag('localhost:5000/team/app:1.0/tag?repo=app&tag=1', 201);
    assert.equal(targetOf('app:1'), targetOf('localhost:5000/team/app:1.0'));
  });

  it('names the parameter that is wrong', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    for (const [target, status, message] of [
      ['redis:7/tag', 400, /^parameter repo: missing/],
      ['redis:7/tag?tag=1', 400, /^parameter repo: missing/],
      ['redis:7/tag?repo=App', 400, /^parameter repo: .* must be lowercase/],
      ['redis:7/tag?repo=a//b', 400, /^parameter repo: invalid reference format/],
      ['redis:7/tag?repo=app&tag=no%20tag', 400, /^parameter tag: invalid tag format/],
      [`redis:7/tag?repo=app&tag=${digest}`, 400, /^parameter tag: invalid tag format/],
      [`redis:7/tag?repo=app@${digest}`, 400, /digest reference/],
      [`redis:7/tag?repo=app@${digest}&tag=1`, 400, /digest reference/],
      ['redis:7/tag?repo=sha256&tag=1', 400, /digest algorithm/],
      ['redis:99/tag?repo=app', 404, /^No such image: redis:99$/],
      ['Redis/tag?repo=app', 400, /must be lowercase/],
    ] as const) {
      assert.match(await tag(target, status), message);
    }
    assert.throws(() => targetOf('app'), /No such image/);
  });
});
