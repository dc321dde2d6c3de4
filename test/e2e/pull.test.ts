import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { shortId } from '../../src/protocol/digest.ts';
import { HOST_PLATFORM, image, index, layer, LINUX_AMD64, LINUX_ARM64, type TestImage } from '../support/images.ts';
import { startDaemon } from '../support/daemon.ts';
import { needs } from '../support/process.ts';
import { failed, linesOf, startStack, succeeded, type Stack } from '../support/stack.ts';

const tiny = async (name: string): Promise<TestImage> =>
  image({ layers: [await layer([{ name: 'etc/' }, { name: 'etc/name', content: name }])] });

describe('docker pull', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  before(async () => {
    stack = await startStack();
  });
  after(() => stack.stop());

  it('prints what is known of it from dockerd, line by line', async () => {
    const base = await layer([{ name: 'base' }]);
    const top = await layer([{ name: 'top' }]);
    const pushed = await stack.push('lines:1', image({ layers: [base, top] }));
    const ref = stack.ref('lines:1');
    const first = linesOf(succeeded(await stack.daemon.docker('pull', ref)));
    assert.equal(first[0], '1: Pulling from lines');
    assert.deepEqual(first.slice(-3), [`Digest: ${pushed.digest}`, `Status: Downloaded newer image for ${ref}`, ref]);
    for (const { digest } of [base, top]) {
      const id = shortId(digest);
      const steps = first.filter((line) => line.startsWith(`${id}: `)).map((line) => line.slice(id.length + 2));
      assert.equal(steps[0], 'Pulling fs layer');
      assert.equal(steps.at(-1), 'Pull complete');
      assert.ok(steps.includes('Download complete'), steps.join('; '));
      assert.ok(!steps.includes('Waiting'), 'nothing waits where there are fewer layers than may be under way');
    }
  });

  it('says of an image that is already there that it is up to date, or what else it is called, and nothing of its layers', async () => {
    const pushed = await stack.push('present:1', await tiny('present'));
    const ref = stack.ref('present:1');
    succeeded(await stack.daemon.docker('pull', ref));
    stack.proxy.reset();
    const again = linesOf(succeeded(await stack.daemon.docker('pull', ref)));
    const digest = `Digest: ${pushed.digest}`;
    assert.deepEqual(again, ['1: Pulling from present', digest, `Status: Image is up to date for ${ref}`, ref]);
    for (const name of ['present:2', 'presence:1']) {
      await stack.push(name, await tiny('present'));
      const [repository, tag] = name.split(':');
      const other = linesOf(succeeded(await stack.daemon.docker('pull', stack.ref(name))));
      const status = `Status: Downloaded newer image for ${stack.ref(name)}`;
      assert.deepEqual(other, [`${tag}: Pulling from ${repository}`, digest, status, stack.ref(name)]);
    }
    assert.deepEqual(stack.proxy.blobRequests(), []);
  });

  it('moves a tag that was updated, and says which layers were there', async () => {
    const base = await layer([{ name: 'base', content: 'stays' }]);
    const old = await stack.push('updated:1', image({ layers: [base] }));
    const ref = stack.ref('updated:1');
    succeeded(await stack.daemon.docker('pull', ref));
    const fresh = await stack.push('updated:1', image({ layers: [base, await layer([{ name: 'new' }])] }));
    const lines = linesOf(succeeded(await stack.daemon.docker('pull', ref)));
    assert.ok(lines.includes(`${shortId(base.digest)}: Already exists`), lines.join('\n'));
    assert.ok(lines.includes(`Status: Downloaded newer image for ${ref}`), lines.join('\n'));
    const inspect = ['image', 'inspect', '--format', '{{.Id}} {{.RepoTags}}'];
    assert.equal(succeeded(await stack.daemon.docker(...inspect, ref)), `${fresh.id} [${ref}]\n`);
    // What the tag pointed to is still there, without it.
    assert.equal(succeeded(await stack.daemon.docker(...inspect, old.id)), `${old.id} []\n`);
    const dangling = ['images', '-q', '--no-trunc', '--filter', 'dangling=true'];
    assert.deepEqual(linesOf(succeeded(await stack.daemon.docker(...dangling))), [old.id]);
  });

  it('takes the tag latest when none is named, and says so', async () => {
    await stack.push('default:latest', await tiny('default'));
    const lines = linesOf(succeeded(await stack.daemon.docker('pull', stack.ref('default'))));
    assert.deepEqual(lines.slice(0, 2), ['Using default tag: latest', 'latest: Pulling from default']);
    assert.equal(lines.at(-1), stack.ref('default:latest'));
  });

  it('pulls by digest, and by digest with a tag', async () => {
    const pushed = await stack.push('by-digest:1', await tiny('by-digest'));
    const ref = stack.ref(`by-digest@${pushed.digest}`);
    const lines = linesOf(succeeded(await stack.daemon.docker('pull', ref)));
    assert.equal(lines[0], `${ref}: Pulling from by-digest`);
    assert.deepEqual(lines.slice(-3), [`Digest: ${pushed.digest}`, `Status: Downloaded newer image for ${ref}`, ref]);
    const inspected = await stack.daemon.docker('image', 'inspect', '--format', '{{.RepoTags}} {{.RepoDigests}}', ref);
    assert.equal(succeeded(inspected), `[] [${ref}]\n`);
    succeeded(await stack.daemon.docker('pull', stack.ref(`by-digest:anything@${pushed.digest}`)));
    // What the docker CLI sends of a tag with a digest is the digest alone; other clients send both.
    const both = stack.ref(`by-digest:anything@${pushed.digest}`);
    const path = `/images/create?fromImage=${encodeURIComponent(both)}`;
    const [begun] = await Array.fromAsync(stack.daemon.lines(path, { method: 'POST' }));
    assert.deepEqual(begun, { status: 'Pulling from by-digest', id: both });
  });

  it('prints only the reference with -q', async () => {
    await stack.push('quiet:1', await tiny('quiet'));
    const { code, stdout, stderr } = await stack.daemon.docker('pull', '-q', stack.ref('quiet:1'));
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: `${stack.ref('quiet:1')}\n`, stderr: '' });
  });

  it('pulls every tag of a repository with -a', async () => {
    const tags = ['one', 'three', 'two'];
    for (const tag of tags) await stack.push(`many:${tag}`, await tiny(tag));
    const lines = linesOf(succeeded(await stack.daemon.docker('pull', '-a', stack.ref('many'))));
    for (const tag of tags) assert.ok(lines.includes(`${tag}: Pulling from many`), lines.join('\n'));
    assert.deepEqual(lines.slice(-2), [`Status: Downloaded newer image for ${stack.ref('many')}`, stack.ref('many')]);
    const listed = await stack.daemon.docker('images', '--format', '{{.Tag}}', stack.ref('many'));
    assert.deepEqual(linesOf(succeeded(listed)).sort(), tags);
  });

  it('picks the platform that was asked for, and the host’s when none was', async () => {
    const of = async (name: string, platform: TestImage['platform']): Promise<TestImage> =>
      image({ layers: [await layer([{ name }])], format: 'oci', platform: platform ?? HOST_PLATFORM });
    const amd64 = await of('amd64', LINUX_AMD64);
    const arm64 = await of('arm64', LINUX_ARM64);
    const armv7 = await of('armv7', { os: 'linux', architecture: 'arm', variant: 'v7' });
    await stack.push('multi:1', index([amd64, arm64, armv7], { format: 'oci' }));
    const ref = stack.ref('multi:1');
    const arch = async (): Promise<string> =>
      succeeded(await stack.daemon.docker('image', 'inspect', '--format', '{{.Os}}/{{.Architecture}} {{.Id}}', ref));
    succeeded(await stack.daemon.docker('pull', ref));
    const own = process.arch === 'arm64' ? arm64 : amd64;
    assert.equal(await arch(), `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'} ${own.id}\n`);
    succeeded(await stack.daemon.docker('pull', '--platform', 'linux/arm/v7', ref));
    const inspected = await stack.daemon.docker('image', 'inspect', '--platform', 'linux/arm/v7', ref);
    const [found] = JSON.parse(succeeded(inspected)) as { Architecture: string; Variant: string }[];
    assert.deepEqual([found?.Architecture, found?.Variant], ['arm', 'v7']);
  });

  it('says which platforms there are when none fits', async () => {
    const only = image({
      layers: [await layer([{ name: 's390x' }])],
      platform: { os: 'linux', architecture: 's390x' },
    });
    await stack.push('elsewhere:1', index([only]));
    const output = failed(await stack.daemon.docker('pull', '--platform', 'linux/riscv64', stack.ref('elsewhere:1')));
    assert.match(output, /linux\/riscv64/);
    assert.match(output, /linux\/s390x/);
  });

  it('fails with exit code 1 and the registry’s reason for what is not there', async () => {
    const output = failed(await stack.daemon.docker('pull', stack.ref('absent:1')));
    assert.match(
      output,
      /^Error response from daemon: .*absent.*(not found|manifest unknown|repository name not known)/m,
    );
    const line = /INFO {2}a pull failed reference=\S+\/absent:1 reason=".*(not found|unknown|not known).*"/g;
    await stack.daemon.process.until('the failure in the log', () => stack.daemon.log.search(line) >= 0);
    assert.equal(stack.daemon.log.match(line)?.length, 1);
    await stack.push('half:1', await tiny('half'));
    assert.match(failed(await stack.daemon.docker('pull', stack.ref('half:2'))), /half:2.*not found|manifest unknown/);
  });

  it('fails when nothing listens at the registry', async () => {
    // Port 1 of loopback: no registry, and a refused connection at once.
    assert.match(failed(await stack.daemon.docker('pull', '127.0.0.1:1/nobody:1')), /127\.0\.0\.1:1/);
  });

  it('keeps the tag with what was resolved, though it moves while the pull is on its way', async () => {
    const old = await stack.push('moving:1', await tiny('moving, old'));
    let release = (): void => undefined;
    const until = new Promise<void>((resolve) => (release = resolve));
    stack.proxy.inject({ path: /\/v2\/moving\/blobs\//, until });
    const pulling = stack.daemon.docker('pull', stack.ref('moving:1'));
    await stack.proxy.until('a blob request', (seen) => seen.some(({ path }) => path.startsWith('/v2/moving/blobs/')));
    await stack.push('moving:1', await tiny('moving, new'));
    release();
    const lines = linesOf(succeeded(await pulling));
    assert.ok(lines.includes(`Digest: ${old.digest}`), lines.join('\n'));
    const inspected = await stack.daemon.docker('image', 'inspect', '--format', '{{.Id}}', stack.ref('moving:1'));
    assert.equal(succeeded(inspected), `${old.id}\n`);
  });
});

describe('docker version, info', { skip: needs('docker') }, () => {
  it('shows what the daemon is', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const version = await daemon.docker('version', '--format', '{{.Server.APIVersion}} {{.Server.MinAPIVersion}}');
    assert.match(succeeded(version), /^1\.\d+ 1\.12\n$/);
    succeeded(await daemon.docker('version'));
    const info = await daemon.docker('info', '--format', '{{.Driver}} {{.DockerRootDir}} {{.IndexServerAddress}}');
    assert.equal(succeeded(info), `erofs ${daemon.dataRoot} https://index.docker.io/v1/\n`);
    const all = succeeded(await daemon.docker('info'));
    assert.match(all, /Images: 0/);
    assert.match(all, /Integrity: SHA-256, read again every 720 h; fs-verity and dm-verity are not used/);
    assert.match(all, /Layer Mounts: (file-backed|loop devices|not possible)/);
    assert.match(all, /Layer Decompression: (isa-l|zlib)/);
  });

  it('warns of a listener without encryption', async () => {
    await using daemon = await startDaemon({ args: ['-H', 'tcp://127.0.0.1:0'] });
    const { stdout, stderr } = await daemon.docker('info');
    assert.match(stdout + stderr, /WARNING: API is accessible on tcp:\/\/127\.0\.0\.1:0 without encryption/);
  });
});
