import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Platform } from '../../src/protocol/oci.ts';
import {
  artifact,
  attestation,
  HOST_PLATFORM,
  image,
  index,
  layer,
  LINUX_AMD64,
  LINUX_ARM64,
  type TestImage,
} from '../support/images.ts';
import { layerctlAt } from '../client/support.ts';
import { needs, type Outcome } from '../support/process.ts';
import { assertStoreHolds, failed, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

const ARM: Platform = { os: 'linux', architecture: 'arm', variant: 'v7' };
const S390X: Platform = { os: 'linux', architecture: 's390x' };
const FOREIGN = HOST_PLATFORM === LINUX_AMD64 ? LINUX_ARM64 : LINUX_AMD64;
const nameOf = ({ os, architecture }: Platform): string => `${os}/${architecture}`;

describe('platforms of one image', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let own: TestImage;
  let foreign: TestImage;
  let s390x: TestImage;
  let statements: TestImage[];
  let multi: TestImage;
  let ref: string;
  type Client = 'docker' | 'layerctl';
  const run = (client: Client, args: readonly string[]): Promise<Outcome> =>
    client === 'docker' ? stack.daemon.docker(...args) : layerctlAt(stack.daemon.env, args);
  const ok = async (client: Client, ...args: string[]): Promise<string> => succeeded(await run(client, args));
  const no = async (client: Client, code: number, ...args: string[]): Promise<string> =>
    failed(await run(client, args), code);
  const blobs = async (): Promise<string[]> => (await storeFiles(stack.daemon.dataRoot)).blobs;
  const idFor = (client: Client, platform: Platform, name = ref): Promise<string> =>
    ok(client, 'image', 'inspect', '--platform', nameOf(platform), '--format', '{{.Id}}', name);

  before(async () => {
    own = image({ layers: [await layer([{ name: 'own' }])], format: 'oci', platform: HOST_PLATFORM });
    foreign = image({ layers: [await layer([{ name: 'foreign' }])], format: 'oci', platform: FOREIGN });
    s390x = image({ layers: [await layer([{ name: 's390x' }])], format: 'oci', platform: S390X });
    statements = [own, foreign].map(attestation);
    multi = index([own, foreign, s390x, ...statements], { format: 'oci' });
  });
  beforeEach(async () => {
    stack = await startStack();
    await stack.push('multi:1', multi);
    ref = stack.ref('multi:1');
  });
  afterEach(() => stack.stop());

  for (const client of ['docker', 'layerctl'] as const) {
    it(`are kept side by side, and each acted on alone, by ${client}`, async () => {
      const other = nameOf(FOREIGN);
      await ok(client, 'pull', '-q', ref);
      await ok(client, 'pull', '-q', '--platform', other, ref);
      assert.equal(await idFor(client, HOST_PLATFORM), `${own.id}\n`);
      assert.equal(await idFor(client, FOREIGN), `${foreign.id}\n`);
      const history = await ok(client, 'history', '--no-trunc', '-q', '--platform', other, ref);
      assert.match(history, new RegExp(foreign.id));

      const [one, both] = [join(stack.daemon.dir, 'one.tar'), join(stack.daemon.dir, 'both.tar')];
      await ok(client, 'save', '--platform', other, '-o', one, ref);
      await ok(client, 'save', '-o', both, ref);
      for (const args of [
        ['image', 'inspect', '--platform', 'linux/s390x', ref],
        ['push', '--platform', 'linux/s390x', ref],
        ['rmi', '--platform', 'linux/s390x', ref],
      ]) {
        assert.match(await no(client, 1, ...args), /does not provide the specified platform \(linux\/s390x\)/);
      }
      assert.match(await no(client, client === 'docker' ? 1 : 2, 'rmi', '--platform', 'a/b/c/d', ref), /platform/);

      await ok(client, 'rmi', '--platform', other, ref);
      assert.equal(await idFor(client, HOST_PLATFORM), `${own.id}\n`);
      const left = await blobs();
      for (const { digest } of [foreign, ...foreign.blobs, statements[1] ?? foreign]) assert.ok(!left.includes(digest));
      for (const { digest } of [own, ...own.blobs, statements[0] ?? own]) assert.ok(left.includes(digest));
      await ok(client, 'rmi', ref);
      await assertStoreHolds(stack.daemon.dataRoot);

      await ok(client, 'load', '-q', '-i', one);
      assert.equal(await idFor(client, FOREIGN), `${foreign.id}\n`);
      await ok(client, 'rmi', ref);
      await ok(client, 'load', '-q', '--platform', other, '-i', both);
      assert.equal(await idFor(client, FOREIGN), `${foreign.id}\n`);
      assert.match(
        await no(client, 1, 'image', 'inspect', '--platform', nameOf(HOST_PLATFORM), ref),
        /does not provide the specified platform/,
      );
      await ok(client, 'push', '--platform', other, ref);
    });
  }

  it('are refused by every verb where they are not stored or malformed, and nothing is changed', async () => {
    await ok('docker', 'pull', '-q', ref);
    const before = await storeFiles(stack.daemon.dataRoot);
    const archive = await stack.daemon.open(`/images/${ref}/get`);
    const chunks: Buffer[] = [];
    for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk);
    const headers = { 'X-Registry-Auth': 'e30=' };
    const body = Buffer.concat(chunks);
    stack.proxy.reset();
    for (const [method, path, options] of [
      ['GET', `/images/${ref}/json?platform=`, {}],
      ['GET', `/images/${ref}/history?platform=`, {}],
      ['GET', `/images/${ref}/get?platform=`, {}],
      ['DELETE', `/images/${ref}?platforms=`, {}],
      ['POST', `/images/${stack.ref('multi')}/push?tag=1&platform=`, { headers }],
      ['POST', '/images/load?platform=', { body }],
    ] as const) {
      const ask = async (platform: string): Promise<[number, string]> => {
        const answer = await stack.daemon.request(path + encodeURIComponent(platform), { method, ...options });
        return [answer.status, answer.body];
      };
      const [status, text] = await ask(JSON.stringify(S390X));
      assert.match(text, /s390x/, path);
      assert.equal(status, 404, `${path}: ${text}`);
      for (const malformed of ['linux/arm64', '{"os":"linux"}', '[]', '7']) {
        const [code, message] = await ask(malformed);
        assert.equal(code, 400, `${path}: ${message}`);
        assert.match(message, /parameter platforms?: failed to parse platform/);
      }
    }
    assert.deepEqual(await storeFiles(stack.daemon.dataRoot), before);
    assert.deepEqual(stack.proxy.seen, []);
  });

  it('are all pulled by --all-platforms, listed, and pushed as one', async () => {
    await stack.push('all:1', index([multi, artifact('application/x.sample')], { format: 'oci' }));
    const all = stack.ref('all:1');
    stack.proxy.reset();
    assert.match(await ok('layerctl', 'pull', '--all-platforms', all), /Downloaded newer image/);
    assert.equal(new Set(stack.proxy.blobRequests().map(({ path }) => path)).size, stack.proxy.blobRequests().length);
    for (const platform of [HOST_PLATFORM, FOREIGN, S390X]) {
      const tree = await ok('layerctl', 'images', '--tree');
      assert.match(tree, new RegExp(`─ ${nameOf(platform)}`));
      assert.match(await ok('docker', 'images', '--tree'), new RegExp(`─ ${nameOf(platform)}`));
    }
    assert.match(await ok('layerctl', 'pull', '--all-platforms', all), /Image is up to date/);
    await ok('layerctl', 'tag', all, stack.ref('elsewhere:1'));
    await ok('layerctl', 'push', '-q', stack.ref('elsewhere:1'));
    const pushed = stack.proxy.seen.filter(({ method, path }) => method === 'PUT' && path.includes('/manifests/'));
    assert.ok(pushed.length > 0 && pushed.every(({ status }) => status === 201));
    await ok('layerctl', 'rmi', stack.ref('elsewhere:1'), all);
    await assertStoreHolds(stack.daemon.dataRoot);
    await ok('layerctl', 'pull', '-q', '--all-platforms', ref);
    await assertStoreHolds(stack.daemon.dataRoot, multi);
  });

  it('are all pulled where none is the host’s; and one that fails fails all', async () => {
    const arm = image({ layers: [await layer([{ name: 'arm' }])], format: 'oci', platform: ARM });
    const strange = await stack.push('strange:1', index([s390x, arm], { format: 'oci' }));
    await ok('layerctl', 'pull', '-q', '--all-platforms', stack.ref('strange:1'));
    await assertStoreHolds(stack.daemon.dataRoot, strange);
    await ok('layerctl', 'rmi', stack.ref('strange:1'));
    const broken = image({
      layers: [await layer([{ name: 'broken' }])],
      format: 'oci',
      platform: ARM,
      config: { rootfs: { type: 'layers', diff_ids: [own.digest] } },
    });
    await stack.push('broken:1', index([own, broken], { format: 'oci' }));
    assert.match(await no('layerctl', 1, 'pull', '--all-platforms', stack.ref('broken:1')), /the image is broken/);
    await assertStoreHolds(stack.daemon.dataRoot);
    const both = ['pull', '--all-platforms', '--platform', 'linux/arm64', ref];
    assert.match(await no('layerctl', 2, ...both), /--all-platforms and --platform exclude each other/);
  });

  it('of which several and none for the host are here are not pushed as one', async () => {
    await stack.push('incomplete:1', index([own, foreign, s390x], { format: 'oci' }));
    const name = stack.ref('incomplete:1');
    for (const platform of [FOREIGN, S390X]) await ok('docker', 'pull', '-q', '--platform', nameOf(platform), name);
    const target = stack.ref('target:1');
    await ok('docker', 'tag', name, target);
    stack.proxy.reset();
    for (const client of ['docker', 'layerctl'] as const) {
      const output = await no(client, 1, 'push', target);
      assert.match(output, new RegExp(`missing is ${nameOf(HOST_PLATFORM)}`));
      assert.match(output, /choose a platform to push/);
    }
    assert.ok(stack.proxy.seen.every(({ method }) => method === 'HEAD'));
    await ok('layerctl', 'push', '--platform', 'linux/s390x', target);
  });
});
