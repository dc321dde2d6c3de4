import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { after, before, describe, it } from 'node:test';
import type { Manifest } from '../../src/protocol/oci.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { image, layer, push, type TestImage } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { startRegistry } from '../support/registry.ts';
import { assertStoreHolds, failed, linesOf, succeeded } from '../support/stack.ts';

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === '::1'),
);

describe(
  'a registry at an IPv6 address',
  { skip: hasIpv6 ? needs('docker-registry') : 'needs the address ::1' },
  () => {
    const resources = new AsyncDisposableStack();
    let daemon: Daemon;
    let pushed: TestImage;
    let ref: string;

    before(async () => {
      const registry = resources.use(await startRegistry({ listen: '[::1]:0' }));
      daemon = resources.use(await startDaemon());
      pushed = await push(registry.host, 'team/app', '1', image({ layers: [await layer([{ name: 'app' }])] }));
      ref = `${registry.host}/team/app:1`;
      assert.match(ref, /^\[::1\]:\d+\/team\/app:1$/);
    });
    after(() => resources.disposeAsync());

    for (const name of ['docker', 'layerctl'] as const) {
      it(`serves ${name}: pull, list, inspect, remove`, { skip: name === 'docker' && needs('docker') }, async () => {
        const run = async (...args: string[]): Promise<string> => succeeded(await daemon[name](...args));
        const repository = ref.replace(/:1$/, '');
        const byDigest = `${repository}@${pushed.digest}`;

        const lines = linesOf(await run('pull', ref));
        assert.deepEqual(lines.slice(-3), [
          `Digest: ${pushed.digest}`,
          `Status: Downloaded newer image for ${ref}`,
          ref,
        ]);
        assert.match(await run('pull', byDigest), /Image is up to date/);

        const format = ['--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}'];
        // In a pattern, brackets are a class of characters; those of an address are not.
        for (const pattern of [[], [ref], [repository], [repository.replace('app', '*')]]) {
          assert.equal(await run('images', ...format, ...pattern), `${ref} ${pushed.id}\n`, pattern.join());
        }

        const names = ['inspect', '--format', '{{.Id}} {{.RepoTags}} {{.RepoDigests}}'];
        for (const name of [ref, byDigest, pushed.id]) {
          assert.equal(await run(...names, name), `${pushed.id} [${ref}] [${byDigest}]\n`);
        }
        assert.match(await run('history', ref), /ADD layer 1/);

        assert.match(await run('rmi', ref), new RegExp(`Untagged: ${RegExp.escape(ref)}\n[^]*Deleted: ${pushed.id}`));
        assert.match(failed(await daemon[name]('inspect', ref)), /[Nn]o such (image|object): \[::1\]/);
        await assertStoreHolds(daemon.dataRoot);
      });
    }

    it('shows its manifests', async () => {
      const manifest = JSON.parse(succeeded(await daemon.layerctl('manifest', 'inspect', ref))) as Manifest;
      assert.equal(manifest.config.digest, pushed.id);
    });
  },
);
