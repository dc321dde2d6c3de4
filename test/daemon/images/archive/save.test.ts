import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { extract } from 'tar-stream';
import { image, index, layer, LINUX_AMD64, LINUX_ARM64, tarOf, type TestImage } from '../../../support/images.ts';
import { Archives } from '../archives.ts';
import { Fixture } from '../fixture.ts';

/** The files of a tar, in their order. */
async function filesOf(archive: Buffer): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const reading = extract();
  reading.end(archive);
  for await (const entry of reading) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of entry as AsyncIterable<Uint8Array>) chunks.push(chunk);
    assert.ok(!files.has(entry.header.name), entry.header.name);
    files.set(entry.header.name, Buffer.concat(chunks));
  }
  return files;
}

const json = (files: Map<string, Buffer>, name: string): unknown => JSON.parse(String(files.get(name)));
const pathOf = (digest: string): string => `blobs/sha256/${digest.slice(7)}`;

describe('saving images', () => {
  let fixture: Fixture;
  let archives: Archives;
  let one: TestImage;
  let two: TestImage;
  beforeEach(async () => {
    fixture = new Fixture();
    archives = new Archives(fixture);
    const base = await layer([{ name: 'base' }]);
    one = image({ layers: [base, await layer([{ name: 'one' }], { compression: 'zstd' })], format: 'oci' });
    two = image({ layers: [base], config: { author: 'two' } });
    await load([one, 'one:1'], [one, 'one:2'], [two, 'localhost:5000/team/two:1']);
  });
  afterEach(async () => {
    await archives.close();
    fixture[Symbol.dispose]();
  });

  async function load(...named: readonly (readonly [TestImage, string])[]): Promise<void> {
    const all = (each: TestImage): [string, Buffer][] => [
      [pathOf(each.digest), each.bytes],
      ...each.blobs.map((blob): [string, Buffer] => [pathOf(blob.digest), blob.bytes]),
      ...each.children.flatMap(all),
    ];
    const blobs = new Map(named.flatMap(([each]) => all(each)));
    const manifests = named.map(([{ mediaType, digest, bytes }, name]) => ({
      mediaType,
      digest,
      size: bytes.length,
      annotations: { 'org.opencontainers.image.ref.name': name },
    }));
    const files = [...blobs].map(([name, content]) => ({ name, content }));
    await archives.load(
      await tarOf([
        { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
        { name: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests }) },
        ...files,
      ]),
    );
    fixture.events.length = 0;
  }

  it('writes an OCI image layout that is a docker archive too, each blob once', async () => {
    const files = await filesOf(await archives.save(['one:1', 'localhost:5000/team/two:1']));
    assert.deepEqual(json(files, 'oci-layout'), { imageLayoutVersion: '1.0.0' });
    const { manifests } = json(files, 'index.json') as { manifests: { digest: string; annotations: object }[] };
    assert.deepEqual(
      new Map(manifests.map(({ digest, annotations }) => [digest, annotations])),
      new Map([
        [
          one.digest as string,
          { 'io.containerd.image.name': 'docker.io/library/one:1', 'org.opencontainers.image.ref.name': '1' },
        ],
        [
          two.digest,
          { 'io.containerd.image.name': 'localhost:5000/team/two:1', 'org.opencontainers.image.ref.name': '1' },
        ],
      ]),
    );
    const docker = json(files, 'manifest.json') as { Config: string; RepoTags: string[]; Layers: string[] }[];
    const ofOne = docker.find(({ RepoTags }) => RepoTags.includes('one:1'));
    assert.deepEqual(ofOne, {
      Config: pathOf(one.id),
      RepoTags: ['one:1'],
      Layers: one.layers.map(({ digest }) => pathOf(digest)),
    });
    const tops = [one, two].map(({ layers }) => layers.at(-1)?.digest.slice(7));
    assert.deepEqual(json(files, 'repositories'), {
      'localhost:5000/team/two': { 1: tops[1] },
      one: { 1: tops[0] },
    });
    const blobs = [one, two].flatMap((each) => [each, ...each.blobs]);
    for (const { digest, bytes } of blobs) assert.deepEqual(files.get(pathOf(digest)), bytes);
    assert.equal(files.size, 6 + new Set(blobs.map(({ digest }) => digest)).size);
  });

  it('writes the same bytes again, whatever the order of the names', async () => {
    const archive = await archives.save(['one:1', 'one:2', 'localhost:5000/team/two:1']);
    assert.ok(archive.equals(await archives.save(['localhost:5000/team/two:1', 'one:2', 'one:1', 'one:1'])));
  });

  it('takes a repository for all its tags, and an ID or a digest for the image without a name', async () => {
    const tags = async (name: string): Promise<unknown> =>
      (json(await filesOf(await archives.save([name])), 'manifest.json') as { RepoTags: unknown }[])[0]?.RepoTags;
    assert.deepEqual(await tags('one'), ['one:1', 'one:2']);
    assert.deepEqual(await tags('one:2'), ['one:2']);
    for (const name of [one.id, one.id.slice(7, 19), one.digest]) {
      assert.equal(await tags(name), null);
      assert.ok(!(await filesOf(await archives.save([name]))).has('repositories'));
    }
  });

  it('writes all stored platforms, or the one that is asked for', async () => {
    const arm = image({ layers: two.layers, format: 'oci', platform: LINUX_ARM64 });
    const amd = image({ layers: one.layers, format: 'oci', platform: LINUX_AMD64 });
    const all = index([amd, arm], { format: 'oci' });
    await load([all, 'multi:1']);
    const names = async (...platforms: (typeof LINUX_ARM64)[]): Promise<string[]> => [
      ...(await filesOf(await archives.save(['multi:1'], platforms))).keys(),
    ];
    const has = (files: string[], ...digests: string[]): boolean =>
      digests.every((digest) => files.includes(pathOf(digest)));
    assert.ok(has(await names(), all.digest, arm.digest, arm.id, amd.digest, amd.id));
    const own = await names(LINUX_ARM64);
    assert.ok(has(own, all.digest, arm.digest, arm.id, ...arm.layers.map(({ digest }) => digest)));
    assert.ok(!own.includes(pathOf(amd.digest)) && !own.includes(pathOf(amd.id)));
    const docker = json(await filesOf(await archives.save(['multi:1'], [LINUX_ARM64])), 'manifest.json');
    assert.equal((docker as { Config: string }[])[0]?.Config, pathOf(arm.id));
    await assert.rejects(archives.save(['multi:1'], [{ os: 'linux', architecture: 's390x' }]), { kind: 'not-found' });
  });

  it('tells of each image once it is written, and ends its lease', async () => {
    await archives.save(['one', 'localhost:5000/team/two:1']);
    assert.deepEqual(
      new Set(fixture.events.map(({ action, actor }) => `${action} ${actor}`)),
      new Set([`save ${one.id}`, `save ${two.id}`]),
    );
    assert.deepEqual(fixture.db.all('SELECT id FROM lease'), []);
  });

  it('loses nothing to a removal meanwhile, and lets go of it then', async () => {
    const whole = await archives.save(['one:1']);
    const stream = await archives.saver.save(['one:1'], []);
    const first = await stream.next();
    fixture.remover.remove(one.id, { force: true });
    const chunks = [first.value as Uint8Array];
    for await (const chunk of stream) chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(whole));
    assert.equal(fixture.content.has(one.digest), false);
  });

  it('ends with whoever reads it', async () => {
    const stream = await archives.saver.save(['one:1'], []);
    await stream.next();
    await stream.return(undefined);
    assert.deepEqual([fixture.db.all('SELECT id FROM lease'), fixture.events], [[], []]);
  });

  it('says before the first byte what is not there, or damaged', async () => {
    await assert.rejects(archives.save(['one:1', 'nothing:here']), { kind: 'not-found', message: /nothing:here/ });
    await assert.rejects(archives.save(['UPPER']), { kind: 'invalid' });
    const file = fixture.content.path(one.id);
    writeFileSync(file, readFileSync(file).subarray(1));
    await assert.rejects(archives.save(['one:1']), { kind: 'corrupt', message: new RegExp(one.id) });
    rmSync(file);
    await assert.rejects(archives.save(['one:1']), { kind: 'corrupt' });
    assert.deepEqual(fixture.db.all('SELECT id FROM lease'), []);
  });
});
