import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Manifest, Index } from '../../src/protocol/oci.ts';
import { image, index, layer, LINUX_AMD64, LINUX_ARM64, type TestImage } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { failed, startStack, succeeded, type Stack } from '../support/stack.ts';

describe('what a registry has', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let amd64: TestImage;
  let multi: TestImage;

  before(async () => {
    stack = await startStack();
    amd64 = image({ layers: [await layer([{ name: 'amd64' }])], platform: LINUX_AMD64 });
    const arm64 = image({ layers: [await layer([{ name: 'arm64' }])], platform: LINUX_ARM64 });
    multi = await stack.push('multi:1', index([amd64, arm64]));
    await stack.push('single:1', amd64);
  });
  after(() => stack.stop());

  it('is shown by docker manifest inspect', async () => {
    const inspect = ['manifest', 'inspect', '--insecure'];
    const single = succeeded(await stack.daemon.docker(...inspect, stack.ref('single:1')));
    assert.equal((JSON.parse(single) as Manifest).config.digest, amd64.id);
    const listed = JSON.parse(succeeded(await stack.daemon.docker(...inspect, stack.ref('multi:1')))) as Index;
    assert.deepEqual(
      listed.manifests.map(({ platform }) => platform?.architecture),
      ['amd64', 'arm64'],
    );
    const verbose = await stack.daemon.docker(...inspect, '--verbose', stack.ref('multi:1'));
    const entries = JSON.parse(succeeded(verbose)) as { Descriptor: { digest: string } }[];
    assert.equal(entries[0]?.Descriptor.digest, amd64.digest);
    assert.match(failed(await stack.daemon.docker(...inspect, stack.ref('absent:1'))), /no such manifest/);
  });

  it('is told by GET /distribution', async () => {
    const path = (name: string): string => `/v1.44/distribution/${stack.ref(name)}/json`;
    const single = await stack.daemon.request(path('single:1'));
    assert.equal(single.status, 200, single.body);
    assert.deepEqual(single.json<{ Descriptor: object }>().Descriptor, {
      mediaType: amd64.mediaType,
      digest: amd64.digest,
      size: amd64.bytes.length,
    });
    const listed = (await stack.daemon.request(path('multi:1'))).json<{
      Descriptor: { digest: string };
      Platforms: { architecture: string }[];
    }>();
    assert.equal(listed.Descriptor.digest, multi.digest);
    assert.deepEqual(
      listed.Platforms.map(({ architecture }) => architecture),
      ['amd64', 'arm64'],
    );
    const absent = await stack.daemon.request(path('absent:1'));
    assert.equal(absent.status, 404, absent.body);
  });
});
