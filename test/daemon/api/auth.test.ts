import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request, { type Response } from 'supertest';
import type { Credentials } from '../../../src/daemon/registry/registry.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const ACCOUNT = { username: 'ann', password: 's3cret' };

describe('POST /auth', () => {
  let api: Fixture;
  let asked: { registry: string; credentials: Credentials | undefined }[];
  let identityToken: string | undefined;
  beforeEach(async () => {
    api = await Fixture.start();
    asked = [];
    identityToken = undefined;
    api.remote.logIn = (registry, { credentials }) => {
      asked.push({ registry, credentials });
      return Promise.resolve(identityToken);
    };
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function logIn(body: unknown, version = '1.56'): Promise<Response> {
    const path = `/v${version}/auth`;
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .post(path)
      .set('Content-Type', 'application/json')
      .send(typeof body === 'string' ? body : JSON.stringify(body));
    contract?.check('POST', path, { status: response.status, headers: response.headers, text: response.text });
    return response;
  }

  it('tries the account at the registry that the address names, Docker Hub where it names none', async () => {
    for (const [serveraddress, registry] of [
      [undefined, 'docker.io'],
      ['', 'docker.io'],
      ['https://index.docker.io/v1/', 'docker.io'],
      ['docker.io', 'docker.io'],
      ['registry.example.com:5000', 'registry.example.com:5000'],
      ['http://registry.example.com/v2/', 'registry.example.com'],
      ['[::1]:5000', '[::1]:5000'],
    ]) {
      asked = [];
      const response = await logIn({ ...ACCOUNT, serveraddress });
      assert.equal(response.status, 200);
      assert.deepEqual(response.body, { Status: 'Login Succeeded', IdentityToken: '' });
      assert.deepEqual(asked, [{ registry, credentials: ACCOUNT }]);
    }
  });

  it('answers with the identity token, and takes one', async () => {
    identityToken = 'refresh';
    for (const account of [ACCOUNT, { identitytoken: 'refresh' }, { username: 'ann', identitytoken: 'refresh' }]) {
      assert.deepEqual((await logIn(account)).body, { Status: 'Login Succeeded', IdentityToken: 'refresh' });
    }
    assert.deepEqual(asked.at(-1)?.credentials, { username: 'ann', identityToken: 'refresh' });
    const auth = Buffer.from('ann:s3cret').toString('base64');
    await logIn({ auth });
    assert.deepEqual(asked.at(-1)?.credentials, ACCOUNT);
  });

  it('refuses what is no account, naming the field, and asks nobody', async () => {
    for (const [body, message] of [
      ['', /the body is not an account/],
      ['{', /the body is not an account/],
      ['[]', /the body is not an account/],
      [JSON.stringify({ ...ACCOUNT, email: 'x'.repeat(100_000) }), /the body is not an account/],
      [{}, /field username: missing/],
      [{ password: 's3cret' }, /field username: missing/],
      [{ username: 'ann' }, /field password: missing/],
      [{ ...ACCOUNT, username: 7 }, /field username: expected a string/],
      [{ ...ACCOUNT, password: ['s3cret'] }, /field password: expected a string/],
      [{ ...ACCOUNT, serveraddress: {} }, /field serveraddress: expected a string/],
      [{ ...ACCOUNT, identitytoken: true }, /field identitytoken: expected a string/],
      [{ ...ACCOUNT, serveraddress: 'no host' }, /field serveraddress: .*no host.* is not the address of a registry/],
      [{ ...ACCOUNT, serveraddress: 'https://' }, /field serveraddress/],
      [{ ...ACCOUNT, serveraddress: 'host:port' }, /field serveraddress/],
    ] as const) {
      const response = await logIn(body);
      assert.equal(response.status, 400, response.text);
      assert.match(response.text, message);
      assert.doesNotMatch(response.text, /s3cret/);
    }
    assert.deepEqual(asked, []);
  });

  it('passes on why the registry refuses', async () => {
    for (const [kind, status] of [
      ['unauthorized', 401],
      ['forbidden', 403],
      ['unavailable', 503],
    ] as const) {
      api.remote.logIn = () => Promise.reject(new LayerdError(kind, 'unauthorized: authentication required'));
      const response = await logIn(ACCOUNT);
      assert.equal(response.status, status);
      assert.deepEqual(response.body, { message: 'unauthorized: authentication required' });
    }
  });

  it('leaves nothing of the account in the log', async () => {
    await logIn(ACCOUNT);
    await logIn({ ...ACCOUNT, serveraddress: 'no host' });
    assert.ok(api.lines.length > 0);
    assert.doesNotMatch(JSON.stringify(api.lines), /s3cret/);
  });
});
