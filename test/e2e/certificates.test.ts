import assert from 'node:assert/strict';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { makeCertificate, type KeyPair } from '../support/certificates.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { bulk, image, push, type TestImage } from '../support/images.ts';
import { ADDRESS, NAME, Namespace, needsNamespace } from '../support/namespace.ts';
import { needs } from '../support/process.ts';
import { startRegistry, type Registry } from '../support/registry.ts';
import { failed, succeeded } from '../support/stack.ts';

const SKIP = needs('docker', 'docker-registry', 'openssl') || needsNamespace();

describe('certs.d', { skip: SKIP }, () => {
  const resources = new AsyncDisposableStack();
  let namespace: Namespace;
  let authority: KeyPair;
  let client: KeyPair;
  let stranger: KeyPair;
  let daemon: Daemon;
  let pushed: TestImage;
  /** A registry at the port of https, and one that demands client certificates at another. */
  let standard: string;
  let demanding: string;

  before(async () => {
    namespace = resources.use(await Namespace.start());
    // What is pushed here, the others serve.
    const open = resources.use(await startRegistry());
    pushed = await push(open.host, 'team/app', '1', image({ layers: [await bulk('app', 10_000)] }));
    authority = await makeCertificate(open.dir, 'authority');
    client = await makeCertificate(open.dir, 'client', { authority });
    stranger = await makeCertificate(open.dir, 'stranger');
    const own = await makeCertificate(open.dir, 'server', { authority, names: [`DNS:${NAME}`] });
    const serve = async (port: number, clientCa?: string): Promise<Registry> =>
      resources.use(
        await startRegistry({
          namespace,
          storage: join(open.dir, 'storage'),
          listen: `${ADDRESS}:${port}`,
          tls: { ...own, ...(clientCa === undefined ? {} : { clientCa }) },
        }),
      );
    await serve(443);
    standard = NAME;
    demanding = (await serve(0, authority.certificate)).host.replace(ADDRESS, NAME);
    daemon = resources.use(await startDaemon({ namespace }));
  });
  after(() => resources.disposeAsync());
  afterEach(async () => {
    for (const host of [standard, demanding]) {
      await rm(folderOf(host), { recursive: true, force: true });
      await daemon.docker('rmi', `${host}/team/app:1`);
    }
  });

  const folderOf = (host: string): string => namespace.etc(`docker/certs.d/${host}`);
  const give = async (host: string, files: Readonly<Record<string, string>>): Promise<void> => {
    await mkdir(folderOf(host), { recursive: true });
    for (const [name, source] of Object.entries(files)) await copyFile(source, join(folderOf(host), name));
  };
  const pull = (host: string): ReturnType<Daemon['docker']> => daemon.docker('pull', `${host}/team/app:1`);
  const refused = async (host: string, message: string): Promise<void> => {
    assert.equal(failed(await pull(host)).trimEnd(), `Error response from daemon: ${message}`);
  };
  const unknown = (host: string): string =>
    `cannot verify ${host}: certificate signed by unknown authority; put the authority's certificate into certs.d/${host}/ca.crt`;

  it('makes a registry trusted by its authority, at once and for as long as the authority is there', async () => {
    await refused(standard, unknown(standard));
    await give(standard, { 'ca.crt': authority.certificate });
    assert.match(succeeded(await pull(standard)), new RegExp(pushed.digest));
    await rm(folderOf(standard), { recursive: true });
    await refused(standard, unknown(standard));
  });

  it('is by host and port: one registry’s authority does not vouch for another', async () => {
    const folder = `${standard}:443`;
    await give(folder, { 'ca.crt': authority.certificate });
    succeeded(await pull(standard));
    await refused(demanding, unknown(demanding));
    await rm(folderOf(folder), { recursive: true });
  });

  it('has the client certificate for a registry that demands one', async () => {
    const wanting = `${demanding} demands a client certificate that it trusts; put it into certs.d/${demanding}/client.cert and its key beside it into client.key`;
    await give(demanding, { 'ca.crt': authority.certificate });
    await refused(demanding, wanting);
    await give(demanding, { 'client.cert': stranger.certificate, 'client.key': stranger.key });
    await refused(demanding, wanting);
    await give(demanding, { 'client.cert': client.certificate, 'client.key': client.key });
    assert.match(succeeded(await pull(demanding)), new RegExp(pushed.digest));
  });

  it('is told of by name when it has half of a pair, or what does not fit', async () => {
    await give(demanding, { 'ca.crt': authority.certificate, 'client.cert': client.certificate });
    const file = `/etc/docker/certs.d/${demanding}/client.cert`;
    await refused(
      demanding,
      `missing key client.key for client certificate ${file}. CA certificates must use the extension .crt`,
    );
    await give(demanding, { 'client.key': stranger.key });
    assert.match(failed(await pull(demanding)), new RegExp(`the certificates for ${demanding} cannot be used: `));
  });
});
