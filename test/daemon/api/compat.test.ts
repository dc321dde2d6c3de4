import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { historyItem, imageInspect, imageSummary } from '../../../src/daemon/api/compat.ts';
import { maskCredentials } from '../../../src/daemon/api/system-info.ts';
import type { ImageInspect, ImageSummary } from '../../../src/protocol/engine.ts';

const id = `sha256:${'a'.repeat(64)}` as const;
const descriptor = { mediaType: 'application/vnd.oci.image.index.v1+json', digest: id, size: 5 };

const summary: ImageSummary = {
  Id: id,
  ParentId: '',
  RepoTags: [],
  RepoDigests: [],
  Created: 1,
  Size: 10,
  SharedSize: -1,
  Labels: {},
  Containers: 2,
  Descriptor: descriptor,
};

const inspect: ImageInspect = {
  Id: id,
  Descriptor: descriptor,
  Identity: { Pull: [{ Repository: 'docker.io/library/redis' }] },
  RepoTags: [],
  RepoDigests: [],
  Comment: '',
  Author: '',
  Parent: '',
  DockerVersion: '',
  Config: { Cmd: ['sh'] },
  Architecture: 'amd64',
  Os: 'linux',
  Size: 10,
  GraphDriver: { Name: 'erofs', Data: null },
  RootFS: { Type: 'layers' },
  Metadata: {},
};

/** The fields that one version has and the one before it has not, and the other way round. */
function difference(
  form: (version: number) => Record<string, unknown>,
  version: number,
): { added: string[]; removed: string[] } {
  const [before, after] = [Object.keys(form(version - 1)), Object.keys(form(version))];
  return {
    added: after.filter((key) => !before.includes(key)).sort(),
    removed: before.filter((key) => !after.includes(key)).sort(),
  };
}

describe('an image in a list', () => {
  const form = (version: number): Record<string, unknown> => imageSummary(summary, version);

  it('has the fields of its version', () => {
    assert.deepEqual(difference(form, 44), { added: [], removed: ['VirtualSize'] });
    assert.deepEqual(difference(form, 48), { added: ['Descriptor'], removed: [] });
    assert.equal(form(43)['VirtualSize'], 10);
  });

  it('that does not say when it was made has no time, in the form of its version', () => {
    for (const [version, created] of [
      [41, -62_135_596_800],
      [43, -62_135_596_800],
      [44, 0],
      [56, 0],
    ] as const) {
      assert.equal(imageSummary({ ...summary, Created: undefined }, version)['Created'], created);
      assert.equal(imageSummary({ ...summary, Created: 0 }, version)['Created'], 0);
      const step = { Id: id, CreatedBy: '', Tags: null, Size: 0, Comment: '' };
      assert.equal(historyItem({ ...step, Created: undefined }, version)['Created'], created);
      assert.equal(historyItem({ ...step, Created: 1 }, version)['Created'], 1);
    }
  });

  it('counts containers from 1.51 on', () => {
    assert.equal(form(50)['Containers'], -1);
    assert.equal(form(51)['Containers'], 2);
  });

  it('is named <none> before 1.43 when it has no name, and only then', () => {
    assert.deepEqual(form(42)['RepoTags'], ['<none>:<none>']);
    assert.deepEqual(form(42)['RepoDigests'], ['<none>@<none>']);
    assert.deepEqual(form(43)['RepoTags'], []);
    const named = imageSummary({ ...summary, RepoDigests: ['a@b'] }, 42);
    assert.deepEqual([named['RepoTags'], named['RepoDigests']], [[], ['a@b']]);
  });
});

describe('an image in full', () => {
  const form = (version: number): Record<string, unknown> => imageInspect(inspect, version);
  const config = (version: number): Record<string, unknown> => form(version)['Config'] as Record<string, unknown>;

  it('has the fields of its version', () => {
    assert.deepEqual(difference(form, 44), { added: [], removed: ['Created', 'VirtualSize'] });
    assert.deepEqual(difference(form, 45), { added: [], removed: ['Container', 'ContainerConfig'] });
    assert.deepEqual(difference(form, 48), { added: ['Descriptor'], removed: [] });
    assert.deepEqual(difference(form, 52), {
      added: [],
      removed: ['Author', 'Comment', 'DockerVersion', 'GraphDriver', 'Parent'],
    });
    assert.deepEqual(difference(form, 53), { added: ['Identity'], removed: [] });
    assert.equal(form(43)['Created'], '0001-01-01T00:00:00Z');
    assert.deepEqual(form(51)['GraphDriver'], { Name: 'erofs', Data: {} });
  });

  it('tells before 1.45 of the container of its last step', () => {
    const blank = form(44)['ContainerConfig'] as Record<string, unknown>;
    assert.deepEqual([form(44)['Container'], blank['Cmd'], blank['Hostname']], ['', null, '']);
    const built = { ...inspect, Container: 'abc', ContainerConfig: { Hostname: 'abc', Cmd: ['make'] } };
    const older = imageInspect(built, 41);
    assert.equal(older['Container'], 'abc');
    assert.deepEqual(older['ContainerConfig'], { ...blank, Hostname: 'abc', Cmd: ['make'] });
    assert.deepEqual(imageInspect(built, 45), form(45));
  });

  it('keeps deprecated fields that say something', () => {
    const full = imageInspect(
      { ...inspect, Author: 'me', DockerVersion: '20.10', Created: '2025-01-01T00:00:00Z' },
      56,
    );
    assert.deepEqual([full['Author'], full['DockerVersion'], full['Created']], ['me', '20.10', '2025-01-01T00:00:00Z']);
    assert.equal(imageInspect({ ...inspect, Created: '2025-01-01T00:00:00Z' }, 43)['Created'], '2025-01-01T00:00:00Z');
  });

  it('has the config of its version, whose values win over the empty ones', () => {
    assert.deepEqual(difference(config, 50).removed, [
      'AttachStderr',
      'AttachStdin',
      'AttachStdout',
      'Domainname',
      'Hostname',
      'Image',
      'OpenStdin',
      'StdinOnce',
      'Tty',
    ]);
    assert.deepEqual(difference(config, 52).removed, [
      'Entrypoint',
      'Env',
      'Labels',
      'OnBuild',
      'User',
      'Volumes',
      'WorkingDir',
    ]);
    assert.deepEqual(config(24)['Cmd'], ['sh']);
    assert.deepEqual(imageInspect({ ...inspect, Config: null }, 56)['Config'], {});
  });
});

describe('a proxy', () => {
  it('is shown without credentials, whatever form it has', () => {
    for (const [url, shown] of [
      ['', ''],
      ['http://proxy:3128', 'http://proxy:3128'],
      ['http://user:secret@proxy:3128/', 'http://xxxxx:xxxxx@proxy:3128/'],
      ['user:secret@proxy', 'xxxxx:xxxxx@proxy'],
      ['http://user:se@cret@proxy', 'http://xxxxx:xxxxx@proxy'],
      ['http://token@proxy', 'http://xxxxx:xxxxx@proxy'],
    ] as const) {
      assert.equal(maskCredentials(url), shown);
    }
  });
});
