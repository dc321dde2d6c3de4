import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { bulk, image, push, type TestImage } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { ACCOUNT, startRegistry, type Registry } from '../../support/registry.ts';
import { repositoryAt, serve, startClient, type Client } from './harness.ts';

const WRONG = { username: ACCOUNT.username, password: 'wrong' };

describe('logging in to a registry', { skip: needs('docker-registry') }, () => {
  let client: Client;
  beforeEach(() => {
    client = startClient();
  });
  afterEach(() => client[Symbol.asyncDispose]());

  const logIn = (host: string, credentials: object = ACCOUNT): Promise<string | undefined> =>
    client.registries.logIn(host, { credentials });

  it('with Basic authentication tries the account', async () => {
    await using registry = await startRegistry({ htpasswd: true });
    assert.equal(await logIn(registry.host), undefined);
    for (const credentials of [WRONG, { identityToken: 'some' }]) {
      await assert.rejects(logIn(registry.host, credentials), {
        kind: 'unauthorized',
        message: `login attempt to http://${registry.host}/v2/ failed with status 401: unauthorized: authentication required; check user name and password`,
      });
    }
  });

  it('without authentication takes any account', async () => {
    await using registry = await startRegistry();
    assert.equal(await logIn(registry.host, WRONG), undefined);
  });

  it('tells what is no registry', async () => {
    await using server = await serve((_request, response) => response.writeHead(404).end('no such page'));
    await assert.rejects(logIn(server.host), { kind: 'unavailable', message: /status 404: .*; is it a registry\?/ });
    await assert.rejects(logIn('not a host'), { kind: 'invalid', message: /not a registry's HOST or HOST:PORT/ });
  });

  it('keeps the account from hosts that the registry redirects to', async () => {
    await using other = await serve((_request, response) =>
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="mine"' }).end(),
    );
    await using registry = await serve((_request, response) =>
      response.writeHead(302, { Location: `${other.url}/v2/` }).end(),
    );
    await assert.rejects(logIn(registry.host), { kind: 'unauthorized' });
    assert.deepEqual(
      other.requests.map(({ headers }) => headers.authorization),
      [undefined],
    );
  });
});

for (const refreshTokens of ['oauth2', 'get', undefined] as const) {
  describe(
    `a token server that gives refresh tokens by ${refreshTokens ?? 'no means'}`,
    { skip: needs('docker-registry') },
    () => {
      let registry: Registry;
      let client: Client;
      let pushed: TestImage;
      before(async () => {
        // Whoever is anonymous gets a token, too: a wrong password must not.
        registry = await startRegistry({ tokenAuth: { refreshTokens } });
        await using open = await startRegistry({ storage: join(registry.dir, 'storage') });
        pushed = await push(open.host, 'team/app', '1', image({ layers: [await bulk('layer', 1000)] }));
      });
      after(() => registry.stop());
      beforeEach(() => {
        client = startClient();
        registry.tokens?.requests.splice(0);
      });
      afterEach(() => client[Symbol.asyncDispose]());

      it('gives one for the account, and tokens for it from then on', async () => {
        const { tokens } = registry;
        const identityToken = await client.registries.logIn(registry.host, { credentials: ACCOUNT });
        assert.equal(identityToken, refreshTokens === undefined ? undefined : tokens?.refreshToken);
        if (identityToken === undefined) return;
        assert.equal(await client.registries.logIn(registry.host, { credentials: { identityToken } }), identityToken);
        const credentials = { username: ACCOUNT.username, identityToken };
        const { digest } = await client.registries.resolve(repositoryAt(registry.host), '1', { credentials });
        assert.equal(digest, pushed.digest);
        const last = tokens?.requests.at(-1);
        assert.deepEqual(last, {
          scopes: ['repository:team/app:pull'],
          account: ACCOUNT.username,
          granted: true,
          grant: 'refresh_token',
        });
      });

      it('refuses a wrong password, also after a right one, and an identity token that is none', async () => {
        await client.registries.logIn(registry.host, { credentials: ACCOUNT });
        const wrong = refreshTokens === undefined ? [WRONG] : [WRONG, { identityToken: 'none' }];
        for (const credentials of wrong) {
          await assert.rejects(client.registries.logIn(registry.host, { credentials }), {
            kind: 'unauthorized',
            message: /wrong user name or password/,
          });
        }
      });
    },
  );
}
