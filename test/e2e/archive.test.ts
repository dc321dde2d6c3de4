import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { text } from 'node:stream/consumers';
import Docker from 'dockerode';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import {
  bulk,
  HOST_PLATFORM,
  image,
  layer,
  LINUX_ARM64,
  index,
  ociArchive,
  tarOf,
  type TestImage,
} from '../support/images.ts';
import { must, needs, Running, scratch, type Scratch } from '../support/process.ts';
import { failed, linesOf, startStack, storeFiles, succeeded, type Stack } from '../support/stack.ts';

const MIB = 1024 * 1024;

describe('archives', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let daemon: Daemon;
  let folder: Scratch;
  let made: TestImage;
  let ref: string;
  const file = (name: string): string => join(folder.path, name);
  const idOf = async (name: string, engine = daemon): Promise<string> =>
    succeeded(await engine.docker('image', 'inspect', '--format', '{{.Id}}', name)).trim();

  before(async () => {
    stack = await startStack();
    ({ daemon } = stack);
    folder = await scratch('archive');
    made = image({ layers: [await bulk('below', MIB), await layer([{ name: 'top' }], { compression: 'none' })] });
    await stack.push('saved:1', made);
    ref = stack.ref('saved:1');
    succeeded(await daemon.docker('pull', ref));
    succeeded(await daemon.docker('save', '-o', file('layerd.tar'), ref));
  });
  after(async () => {
    await folder[Symbol.asyncDispose]();
    await stack.stop();
  });

  it('that docker saved are loaded by another daemon with the same IDs and digests', async () => {
    await using other = await startDaemon();
    assert.equal(succeeded(await other.docker('load', '-i', file('layerd.tar'))), `Loaded image: ${ref}\n`);
    assert.equal(await idOf(ref, other), made.id);
    succeeded(await other.docker('save', '-o', file('again.tar'), ref));
    await must('cmp', [file('layerd.tar'), file('again.tar')]);
    const stored = await storeFiles(other.dataRoot);
    assert.deepEqual(stored.layers, made.layers.map(({ diffId }) => diffId as string).sort());
    assert.deepEqual(stored.blobs, [made, ...made.blobs].map(({ digest }) => digest as string).sort());
    assert.deepEqual(await readdir(join(other.dataRoot, 'staging')), []);
  });

  it('are streamed by docker through a pipe, several images, one platform', async () => {
    await using other = await startDaemon();
    const arm = image({ layers: made.layers, format: 'oci', platform: LINUX_ARM64 });
    const own = image({ layers: made.layers, format: 'oci', platform: HOST_PLATFORM });
    await stack.push('multi:1', index([own, arm], { format: 'oci' }));
    const multi = stack.ref('multi:1');
    for (const platform of [[], ['--platform', 'linux/arm64']])
      succeeded(await daemon.docker('pull', ...platform, multi));
    const pipe = 'docker save "$1" "$2" | gzip | docker -H "$3" load -q';
    const piped = await daemon.run('bash', ['-ceo', 'pipefail', pipe, '-', ref, multi, `unix://${other.socket}`]);
    assert.deepEqual(linesOf(succeeded(piped)).sort(), [`Loaded image: ${multi}`, `Loaded image: ${ref}`]);
    succeeded(await other.docker('rmi', '-f', multi));
    succeeded(await daemon.docker('save', '--platform', 'linux/arm64', '-o', file('arm.tar'), multi));
    succeeded(await other.docker('load', '-i', file('arm.tar')));
    assert.equal(await idOf(multi, other), arm.id);
  });

  it('come and go with layerctl', async () => {
    await using other = await startDaemon();
    const target = file('layerctl.tar');
    assert.equal(succeeded(await daemon.layerctl('save', '-o', target, ref)), '');
    await must('cmp', [target, file('layerd.tar')]);
    assert.equal((await stat(target)).mode & 0o777, 0o600);
    assert.equal(succeeded(await other.layerctl('load', '-i', target)), `Loaded image: ${ref}\n`);
    assert.equal(await idOf(ref, other), made.id);
    const pipe = 'bin/layerctl save "$1" | bin/layerctl -H "$2" load';
    const piped = await daemon.run('bash', ['-ceo', 'pipefail', pipe, '-', made.id, `unix://${other.socket}`]);
    assert.equal(succeeded(piped), `Loaded image ID: ${made.id}\n`);
    assert.match(failed(await daemon.layerctl('save', '-o', target, 'nothing:here')), /No such image: nothing:here/);
    await must('cmp', [target, file('layerd.tar')]);
    await writeFile(file('bad.tar'), 'not an archive');
    assert.match(failed(await other.layerctl('load', '-i', file('bad.tar'))), /cannot load the archive/);
    assert.match(failed(await other.layerctl('load', '-i', file('absent.tar'))), /cannot read .*absent\.tar/);
  });

  it('are written to no terminal', { skip: needs('script') }, async () => {
    const { code, stdout } = await daemon.run('script', ['-qec', `bin/layerctl save ${ref}`, '/dev/null'], {
      env: { TERM: 'xterm' },
    });
    assert.equal(code, 2, stdout);
    assert.match(stdout, /not for a terminal/);
  });

  it('come and go with dockerode', async () => {
    await using other = await startDaemon();
    const source = new Docker({ socketPath: daemon.socket });
    const archive = await source.getImage(ref).get();
    const answer = await new Docker({ socketPath: other.socket }).loadImage(archive, { quiet: false });
    const lines = linesOf(await text(answer)).map((line) => JSON.parse(line) as { stream?: string; status?: string });
    assert.ok(lines.some(({ status }) => status === 'Loading layer'));
    assert.deepEqual(lines.at(-1), { stream: `Loaded image: ${ref}\n` });
  });

  it('are exchanged with skopeo in every form', { skip: needs('skopeo') }, async () => {
    const copy = (...args: string[]): Promise<string> =>
      must('skopeo', ['--insecure-policy', 'copy', '--quiet', ...args]);
    const host = `unix://${daemon.socket}`;
    await mkdir(file('layout'));
    await must('tar', ['-xf', file('layerd.tar'), '-C', file('layout')]);
    for (const [name, source] of [
      ['one', [`docker-archive:${file('layerd.tar')}`]],
      ['two', [`oci-archive:${file('layerd.tar')}`]],
      ['three', [`oci:${file('layout')}`]],
      ['four', ['--src-daemon-host', host, `docker-daemon:${ref}`]],
    ] as const) {
      await copy(...source, `docker-archive:${file(`${name}.tar`)}:from/${name}:1`);
      assert.equal(succeeded(await daemon.docker('load', '-i', file(`${name}.tar`))), `Loaded image: from/${name}:1\n`);
      assert.equal(await idOf(`from/${name}:1`), made.id);
    }
    await copy('--dest-daemon-host', host, `docker-archive:${file('one.tar')}`, 'docker-daemon:pushed/by-skopeo:1');
    assert.equal(await idOf('pushed/by-skopeo:1'), made.id);
    const own = image({ layers: made.layers, format: 'oci', config: { author: 'oci' } });
    await writeFile(file('oci.tar'), await ociArchive(own));
    await copy(`oci-archive:${file('oci.tar')}`, `oci-archive:${file('oci-again.tar')}:named/oci:1`);
    assert.equal(succeeded(await daemon.docker('load', '-i', file('oci-again.tar'))), 'Loaded image: named/oci:1\n');
    assert.equal(await idOf('named/oci:1'), own.id);
  });

  it('are exchanged with podman in both formats', { skip: needs('podman', 'root') }, async () => {
    await using storage = await scratch('podman');
    const places = ['--root', join(storage.path, 'root'), '--runroot', join(storage.path, 'run')];
    const podman = (...args: string[]): Promise<string> =>
      must('podman', [...places, '--storage-driver', 'vfs', ...args]);
    assert.match(await podman('load', '-i', file('layerd.tar')), new RegExp(`Loaded image: ${ref}`));
    assert.equal((await podman('images', '--no-trunc', '--format', '{{.ID}}')).trim(), made.id);
    await podman('save', '--format', 'docker-archive', '-o', file('podman.tar'), ref);
    assert.equal(succeeded(await daemon.docker('load', '-i', file('podman.tar'))), `Loaded image: ${ref}\n`);
    assert.equal(await idOf(ref), made.id);
    await podman('save', '--format', 'oci-archive', '-o', file('podman-oci.tar'), ref);
    const loaded = succeeded(await daemon.docker('load', '-i', file('podman-oci.tar')));
    // podman makes an OCI config of docker's, which is another image to everybody.
    assert.match(loaded, new RegExp(`Loaded image: ${ref}\n$`));
    await podman('rmi', '--all', '--force');
    assert.match(await podman('load', '-i', file('podman-oci.tar')), /Loaded image/);
    assert.equal((await podman('images', '--no-trunc', '--format', '{{.ID}}')).trim(), await idOf(ref));
  });

  it('of buildah are loaded', { skip: needs('buildah', 'root') }, async () => {
    await using storage = await scratch('buildah');
    const places = [
      '--root',
      join(storage.path, 'root'),
      '--runroot',
      join(storage.path, 'run'),
      '--storage-driver',
      'vfs',
    ];
    const buildah = async (...args: string[]): Promise<string> => (await must('buildah', [...places, ...args])).trim();
    const container = await buildah('from', 'scratch');
    await buildah('add', container, file('layerd.tar'), '/opt');
    const id = await buildah('commit', '--quiet', container, 'built');
    for (const form of ['docker-archive', 'oci-archive']) {
      await buildah('push', '--quiet', id, `${form}:${file(`${form}.tar`)}:buildah/${form}:1`);
      succeeded(await daemon.docker('load', '-i', file(`${form}.tar`)));
      assert.match(await idOf(`buildah/${form}:1`), /^sha256:/);
    }
  });

  it('are exchanged with dockerd', { skip: needs('dockerd', 'root') }, async (t) => {
    await using place = await scratch('dockerd');
    const socket = join(place.path, 'sock');
    const places = ['data-root', 'exec-root', 'pidfile'].flatMap((flag) => [`--${flag}`, join(place.path, flag)]);
    await using dockerd = new Running('dockerd', [
      '--bridge=none',
      '--iptables=false',
      '-H',
      `unix://${socket}`,
      ...places,
    ]);
    try {
      await dockerd.until('dockerd', ({ stderr }) => stderr.includes('API listen on'), 60_000);
    } catch (error) {
      t.skip(`dockerd does not start here: ${String(error).slice(0, 300)}`);
      return;
    }
    try {
      const docker = (...args: string[]): Promise<string> => must('docker', ['-H', `unix://${socket}`, ...args]);
      assert.match(await docker('load', '-q', '-i', file('layerd.tar')), new RegExp(`Loaded image: ${ref}`));
      assert.equal((await docker('image', 'inspect', '--format', '{{.Id}}', ref)).trim(), made.id);
      // The same layer twice is a link in an archive of an old dockerd.
      const twice = image({ layers: [made.layers, made.layers].flat(), config: { author: 'twice' } });
      await writeFile(file('twice.tar'), await ociArchive(twice, 'twice:1'));
      succeeded(await daemon.docker('load', '-i', file('twice.tar')));
      succeeded(await daemon.docker('save', '-o', file('twice.tar'), 'twice:1'));
      await docker('load', '-i', file('twice.tar'));
      await docker('save', '-o', file('dockerd.tar'), ref, 'twice:1');
      await using other = await startDaemon();
      const loaded = linesOf(succeeded(await other.docker('load', '-i', file('dockerd.tar'))));
      assert.deepEqual(loaded.sort(), [`Loaded image: ${ref}`, 'Loaded image: twice:1'].sort());
      assert.equal(await idOf(ref, other), made.id);
      assert.equal(await idOf('twice:1', other), twice.id);
    } finally {
      // A SIGTERM lets it end its containerd too.
      await dockerd.kill('SIGTERM');
    }
  });

  it('that are hostile get a 4xx with the reason, however much of them is still to come', async () => {
    await using other = await startDaemon();
    const evil = await tarOf([{ name: '../evil', content: 'x' }]);
    const body = Buffer.concat([evil, Buffer.alloc(8 * MIB)]);
    const answer = await other.request('/v1.50/images/load?quiet=1', { method: 'POST', body });
    assert.equal(answer.status, 400);
    assert.match(answer.json<{ message: string }>().message, /"\.\.\/evil" leads out of it/);
    await writeFile(file('evil.tar'), body);
    assert.match(failed(await other.docker('load', '-i', file('evil.tar'))), /leads out of it/);
    assert.match(failed(await other.layerctl('load', '-i', file('evil.tar'))), /leads out of it/);
  });

  it('of a client that stops halfway leave nothing', async () => {
    await using other = await startDaemon();
    const { size } = await stat(file('layerd.tar'));
    const request = httpRequest({ socketPath: other.socket, path: '/images/load', method: 'POST' });
    request.on('error', () => undefined);
    for await (const chunk of createReadStream(file('layerd.tar'), { end: Math.floor(size / 2) })) request.write(chunk);
    while ((await readdir(join(other.dataRoot, 'staging'))).length === 0)
      await new Promise((resolve) => setTimeout(resolve, 10));
    request.destroy();
    while ((await readdir(join(other.dataRoot, 'staging'))).length > 0)
      await new Promise((resolve) => setTimeout(resolve, 10));
    const { trash: _, ...stored } = await storeFiles(other.dataRoot);
    assert.deepEqual(stored, { blobs: [], layers: [], ingests: [] });
    assert.equal(succeeded(await other.docker('images', '-aq')), '');
    assert.equal(succeeded(await other.docker('load', '-q', '-i', file('layerd.tar'))), `Loaded image: ${ref}\n`);
  });
});

describe('imports', { skip: needs('docker') }, () => {
  let daemon: Daemon;
  let folder: Scratch;
  const file = (name: string): string => join(folder.path, name);
  before(async () => {
    daemon = await startDaemon();
    folder = await scratch('import');
    await writeFile(file('root.tar'), await tarOf([{ name: 'etc/issue', content: 'hello' }]));
  });
  after(async () => {
    await folder[Symbol.asyncDispose]();
    await daemon.stop();
  });

  it('from docker make an image that is listed, inspected and saved as any other', async () => {
    const said = succeeded(
      await daemon.docker('import', '-c', 'CMD ["sh"]', '-m', 'by hand', file('root.tar'), 'team/base:1'),
    );
    assert.match(said, /^sha256:[0-9a-f]{64}\n$/);
    const shown = await daemon.docker(
      'image',
      'inspect',
      '-f',
      '{{.Id}} {{.Comment}} {{json .Config.Cmd}}',
      'team/base:1',
    );
    assert.equal(succeeded(shown), `${said.trim()} by hand ["sh"]\n`);
    assert.match(succeeded(await daemon.docker('history', '--no-trunc', 'team/base:1')), /by hand/);
    succeeded(await daemon.docker('save', '-o', file('saved.tar'), 'team/base:1'));
    await using other = await startDaemon();
    assert.equal(succeeded(await other.docker('load', '-i', file('saved.tar'))), 'Loaded image: team/base:1\n');
  });

  it('from layerctl take files and pipes', async () => {
    assert.match(
      succeeded(await daemon.layerctl('import', '--change', 'USER nobody', file('root.tar'), 'mine')),
      /^sha256:[0-9a-f]{64}\n$/,
    );
    assert.equal(succeeded(await daemon.layerctl('inspect', '-f', '{{.Config.User}}', 'mine')), 'nobody\n');
    const refused = await daemon.layerctl('import', '-c', 'RUN make', file('root.tar'), 'other');
    assert.match(failed(refused), /run is not a valid change command/);
    assert.match(failed(await daemon.layerctl('import', file('nothing.tar'))), /cannot read/);
  });
});
