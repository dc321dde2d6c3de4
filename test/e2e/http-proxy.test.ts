import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeCertificate } from '../support/certificates.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { startForwardProxy, type ForwardProxy } from '../support/forward-proxy.ts';
import { bulk, image, push, type TestImage } from '../support/images.ts';
import { ADDRESS, NAME, Namespace, needsNamespace } from '../support/namespace.ts';
import { needs } from '../support/process.ts';
import { startRegistry } from '../support/registry.ts';
import { failed, succeeded } from '../support/stack.ts';

/** A name that only the proxy knows, so that whatever comes from there came through the proxy. */
const HIDDEN = 'hidden.test';
const SKIP = needs('docker', 'docker-registry', 'openssl') || needsNamespace();

describe('HTTPS_PROXY in the daemon’s environment', { skip: SKIP }, () => {
  const resources = new AsyncDisposableStack();
  let proxy: ForwardProxy;
  let daemon: Daemon;
  let pushed: TestImage;
  let port: string;

  before(async () => {
    const namespace = resources.use(await Namespace.start());
    // What is pushed here, the other serves.
    const open = resources.use(await startRegistry());
    pushed = await push(
      open.host,
      'team/app',
      '1',
      image({ layers: [await bulk('one', 300_000), await bulk('two', 10)] }),
    );
    const names = [HIDDEN, NAME].map((name) => `DNS:${name}`);
    const own = await makeCertificate(open.dir, 'server', { names });
    const storage = join(open.dir, 'storage');
    const secure = resources.use(await startRegistry({ namespace, storage, listen: `${ADDRESS}:0`, tls: own }));
    port = secure.host.split(':')[1] ?? '';
    for (const name of [HIDDEN, NAME]) {
      const folder = namespace.etc(`docker/certs.d/${name}:${port}`);
      await mkdir(folder);
      await copyFile(own.certificate, join(folder, 'ca.crt'));
    }
    proxy = resources.use(await startForwardProxy(namespace));
    // As the environment of a service has them; those of whoever runs the test do not count.
    const none = { HTTP_PROXY: undefined, http_proxy: undefined, https_proxy: undefined, no_proxy: undefined };
    const env = { ...none, HTTPS_PROXY: proxy.url, NO_PROXY: `localhost,${NAME}` };
    daemon = resources.use(await startDaemon({ namespace, env, args: ['--max-download-attempts', '2'] }));
  });
  after(() => resources.disposeAsync());

  it('is tunnelled through to the registry, and asked for nothing else', async () => {
    const output = succeeded(await daemon.docker('pull', `${HIDDEN}:${port}/team/app:1`));
    assert.match(output, new RegExp(pushed.digest));
    assert.deepEqual([...new Set(proxy.seen)], [`CONNECT ${HIDDEN}:${port}`]);
  });

  it('does not count for what NO_PROXY names', async () => {
    const before = proxy.seen.length;
    succeeded(await daemon.docker('pull', `${NAME}:${port}/team/app:1`));
    assert.equal(proxy.seen.length, before);
  });

  it('is named when it is the one that cannot be reached', async () => {
    await proxy.stop();
    const output = failed(await daemon.docker('pull', `${HIDDEN}:${port}/team/app:absent`));
    assert.ok(
      output.includes(`cannot reach ${HIDDEN}:${port} through the proxy ${proxy.url}: connection refused`),
      output,
    );
  });
});
