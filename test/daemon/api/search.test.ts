import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request, { type Response } from 'supertest';
import type { FoundRepository } from '../../../src/daemon/registry/registry.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const FOUND: readonly FoundRepository[] = [
  { name: 'redis', description: 'a cache', official: true, stars: 12_000 },
  { name: 'team/redis', description: '', official: false, stars: 3 },
];

describe('GET /images/search', () => {
  let api: Fixture;
  let asked: unknown[];
  beforeEach(async () => {
    api = await Fixture.start();
    asked = [];
    api.remote.search = (registry, term, { limit, credentials }) => {
      asked.push([registry, term, limit, credentials?.username]);
      return Promise.resolve([...FOUND]);
    };
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function search(query: Record<string, string>, headers: object = {}): Promise<Response> {
    const path = `/v1.56/images/search?${new URLSearchParams(query).toString()}`;
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .get(path)
      .set({ ...headers });
    contract?.check('GET', path, { status: response.status, headers: response.headers, text: response.text });
    return response;
  }
  const names = async (filters: object): Promise<string[]> => {
    const response = await search({ term: 'redis', filters: JSON.stringify(filters) });
    return (response.body as { name: string }[]).map(({ name }) => name);
  };

  it('asks the registry that the term names, else Docker Hub, with the account', async () => {
    const account = Buffer.from('{"username":"ann","password":"s3cret"}').toString('base64url');
    const response = await search({ term: 'redis' }, { 'X-Registry-Auth': account });
    assert.deepEqual(response.body, [
      { name: 'redis', description: 'a cache', is_official: true, is_automated: false, star_count: 12_000 },
      { name: 'team/redis', description: '', is_official: false, is_automated: false, star_count: 3 },
    ]);
    for (const term of ['library/redis', 'docker.io/library/redis', 'team/redis', 'localhost/redis']) {
      await search({ term, limit: '100' });
    }
    await search({ term: 'registry.example.com:5000/', limit: '1' });
    await search({ term: 'registry.example.com/team/app' }, { 'X-Registry-Auth': 'garbage' });
    assert.deepEqual(asked, [
      ['docker.io', 'redis', 25, 'ann'],
      ['docker.io', 'redis', 100, undefined],
      ['docker.io', 'redis', 100, undefined],
      ['docker.io', 'team/redis', 100, undefined],
      ['localhost', 'redis', 100, undefined],
      ['registry.example.com:5000', '', 1, undefined],
      ['registry.example.com', 'team/app', 25, undefined],
    ]);
  });

  it('filters', async () => {
    assert.deepEqual(await names({ 'is-official': ['true'] }), ['redis']);
    assert.deepEqual(await names({ 'is-official': { false: true } }), ['team/redis']);
    assert.deepEqual(await names({ stars: ['2', '100'] }), ['redis']);
    assert.deepEqual(await names({ 'is-automated': ['false'] }), ['redis', 'team/redis']);
    asked = [];
    assert.deepEqual(await names({ 'is-automated': ['true'] }), []);
    assert.deepEqual(asked, []);
  });

  it('refuses what it cannot understand, naming it, and asks nobody', async () => {
    const filtered = (filters: object): Record<string, string> => ({ term: 'redis', filters: JSON.stringify(filters) });
    for (const [query, message] of [
      [{}, /parameter term: missing/],
      [{ term: ' ' }, /parameter term: missing/],
      [{ term: 'https://registry.example.com/redis' }, /parameter term: .* should not have a scheme/],
      [{ term: 'host:port/redis' }, /parameter term: .*host:port.* is not the address of a registry/],
      ...['0', '-1', '101', 'many', '1.5'].map(
        (limit) => [{ term: 'redis', limit }, /parameter limit: .* outside the range of \[1, 100\]/] as const,
      ),
      [filtered({ 'is-official': ['maybe'] }), /invalid filter 'is-official=\[maybe\]'/],
      [filtered({ 'is-automated': ['maybe'] }), /invalid filter 'is-automated=\[maybe\]'/],
      [filtered({ stars: ['many'] }), /invalid filter 'stars=\[many\]'/],
      [filtered({ stars: ['-1'] }), /invalid filter 'stars=\[-1\]'/],
      [filtered({ name: ['redis'] }), /invalid filter 'name'/],
      [{ term: 'redis', filters: '{' }, /invalid filter/],
    ] as const) {
      const response = await search(query);
      assert.equal(response.status, 400, JSON.stringify(query));
      assert.match(response.text, message);
    }
    assert.deepEqual(asked, []);
  });

  it('passes on why the registry refuses', async () => {
    api.remote.search = () => Promise.reject(new LayerdError('unavailable', 'registry.example.com cannot be searched'));
    assert.equal((await search({ term: 'registry.example.com/redis' })).status, 503);
  });
});
