import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { MediaType } from '../../src/protocol/media-types.ts';
import {
  artifact,
  attestation,
  digestOf,
  image,
  index,
  layer,
  LINUX_AMD64,
  LINUX_ARM64,
  type TestImage,
} from '../support/images.ts';
import { layerctlAt } from '../client/support.ts';
import { must, needs } from '../support/process.ts';
import { failed, linesOf, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

describe('layerctl manifest', { skip: needs('docker', 'docker-registry', 'skopeo') }, () => {
  let stack: Stack;
  let amd64: TestImage;
  let arm64: TestImage;
  let oci: TestImage;
  const layerctl = async (...args: string[]): Promise<string> =>
    succeeded(await layerctlAt(stack.daemon.env, ['manifest', ...args]));
  const refused = async (code: number, ...args: string[]): Promise<string> =>
    failed(await layerctlAt(stack.daemon.env, ['manifest', ...args]), code);
  const docker = async (...args: string[]): Promise<string> =>
    succeeded(await stack.daemon.docker('manifest', ...args));
  const raw = (name: string): Promise<string> =>
    must('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${stack.registry.host}/${name}`]);
  const drafts = async (): Promise<string[]> => {
    const directory = join(stack.daemon.dir, '.local/state/layerctl/manifests');
    return (await readdir(directory)).map((name) => join(directory, name));
  };
  const puts = (): string[] => stack.proxy.seen.filter(({ method }) => method === 'PUT').map(({ path }) => path);

  before(async () => {
    stack = await startStack();
    const base = await layer([{ name: 'base' }]);
    amd64 = await stack.push('team/amd:1', image({ layers: [base], platform: LINUX_AMD64 }));
    arm64 = await stack.push('team/arm:1', image({ layers: [await layer([{ name: 'arm' }])], platform: LINUX_ARM64 }));
    oci = await stack.push('team/oci:1', image({ layers: [base], format: 'oci', platform: LINUX_AMD64 }));
    await stack.push('team/both:1', index([amd64, arm64]));
  });
  after(() => stack.stop());
  beforeEach(() => stack.proxy.reset());

  it('makes of the same list, byte for byte, the index that docker makes', async () => {
    const [one, two] = [stack.ref('made/by-docker:1'), stack.ref('made/by-layerd:1')];
    const members = [stack.ref('team/arm:1'), stack.ref('team/amd:1'), stack.ref('team/oci:1')];
    const annotations = ['--variant', 'v8', '--os-features', 'x,y', '--os-features', 'z', '--os-version', '10.0'];
    const outputs: string[] = [];
    for (const [run, list] of [
      [docker, one],
      [layerctl, two],
    ] as const) {
      assert.equal(await run('create', '--insecure', list, ...members.slice(0, 2)), `Created manifest list ${list}\n`);
      await run('create', '--amend', '--insecure', list, members[2] ?? '');
      await run('annotate', list, members[0] ?? '', ...annotations);
      outputs.push(await run('inspect', list), await run('push', '--insecure', '--purge', list));
    }
    const [shownByDocker, pushedByDocker = '', shown, pushed = ''] = outputs;
    assert.deepEqual(JSON.parse(shown ?? ''), JSON.parse(shownByDocker ?? ''));
    assert.equal(await raw('made/by-layerd:1'), await raw('made/by-docker:1'));
    assert.deepEqual(linesOf(pushed.replaceAll('by-layerd', 'by-docker')).sort(), linesOf(pushedByDocker).sort());
    assert.equal(linesOf(pushed).at(-1), digestOf(await raw('made/by-layerd:1')));
    for (const { digest, bytes } of [amd64, arm64, oci]) {
      assert.equal(await raw(`made/by-layerd@${digest}`), bytes.toString());
    }
    assert.deepEqual(await drafts(), []);
    assert.ok(
      stack.proxy.seen.every(({ method }) => method !== 'PATCH'),
      'a blob was sent instead of mounted',
    );
    assert.deepEqual((await storeFiles(stack.daemon.dataRoot)).blobs, []);
  });

  it('makes an OCI index where the first manifest is OCI’s, as docker does', async () => {
    for (const [run, list] of [
      [docker, 'oci/list-d:1'],
      [layerctl, 'oci/list-l:1'],
    ] as const) {
      await run('create', '--insecure', stack.ref(list), stack.ref('team/oci:1'));
      await run('push', '--insecure', stack.ref(list));
    }
    assert.equal(await raw('oci/list-l:1'), await raw('oci/list-d:1'));
    assert.match(await raw('oci/list-l:1'), new RegExp(MediaType.ociIndex.replaceAll('+', '\\+')));
    await layerctl('rm', stack.ref('oci/list-l:1'));
  });

  it('shows a begun list, its manifests, and one of them', async () => {
    const list = stack.ref('shown:1');
    await layerctl('create', list, stack.ref('team/amd:1'), `${stack.ref('team/arm')}@${arm64.digest}`);
    const verbose = JSON.parse(await layerctl('inspect', '-v', list)) as { Ref: string; Descriptor: object }[];
    assert.deepEqual(
      verbose.map(({ Ref }) => Ref),
      [stack.ref('team/amd:1'), `${stack.ref('team/arm')}@${arm64.digest}`],
    );
    assert.deepEqual(
      JSON.parse(await layerctl('inspect', list, stack.ref('team/amd:1'))),
      JSON.parse(amd64.bytes.toString()),
    );
    assert.match(await refused(1, 'inspect', list, stack.ref('team/oci:1')), /No such manifest: \S+team\/oci:1 in /);
    await layerctl('rm', list);
  });

  it('refuses what docker refuses, and then changes nothing', async () => {
    const list = stack.ref('refusals:1');
    await layerctl('create', list, stack.ref('team/arm:1'));
    const [file = ''] = await drafts();
    const before = await readFile(file, 'utf8');
    const member = stack.ref('team/arm:1');
    for (const [code, args, message] of [
      [1, ['create', list, member], /refusing to amend an existing manifest list with no --amend flag/],
      [1, ['create', '-a', list, stack.ref('team/amd:1'), stack.ref('team/none:1')], /team\/none/],
      [1, ['create', '-a', list, stack.ref('team/both:1')], /team\/both:1 is a manifest list/],
      [2, ['create', '-a', list, 'elsewhere.example/app:1'], /from a different registry than the target image/],
      [2, ['create', list], /missing required argument/],
      [2, ['annotate', '--os', 'nonsense', list, member], /unsupported os\/arch combination: nonsense\/arm64/],
      [1, ['annotate', '--os', 'linux', list, stack.ref('team/amd:1')], /manifest for image \S+ does not exist in /],
      [1, ['push', stack.ref('unknown:1')], /No such manifest: \S+unknown:1/],
      [1, ['rm', stack.ref('unknown:1'), stack.ref('unknown:2')], /No such manifest: \S+unknown:1/],
    ] as const) {
      assert.match(await refused(code, ...args), message);
    }
    assert.equal(await readFile(file, 'utf8'), before);
    assert.deepEqual(await drafts(), [file]);
    assert.deepEqual(puts(), []);
    await writeFile(file, before.slice(0, 50));
    assert.match(await refused(1, 'push', list), /is damaged: forget it by/);
    await layerctl('rm', list);
    assert.deepEqual(await drafts(), []);
  });

  it('keeps lists in XDG_STATE_HOME, and asks for a platform before it pushes', async () => {
    const env = { XDG_STATE_HOME: join(stack.daemon.dir, 'state') };
    const run = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await layerctlAt({ ...stack.daemon.env, ...env }, ['manifest', ...args]);
      return code === 0 ? stdout : stderr;
    };
    await stack.push('team/artifact:1', artifact('application/x.sample'));
    const [list, member] = [stack.ref('stated:1'), stack.ref('team/artifact:1')];
    assert.match(await run('create', list, member), /Created manifest list/);
    assert.equal((await readdir(join(env.XDG_STATE_HOME, 'layerctl/manifests'))).length, 1);
    assert.match(await run('push', list), /must have an OS and Architecture to be pushed/);
    assert.equal(await run('annotate', '--os', 'linux', '--arch', 'riscv64', list, member), '');
    assert.match(await run('push', list), /^Pushed ref .*\nsha256:[0-9a-f]{64}\n$/);
    assert.match(await raw('stated:1'), /"riscv64"/);
  });

  describe('by PUT /layerd/manifests/{name}', () => {
    const put = async (
      name: string,
      document: string | Buffer,
      type: string = MediaType.ociIndex,
    ): Promise<{ status: number; message: string }> => {
      const answer = await stack.daemon.request(`/layerd/manifests/${stack.ref(name)}`, {
        method: 'PUT',
        headers: { 'Content-Type': type },
        body: document,
      });
      return { status: answer.status, message: answer.json<{ message?: string }>().message ?? answer.body };
    };

    it('puts a manifest and an index that are complete', async () => {
      await stack.push('put:1', amd64);
      assert.equal((await put('put:2', amd64.bytes, amd64.mediaType)).status, 201);
      assert.equal(await raw('put:2'), amd64.bytes.toString());
      const both = index([amd64, attestation(amd64)], { format: 'oci' });
      for (const child of both.children) await stack.push(`put:${child.platform?.os ?? ''}`, child);
      assert.equal((await put(`put@${both.digest}`, both.bytes)).status, 201);
      assert.equal(await raw(`put@${both.digest}`), both.bytes.toString());
    });

    it('refuses what is incomplete or wrong, and asks the registry to put nothing', async () => {
      await stack.push('wrong:1', amd64);
      const both = index([amd64, arm64], { format: 'oci' });
      const resized = JSON.parse(both.bytes.toString()) as { manifests: { size: number }[] };
      for (const child of resized.manifests) child.size += 1;
      const from = (name: string): string => `?from=${stack.ref(name)}`;
      for (const [name, document, type, status, message] of [
        [
          'wrong:2',
          both.bytes,
          MediaType.ociIndex,
          409,
          new RegExp(`lacks the manifest ${arm64.digest} \\(linux/arm64`),
        ],
        ['wrong:2', arm64.bytes, arm64.mediaType, 409, /lacks 2 blobs sha256:/],
        [`wrong:2${from(`team/amd@${arm64.digest}`)}`, both.bytes, MediaType.ociIndex, 404, /team\/amd/],
        [
          `wrong:2${from(`team/arm@${arm64.digest}`)}`,
          JSON.stringify(resized),
          MediaType.ociIndex,
          400,
          /the index says/,
        ],
        [`wrong:2${from(`team/oci@${oci.digest}`)}`, both.bytes, MediaType.ociIndex, 400, /does not list/],
        [`wrong:2${from('team/arm:1')}`, both.bytes, MediaType.ociIndex, 400, /parameter from: .* has no digest/],
        ['wrong:2?from=other.example/arm@' + arm64.digest, both.bytes, MediaType.ociIndex, 400, /different registry/],
        [`wrong@${arm64.digest}`, both.bytes, MediaType.ociIndex, 400, /the document's digest is/],
        ['wrong:2', both.bytes, 'application/json', 400, /unsupported media type application\/json/],
        ['wrong:2', both.bytes, MediaType.dockerIndex, 400, /is served as .* and calls itself/],
        ['wrong:2', both.bytes, MediaType.ociManifest, 400, /malformed/],
        ['wrong:2', 'no JSON', MediaType.ociIndex, 400, /not JSON/],
        ['wrong:2', '{"schemaVersion":1}', MediaType.dockerSchema1, 400, /unsupported media type|schema 1/],
        ['wrong:2', Buffer.alloc(4 * 1024 * 1024 + 1, ' '), MediaType.ociIndex, 400, /larger than the limit/],
      ] as const) {
        const answer = await put(name, document, type);
        assert.equal(answer.status, status, `${name} ${type}: ${answer.message}`);
        assert.match(answer.message, message);
      }
      assert.deepEqual(puts(), []);
      await assert.rejects(raw('wrong:2'));
    });
  });
});
