import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { shortId } from '../../src/protocol/digest.ts';
import { attestation, HOST_PLATFORM, image, index, layer, type TestImage, type TestLayer } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { failed, linesOf, startStack, succeeded, type Stack } from '../support/stack.ts';

describe('docker images, inspect and history', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let base: TestLayer;
  let top: TestLayer;
  let plain: TestImage;
  let multi: TestImage;
  let child: TestImage;
  const docker = async (...args: string[]): Promise<string> => succeeded(await stack.daemon.docker(...args));

  before(async () => {
    stack = await startStack();
    base = await layer([{ name: 'base', content: 'b'.repeat(10_000) }]);
    top = await layer([{ name: 'top', content: 't'.repeat(20_000) }], { compression: 'none' });
    plain = await stack.push(
      'plain:1',
      image({
        layers: [base, top],
        config: {
          created: '2020-01-01T00:00:00Z',
          config: { Cmd: ['run'], Env: ['A=b'], Labels: { color: 'green' }, WorkingDir: '/srv' },
          history: [
            { created: '2019-12-31T00:00:00Z', created_by: 'ADD base' },
            { created: '2019-12-31T12:00:00Z', created_by: 'ENV A=b', empty_layer: true },
            { created: '2020-01-01T00:00:00Z', created_by: 'ADD top', comment: 'the last' },
          ],
        },
      }),
    );
    await stack.push('plain:2', plain);
    child = image({ layers: [base], format: 'oci', config: { created: '2022-01-01T00:00:00Z' } });
    multi = await stack.push('multi:1', index([child, attestation(child)], { format: 'oci' }));
    for (const name of ['plain:1', 'plain:2', 'multi:1']) await docker('pull', '-q', stack.ref(name));
  });
  after(() => stack.stop());

  it('lists every tag with its image ID, newest image first', async () => {
    const lines = linesOf(await docker('images', '--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}'));
    assert.equal(lines[0], `${stack.ref('multi:1')} ${child.id}`);
    assert.deepEqual(lines.slice(1).sort(), [
      `${stack.ref('plain:1')} ${plain.id}`,
      `${stack.ref('plain:2')} ${plain.id}`,
    ]);
    const table = linesOf(await docker('images'));
    assert.match(table[0] ?? '', /^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$/);
    assert.equal(table.length, 4);
    assert.ok(table.some((line) => line.includes(shortId(plain.id))));
  });

  it('lists only IDs with -q, also with -a', async () => {
    assert.deepEqual(linesOf(await docker('images', '-q', '--no-trunc')).sort(), [child.id, plain.id, plain.id].sort());
    assert.ok(linesOf(await docker('images', '-a', '-q')).includes(shortId(plain.id)));
  });

  it('lists digests, which are those that the registry served', async () => {
    const lines = linesOf(await docker('images', '--digests', '--format', '{{.Repository}} {{.Tag}} {{.Digest}}'));
    assert.ok(lines.includes(`${stack.ref('multi')} 1 ${multi.digest}`), lines.join('\n'));
    assert.ok(lines.includes(`${stack.ref('plain')} 2 ${plain.digest}`), lines.join('\n'));
  });

  it('filters by reference, label, before, since and dangling', async () => {
    const names = async (...filters: string[]): Promise<string[]> => {
      const flags = filters.flatMap((filter) => ['--filter', filter]);
      const text = (await docker('images', '--format', '{{.Repository}}:{{.Tag}}', ...flags)).trim();
      return text === '' ? [] : text.split('\n').sort();
    };
    const [one, two, other] = [stack.ref('plain:1'), stack.ref('plain:2'), stack.ref('multi:1')];
    assert.deepEqual(await names(`reference=${stack.ref('pla*')}:1`), [one]);
    assert.deepEqual(await names('reference=*/multi'), [other]);
    assert.deepEqual(await names('label=color'), [one, two]);
    assert.deepEqual(await names('label=color=green'), [one, two]);
    assert.deepEqual(await names('label=color=red'), []);
    assert.deepEqual(await names(`before=${other}`), [one, two]);
    assert.deepEqual(await names(`since=${one}`), [other]);
    assert.deepEqual(await names('dangling=true'), []);
    assert.deepEqual(await names('dangling=false', `reference=${other}`), [other]);
    assert.match(failed(await stack.daemon.docker('images', '--filter', 'colour=red')), /invalid filter.*colour/);
    assert.deepEqual(linesOf(await docker('images', '--format', '{{.Tag}}', stack.ref('plain'))).sort(), ['1', '2']);
  });

  it('shows platforms as a tree', async () => {
    const tree = await docker('images', '--tree');
    assert.match(tree, /multi:1/);
    assert.match(tree, new RegExp(`${HOST_PLATFORM.os}/${HOST_PLATFORM.architecture}`));
  });

  it('inspects by tag, digest, ID and a short ID', async () => {
    const names = [
      stack.ref('plain:1'),
      stack.ref(`plain@${plain.digest}`),
      plain.id,
      plain.id.slice('sha256:'.length),
      shortId(plain.id),
    ];
    for (const name of names) {
      assert.equal(await docker('image', 'inspect', '--format', '{{.Id}}', name), `${plain.id}\n`, name);
    }
    const [inspected] = JSON.parse(await docker('image', 'inspect', stack.ref('plain:1'))) as [Record<string, unknown>];
    assert.deepEqual((inspected['RepoTags'] as string[]).sort(), [stack.ref('plain:1'), stack.ref('plain:2')]);
    assert.deepEqual(inspected['RepoDigests'], [stack.ref(`plain@${plain.digest}`)]);
    assert.deepEqual(inspected['RootFS'], { Type: 'layers', Layers: [base.diffId, top.diffId] });
    assert.equal(inspected['Created'], '2020-01-01T00:00:00Z');
    const config = inspected['Config'] as Record<string, unknown>;
    assert.deepEqual(
      [config['Cmd'], config['Env'], config['Labels'], config['WorkingDir']],
      [['run'], ['A=b'], { color: 'green' }, '/srv'],
    );
  });

  it('finds an image by the digest of its index and of its manifest', async () => {
    for (const digest of [multi.digest, child.digest, child.id]) {
      assert.equal(await docker('image', 'inspect', '--format', '{{.Id}}', digest), `${child.id}\n`);
    }
  });

  it('inspects a platform, and refuses one that is not there', async () => {
    const platform = `${HOST_PLATFORM.os}/${HOST_PLATFORM.architecture}`;
    const found = await docker('image', 'inspect', '--platform', platform, '--format', '{{.Id}}', stack.ref('multi:1'));
    assert.equal(found, `${child.id}\n`);
    const refused = await stack.daemon.docker('image', 'inspect', '--platform', 'linux/s390x', stack.ref('multi:1'));
    assert.match(failed(refused), /s390x/);
  });

  it('says No such image for what is not there', async () => {
    const { code, stdout, stderr } = await stack.daemon.docker('image', 'inspect', 'nothing:here');
    assert.deepEqual([code, stdout], [1, '[]\n']);
    assert.match(stderr, /No such image: nothing:here/);
  });

  it('tells the history, newest first, with the size of each step', async () => {
    const format = '{{.ID}}|{{.CreatedBy}}|{{.Comment}}';
    assert.deepEqual(linesOf(await docker('history', '--no-trunc', '--format', format, stack.ref('plain:1'))), [
      `${plain.id}|ADD top|the last`,
      '<missing>|ENV A=b|',
      '<missing>|ADD base|',
    ]);
    const sizes = linesOf(await docker('history', '--human=false', '--format', '{{.Size}}', stack.ref('plain:1'))).map(
      Number,
    );
    assert.equal(sizes[1], 0);
    assert.ok((sizes[0] ?? 0) >= 20_000 && (sizes[2] ?? 0) >= 10_000, sizes.join(', '));
    assert.match(failed(await stack.daemon.docker('history', 'nothing:here')), /No such image: nothing:here/);
  });
});
