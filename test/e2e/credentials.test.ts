import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { bulk, image, layer, push, type PushOptions } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { startProxy } from '../support/proxy.ts';
import { ACCOUNT, startRegistry } from '../support/registry.ts';
import { failed, startStack, succeeded, type Stack } from '../support/stack.ts';

/** Writes the client's credentials for the registry where the docker CLI looks for them. */
async function logIn(stack: Stack, password: string = ACCOUNT.password): Promise<void> {
  const auth = Buffer.from(`${ACCOUNT.username}:${password}`).toString('base64');
  const file = join(stack.daemon.env['DOCKER_CONFIG'] ?? '', 'config.json');
  await writeFile(file, JSON.stringify({ auths: { [stack.proxy.host]: { auth } } }));
}

describe('credentials', { skip: needs('docker', 'docker-registry', 'openssl') }, () => {
  it('by Basic authentication: right, wrong and missing', async () => {
    await using stack = await startStack({ registry: { htpasswd: true } });
    await stack.push('secret:1', image({ layers: [await layer([{ name: 'secret' }])] }), ACCOUNT);
    const pull = (): ReturnType<typeof stack.daemon.docker> => stack.daemon.docker('pull', stack.ref('secret:1'));
    assert.match(failed(await pull()), /unauthorized|authentication required|no basic auth/i);
    await logIn(stack, 'wrong');
    assert.match(failed(await pull()), /unauthorized|authentication required/i);
    await logIn(stack);
    succeeded(await pull());
    assert.ok(!stack.daemon.log.includes(ACCOUNT.password), 'the password is in the log');
  });

  it('by bearer token: for anybody, for the account, refused, and expired on the way', async () => {
    await using stack = await startStack({ registry: { tokenAuth: { anonymousPull: false } } });
    const { registry, proxy, daemon } = stack;
    // The registry asks for a token: push with one from its own server.
    const some = image({ layers: [await layer([{ name: 'one' }]), await bulk('two', 100_000)] });
    await using open = await startRegistry({ storage: join(registry.dir, 'storage') });

    await push(open.host, 'team/app', '1', some);

    assert.match(failed(await daemon.docker('pull', stack.ref('team/app:1'))), /unauthorized|wrong user name/i);
    await logIn(stack);
    // A token that the registry no longer takes when the blobs are fetched: a new one is asked for.
    const challenge = `Bearer realm="${registry.tokens?.realm ?? ''}",service="${registry.tokens?.service ?? ''}",scope="repository:team/app:pull",error="invalid_token"`;
    proxy.inject({ path: /blobs/, answer: { status: 401, headers: { 'WWW-Authenticate': challenge } }, times: 1 });
    succeeded(await daemon.docker('pull', stack.ref('team/app:1')));
    const granted = registry.tokens?.requests.filter((request) => request.granted) ?? [];
    assert.ok(
      granted.every(
        ({ account, scopes }) => account === ACCOUNT.username && scopes.includes('repository:team/app:pull'),
      ),
    );
    assert.equal(granted.length, 2, 'one token at first, one for the refused');
  });

  it('are not needed for what a token server gives to anybody', async () => {
    await using stack = await startStack({ registry: { tokenAuth: { expiresIn: 0 } } });
    await using open = await startRegistry({ storage: join(stack.registry.dir, 'storage') });

    await push(open.host, 'public', '1', image({ layers: [await layer([{ name: 'public' }])] }));
    succeeded(await stack.daemon.docker('pull', stack.ref('public:1')));
    assert.ok(stack.registry.tokens?.requests.every(({ account }) => account === undefined));
  });

  it('stay with the host they are for when it redirects to another', async () => {
    await using stack = await startStack({ registry: { htpasswd: true } });
    const big = await bulk('redirected', 100_000);
    await stack.push('app:1', image({ layers: [big] }), ACCOUNT);
    await using open = await startRegistry({ storage: join(stack.registry.dir, 'storage') });
    await using elsewhere = await startProxy(open);
    const location = `${elsewhere.url}/v2/app/blobs/${big.digest}`;
    stack.proxy.inject({ path: new RegExp(big.digest), answer: { status: 307, headers: { Location: location } } });
    await logIn(stack);
    succeeded(await stack.daemon.docker('pull', stack.ref('app:1')));
    assert.equal(elsewhere.blobRequests(big.digest).length, 1);
    assert.deepEqual(
      elsewhere.seen.map(({ authorization }) => authorization),
      [undefined],
    );
  });
});

describe('a registry with HTTPS', { skip: needs('docker', 'docker-registry', 'openssl') }, () => {
  it('on loopback is spoken to over TLS, whoever signed its certificate', async () => {
    await using registry = await startRegistry({ tls: true });
    await using stack = await startStack();

    const options: PushOptions = { ca: await readFile(registry.ca ?? '', 'utf8') };
    await push(registry.host, 'secure', '1', image({ layers: [await layer([{ name: 'secure' }])] }), options);
    succeeded(await stack.daemon.docker('pull', `${registry.host}/secure:1`));
  });
});
