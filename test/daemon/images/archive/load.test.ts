import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { MAX_ENTRIES, MAX_PATH_LENGTH } from '../../../../src/daemon/images/archive/entries.ts';
import type { UnpackRequest, Unpacking } from '../../../../src/daemon/layers/layer.ts';
import type { Unpacker } from '../../../../src/daemon/layers/unpacker.ts';
import { isKind, LayerdError } from '../../../../src/protocol/errors.ts';
import { MAX_DOCUMENT_BYTES } from '../../../../src/protocol/oci.ts';
import { entryBytes, tar, type Entry } from '../../layers/tar-builder.ts';
import {
  attestation,
  blobOf,
  image,
  index,
  layer,
  layerOfTar,
  LINUX_AMD64,
  LINUX_ARM64,
  noise,
  type TestImage,
  type TestLayer,
} from '../../../support/images.ts';
import { Archives, pieces } from '../archives.ts';
import { Fixture } from '../fixture.ts';

const LAYOUT: Entry = { name: 'oci-layout', body: '{"imageLayoutVersion":"1.0.0"}' };
const blob = ({ digest, bytes }: { digest: string; bytes: Buffer }): Entry => ({
  name: `blobs/sha256/${digest.slice(7)}`,
  body: bytes,
});

/** The blobs of an image or index, each once. */
function blobsOf(...images: readonly TestImage[]): Entry[] {
  const all = (each: TestImage): Entry[] => [blob(each), ...each.blobs.map(blob), ...each.children.flatMap(all)];
  return [...new Map(images.flatMap(all).map((entry) => [entry.name, entry])).values()];
}

/** `index.json` over images, each with a name or none. */
function indexJson(...named: readonly (readonly [TestImage, string?])[]): Entry {
  const manifests = named.map(([{ mediaType, digest, bytes }, name]) => ({
    mediaType,
    digest,
    size: bytes.length,
    ...(name === undefined ? {} : { annotations: { 'io.containerd.image.name': name } }),
  }));
  return { name: 'index.json', body: JSON.stringify({ schemaVersion: 2, manifests }) };
}

/** `manifest.json` of docker's own format. */
const manifestJson = (...images: readonly object[]): Entry => ({ name: 'manifest.json', body: JSON.stringify(images) });

describe('loading an archive', () => {
  let fixture: Fixture;
  let archives: Archives;
  let base: TestLayer;
  let made: TestImage;
  beforeEach(async () => {
    fixture = new Fixture();
    archives = new Archives(fixture);
    base = await layer([{ name: 'base', content: 'below' }]);
    made = image({ layers: [base, await layer([{ name: 'top' }], { compression: 'zstd' })], format: 'oci' });
  });
  afterEach(async () => {
    await archives.close();
    fixture[Symbol.dispose]();
  });

  const said = async (archive: Buffer, options?: Parameters<Archives['load']>[1]): Promise<string[]> =>
    (await archives.load(archive, options)).map(({ stream }) => stream ?? '');
  const folder = (name: string): string[] => readdirSync(join(fixture.root, name)).sort();
  const events = (): string[] => fixture.events.map(({ action, actor }) => `${action} ${actor}`);
  const config = (of: TestImage): Buffer => of.blobs[0]?.bytes ?? Buffer.alloc(0);

  /** The archive in docker's own format, its files under the names given. */
  function docker(of: TestImage, tags: readonly string[], names: readonly string[]): Buffer {
    return tar(
      ...of.layers.map(({ bytes }, at) => ({ name: names[at] ?? '', body: bytes })),
      { name: 'config.json', body: config(of) },
      manifestJson({ Config: 'config.json', RepoTags: tags, Layers: names }),
    );
  }

  async function refused(archive: Buffer, reason: RegExp, kind: 'invalid' | 'not-found' = 'invalid'): Promise<void> {
    const before = { blobs: folder('blobs/sha256'), layers: folder('layers/sha256'), listed: fixture.store.listing() };
    const { length } = fixture.events;
    await assert.rejects(archives.load(archive), (error) => {
      assert.ok(isKind(error, kind), String(error));
      assert.match(error.message, reason);
      return true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    const after = { blobs: folder('blobs/sha256'), layers: folder('layers/sha256'), listed: fixture.store.listing() };
    assert.deepEqual(after, before);
    assert.deepEqual([folder('staging'), folder('ingest')], [[], []]);
    assert.equal(fixture.events.length, length);
    assert.deepEqual(fixture.db.all('SELECT id FROM lease'), []);
  }

  it('takes an OCI image layout, with name, events and unpacked layers', async () => {
    assert.deepEqual(await said(tar(LAYOUT, ...blobsOf(made), indexJson([made, 'docker.io/library/a:1']))), [
      'Loaded image: a:1\n',
    ]);
    const found = fixture.store.resolve('a:1');
    assert.deepEqual([found.id, found.target], [made.id, made.digest]);
    assert.deepEqual(events(), [`tag ${made.id}`, `load ${made.id}`]);
    for (const { diffId } of made.layers) assert.ok(archives.layers.has(diffId));
    assert.deepEqual(folder('staging'), []);
  });

  it('takes the lists of contents first or last, in pieces of any size', async () => {
    const entries = [LAYOUT, indexJson([made, 'a:1']), ...blobsOf(made)];
    for (const [pieceBytes, archive] of [
      [7, tar(...entries)],
      [512, tar(...entries.toReversed())],
      [100_000, gzipSync(tar(...entries))],
      [3, zstdCompressSync(tar(...entries))],
    ] as const) {
      assert.deepEqual(await said(archive, { pieceBytes }), ['Loaded image: a:1\n']);
    }
  });

  it('takes docker archives: layers by any name, plain or compressed, without a name by ID', async () => {
    assert.deepEqual(await said(docker(made, ['a:1', 'b'], ['one.tar', 'sub/layer.tar'])), [
      'Loaded image: a:1\n',
      'Loaded image: b:latest\n',
    ]);
    assert.equal(fixture.store.resolve('b').id, made.id);
    const plain = image({ layers: [await layer([{ name: 'plain' }], { compression: 'none' })] });
    assert.deepEqual(await said(docker(plain, [], ['p.tar'])), [`Loaded image ID: ${plain.id}\n`]);
  });

  it('makes the same manifest of the same docker archive', async () => {
    await said(docker(made, ['a:1'], ['x.tar', 'y.tar']));
    await said(docker(made, ['a:2'], ['other/name', 'yet/another']));
    assert.equal(fixture.store.resolve('a:1').target, fixture.store.resolve('a:2').target);
  });

  it('follows the links of old dockers, to files and through folders', async () => {
    const twice = image({ layers: [base, base, base] });
    const archive = tar(
      { name: 'one/VERSION', body: '1.0' },
      { name: 'one/json', body: '{}' },
      { name: 'one/layer.tar', body: base.bytes },
      { name: 'two/layer.tar', type: '2', target: '../one/layer.tar' },
      { name: 'three', type: '2', target: 'two' },
      { name: 'config.json', body: config(twice) },
      manifestJson({
        Config: './config.json',
        RepoTags: ['old:1'],
        Layers: ['one/layer.tar', 'two/layer.tar', 'three/layer.tar'],
      }),
    );
    assert.deepEqual(await said(archive), ['Loaded image: old:1\n']);
    assert.equal(fixture.store.resolve('old:1').id, twice.id);
  });

  it('takes several images, and says what a name leaves, which stays', async () => {
    const other = image({ layers: [base], format: 'oci', config: { author: 'other' } });
    await said(tar(LAYOUT, ...blobsOf(made), indexJson([made, 'a:1'])));
    fixture.events.length = 0;
    const both = tar(LAYOUT, ...blobsOf(made, other), indexJson([other, 'a:1'], [made, 'b:1'], [made, 'b:2']));
    assert.deepEqual(await said(both), [
      `The image a:1 already exists, renaming the old one with ID ${made.id} to empty string\n`,
      'Loaded image: a:1\n',
      'Loaded image: b:1\n',
      'Loaded image: b:2\n',
    ]);
    assert.deepEqual(events(), [
      `untag ${made.id}`,
      `tag ${other.id}`,
      `load ${other.id}`,
      `tag ${made.id}`,
      `tag ${made.id}`,
      `load ${made.id}`,
    ]);
  });

  it('takes nested indexes with several platforms and attestations, or the platform that is asked for', async () => {
    const arm = image({ layers: [base], format: 'oci', platform: LINUX_ARM64 });
    const amd = image({ layers: made.layers, format: 'oci', platform: LINUX_AMD64 });
    const all = index([index([amd, arm, attestation(amd)], { format: 'oci' })], { format: 'oci' });
    const archive = tar(LAYOUT, ...blobsOf(all), indexJson([all, 'multi:1']));
    await said(archive, { platforms: [LINUX_ARM64] });
    assert.deepEqual(
      fixture.store.manifests(all.digest).map(({ digest }) => digest),
      [arm.digest],
    );
    await said(archive);
    assert.equal(fixture.store.manifests(all.digest).length, 3);
    assert.equal(fixture.store.resolve('multi:1').id, amd.id);
    await assert.rejects(archives.load(archive, { platforms: [{ os: 'linux', architecture: 's390x' }] }), {
      kind: 'not-found',
    });
  });

  it('takes an index whose other platforms are not in the archive', async () => {
    const arm = image({ layers: [base], format: 'oci', platform: LINUX_ARM64 });
    const all = index([made, arm], { format: 'oci' });
    await said(tar(LAYOUT, ...blobsOf(made), blob(all), indexJson([all, 'sparse:1'])));
    assert.equal(fixture.store.resolve('sparse:1').id, made.id);
    await refused(tar(LAYOUT, blob(all), indexJson([all, 'bare:1'])), /none of the manifests/);
  });

  it('leaves out what no manifest needs', async () => {
    const stray = await layer([{ name: 'stray' }]);
    await said(tar(LAYOUT, blob(stray), { name: 'README', body: 'hello' }, ...blobsOf(made), indexJson([made, 'a:1'])));
    assert.deepEqual(
      folder('blobs/sha256').map((hex) => `sha256:${hex}`),
      blobsOf(made)
        .map(({ name }) => `sha256:${String(name).slice(13)}`)
        .sort(),
    );
    assert.ok(!archives.layers.has(stray.diffId));
  });

  it('needs no blob that another image has brought', async () => {
    await said(tar(LAYOUT, ...blobsOf(made), indexJson([made, 'a:1'])));
    const above = image({ layers: [base], format: 'oci', config: { author: 'above' } });
    const [configEntry] = above.blobs.map(blob);
    assert.deepEqual(await said(tar(LAYOUT, blob(above), configEntry ?? LAYOUT, indexJson([above, 'b:1']))), [
      'Loaded image: b:1\n',
    ]);
  });

  it('shows the bars of layers unless it is to be quiet', async () => {
    const archive = tar(LAYOUT, ...blobsOf(made), indexJson([made, 'a:1']));
    const messages = await archives.load(archive, { quiet: false });
    const bars = messages.filter(({ status }) => status === 'Loading layer');
    assert.deepEqual(new Set(bars.map(({ id }) => id)), new Set(made.layers.map(({ digest }) => digest.slice(7, 19))));
    assert.deepEqual(bars.at(-1)?.progressDetail?.current, bars.at(-1)?.progressDetail?.total);
  });

  describe('refuses, and changes nothing:', () => {
    const whole = (): Buffer => tar(LAYOUT, ...blobsOf(made), indexJson([made, 'a:1']));

    it('what is cut off anywhere, compressed or not', async () => {
      for (const archive of [whole(), gzipSync(whole()), zstdCompressSync(whole())]) {
        for (const part of [0.2, 0.5, 0.8]) {
          await refused(
            archive.subarray(0, Math.floor((archive.length * part) / 2) * 2 - 1),
            /cut off|damaged|missing|neither|no OCI|end/,
          );
        }
      }
    });

    it('what is no tar, nothing at all, or compressed otherwise', async () => {
      await refused(noise('no tar', 4096), /no tar/);
      await refused(Buffer.alloc(0), /neither manifest.json nor index.json/);
      await refused(Buffer.from('BZh91AY&SY and so on'), /bzip2/);
      await refused(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3]), /xz/);
    });

    it('paths and links that lead out, devices, and paths without end', async () => {
      const link = (type: '1' | '2', target: string): Entry => ({ name: 'a/link', type, target });
      for (const entry of [
        { name: '../../etc/passwd', body: 'x' },
        { name: '/etc/passwd', body: 'x' },
        { name: 'blobs/../../x', body: 'x' },
        link('2', '/etc/passwd'),
        link('2', '../../etc/passwd'),
        link('1', '../x'),
      ]) {
        await refused(tar(entry, ...blobsOf(made), LAYOUT, indexJson([made, 'a:1'])), /leads out/);
      }
      await refused(tar({ name: 'null', type: '3', major: 1, minor: 3 }), /character-device/);
      const long = 'x'.repeat(MAX_PATH_LENGTH + 1);
      await refused(tar({ name: 'x', body: 'x', pax: { path: long } }), /path of more than/);
    });

    it('entries that are repeated', async () => {
      await refused(tar(LAYOUT, LAYOUT, ...blobsOf(made), indexJson([made, 'a:1'])), /"oci-layout" twice/);
      await refused(tar(...blobsOf(made), ...blobsOf(made), LAYOUT, indexJson([made])), /twice/);
      await refused(tar({ name: 'a' }, { name: './a' }), /twice/);
    });

    it('one name for two images', async () => {
      const other = image({ layers: [base], format: 'oci', config: { author: 'other' } });
      await refused(
        tar(LAYOUT, ...blobsOf(made, other), indexJson([made, 'a:1'], [other, 'docker.io/library/a:1'])),
        /name docker.io\/library\/a:1 to two images/,
      );
    });

    it('lists of contents that are missing or malformed', async () => {
      const blobs = blobsOf(made);
      const index = (body: string): Buffer => tar(LAYOUT, ...blobs, { name: 'index.json', body });
      const manifest = (body: string): Buffer => tar(...blobs, { name: 'manifest.json', body });
      await refused(tar(LAYOUT, ...blobs), /neither manifest.json nor index.json/);
      await refused(tar(...blobs, indexJson([made])), /no oci-layout/);
      await refused(tar({ name: 'oci-layout', body: '{}' }, ...blobs, indexJson([made])), /imageLayoutVersion/);
      await refused(index('{"schemaVersion": 2,'), /not JSON/);
      await refused(index('[]'), /not an object/);
      await refused(index('{"schemaVersion":2,"manifests":[]}'), /lists no image/);
      await refused(index('{"schemaVersion":2,"manifests":[{"digest":"sha256:zz"}]}'), /mediaType/);
      await refused(manifest('{'), /not JSON/);
      await refused(manifest('{}'), /not a list/);
      await refused(manifest('[]'), /lists no image/);
      await refused(manifest('[null]'), /not an object/);
      await refused(manifest('[{"Config":"c","Layers":[1]}]'), /Layers is not a list of strings/);
      await refused(manifest('[{"Config":"nothing.json","Layers":[]}]'), /"nothing.json" is not in it/);
      await refused(manifest('[{"Config":"../../etc/shadow","Layers":[]}]'), /is not in it/);
      await refused(tar({ name: 'repositories', body: '{}' }), /older than 1.10/);
    });

    it('names that are none', async () => {
      for (const name of ['UPPER:1', 'a b', 'a:1@sha256:' + '0'.repeat(64), 'x'.repeat(300)]) {
        await refused(docker(made, [name], ['1', '2']), /is no name of an image|has a digest/);
      }
    });

    it('bytes of another digest or size than their names or manifests say', async () => {
      const wrong = (entry: Entry): Entry => ({ ...entry, body: gzipSync(noise('other', 100)) });
      const [manifest, configEntry, first, second] = blobsOf(made);
      assert.ok(manifest !== undefined && configEntry !== undefined && first !== undefined && second !== undefined);
      const list = indexJson([made, 'a:1']);
      await refused(tar(LAYOUT, manifest, configEntry, wrong(first), second, list), /digest/);
      await refused(tar(LAYOUT, manifest, { ...configEntry, body: '{"a":1}' }, first, second, list), /digest/);
      await refused(tar(LAYOUT, { ...manifest, body: 'neither' }, configEntry, first, second, list), /digest/);
      const lying = image({
        layers: [base],
        format: 'oci',
        alter: ({ layers: [each] }) => {
          if (each !== undefined) each.size += 1;
        },
      });
      await refused(tar(LAYOUT, ...blobsOf(lying), indexJson([lying])), /has \d+ bytes, manifest .* says/);
    });

    it('a manifest that names a missing blob, or lists other diff IDs', async () => {
      const entries = blobsOf(made);
      for (const [at, what] of [
        [1, 'config'],
        [2, 'manifest'],
      ] as const) {
        const rest = entries.filter((_, each) => each !== at);
        await refused(
          tar(LAYOUT, ...rest, indexJson([made, 'a:1'])),
          new RegExp(`blob sha256:.* of ${what} .*missing`),
        );
      }
      await refused(tar(LAYOUT, indexJson([made, 'a:1'])), /is missing/);
      const claimed = blobOf('something else').digest;
      const odd = image({ layers: [base], format: 'oci', config: { rootfs: { type: 'layers', diff_ids: [claimed] } } });
      await refused(
        tar(LAYOUT, ...blobsOf(odd), indexJson([odd])),
        new RegExp(`${base.diffId}, the config says ${claimed}`),
      );
      await refused(docker({ ...made, layers: [base] }, ['a:1'], ['1']), /1 layers and its config lists 2 diff IDs/);
    });

    it('a config of the wrong shape', async () => {
      for (const body of [
        '[]',
        '{"architecture":1}',
        '{"os":"linux","architecture":"amd64","rootfs":{"type":"tree"}}',
      ]) {
        await refused(
          tar({ name: 'c', body }, manifestJson({ Config: 'c', RepoTags: ['a:1'], Layers: [] })),
          /config sha256:.* is not usable/,
        );
      }
      await refused(
        tar({ name: 'c', body: noise('no config', 100) }, manifestJson({ Config: 'c', Layers: [] })),
        /neither JSON nor a tar/,
      );
    });

    it('layers that are no layers', async () => {
      const bad = layerOfTar(Buffer.concat([entryBytes({ name: 'x', size: 5000, body: 'short' })]));
      const odd = image({ layers: [bad], format: 'oci' });
      await refused(tar(LAYOUT, ...blobsOf(odd), indexJson([odd])), /as it was published/);
      await refused(docker(odd, ['a:1'], ['layer.tar']), /"layer.tar" is not usable/);
    });

    it('bytes of another digest also where the unpacking ended before it could tell', async () => {
      const ending = {
        start: ({ blobPath }: UnpackRequest): Unpacking => ({
          write: () => Promise.resolve(),
          finish: () => {
            writeFileSync(blobPath, Buffer.alloc(base.bytes.length));
            return Promise.reject(new LayerdError('invalid', 'it needs more memory than there is'));
          },
          abort: () => Promise.resolve(),
        }),
        close: () => Promise.resolve(),
      } as unknown as Unpacker;
      const broken = new Archives(fixture, undefined, ending);
      await assert.rejects(broken.load(tar(LAYOUT, blob(base))), { kind: 'invalid', message: /have digest/ });
      assert.deepEqual([folder('blobs/sha256'), folder('staging')], [[], []]);
    });

    it('links in a circle', async () => {
      await refused(
        tar(
          { name: 'a', type: '2', target: 'b' },
          { name: 'b', type: '2', target: 'a' },
          manifestJson({ Config: 'a', Layers: [] }),
        ),
        /more than 16 links/,
      );
    });

    it('documents that are huge', async () => {
      const body = Buffer.alloc(MAX_DOCUMENT_BYTES + 1, ' ');
      for (const name of ['index.json', 'manifest.json', 'oci-layout', 'repositories']) {
        await refused(tar({ name, body }), /a document has at most/);
      }
    });

    it('more entries than any honest archive has', async () => {
      function* folders(): Generator<Buffer> {
        for (let at = 0; at <= MAX_ENTRIES; at += 1) yield entryBytes({ name: `${at}/`, type: '5' });
      }
      const { signal } = new AbortController();
      await assert.rejects(
        archives.loader.load(
          { archive: Readable.from(folders()), quiet: true, platforms: [], signal },
          () => undefined,
        ),
        { kind: 'invalid', message: new RegExp(`more than ${MAX_ENTRIES} entries`) },
      );
    });

    it('what expands to fill the disk, as a whole or in a layer', async () => {
      const zeros = Buffer.alloc(80 * 1024 * 1024);
      await refused(zstdCompressSync(tar({ name: 'zeros', body: zeros })), /made to fill the disk/);
      const bomb = layerOfTar(tar({ name: 'zeros', body: zeros }), { compression: 'zstd' });
      const odd = image({ layers: [bomb], format: 'oci' });
      await refused(tar(LAYOUT, ...blobsOf(odd), indexJson([odd])), /made to fill the disk/);
    });

    it('an archive that its client stops sending, of which nothing stays', async () => {
      const archive = whole();
      async function* stopping(): AsyncGenerator<Buffer> {
        yield* pieces(archive.subarray(0, archive.length / 2));
        throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
      }
      const { signal } = new AbortController();
      await assert.rejects(
        archives.loader.load({ archive: stopping(), quiet: true, platforms: [], signal }, () => undefined),
        { kind: 'cancelled' },
      );
      assert.deepEqual([folder('blobs/sha256'), folder('staging')], [[], []]);
      assert.deepEqual(fixture.db.all('SELECT id FROM lease'), []);
    });

    it('any damage, without any other error', async () => {
      const archive = whole();
      await fc.assert(
        fc.asyncProperty(fc.nat(archive.length - 1), fc.nat(255), async (at, byte) => {
          const damaged = Buffer.from(archive);
          damaged[at] = byte;
          try {
            await archives.load(damaged);
          } catch (error) {
            assert.ok(isKind(error, 'invalid'), String(error));
          }
        }),
        { numRuns: 60 },
      );
    });
  });

  it('gives what was saved: the same bytes again, whatever was loaded', async () => {
    const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
    const files = fc.uniqueArray(fc.tuple(word, fc.string({ maxLength: 2000 })), {
      maxLength: 4,
      selector: ([name]) => name,
    });
    const compression = fc.constantFrom('gzip' as const, 'zstd' as const, 'none' as const);
    const images = fc.uniqueArray(fc.tuple(word, fc.array(fc.tuple(files, compression), { maxLength: 4 })), {
      minLength: 1,
      maxLength: 3,
      selector: ([name]) => name,
    });
    await fc.assert(
      fc.asyncProperty(images, async (specs) => {
        const built: [TestImage, string][] = [];
        for (const [name, layers] of specs) {
          const stack = await Promise.all(
            layers.map(([list, kind]) =>
              layer(
                list.map(([file, content]) => ({ name: file, content })),
                { compression: kind },
              ),
            ),
          );
          built.push([
            image({ layers: stack, format: 'oci', config: { author: name } }),
            `docker.io/library/${name}:1`,
          ]);
        }
        using one = new Fixture();
        using two = new Fixture();
        const [first, second] = [new Archives(one), new Archives(two)];
        await first.load(tar(LAYOUT, ...blobsOf(...built.map(([each]) => each)), indexJson(...built)));
        const names = specs.map(([name]) => `${name}:1`);
        const saved = await first.save(names);
        await second.load(saved);
        assert.ok((await second.save(names)).equals(saved));
        for (const [each, name] of built) assert.equal(two.store.resolve(name).id, each.id);
        await Promise.all([first.close(), second.close()]);
      }),
      { numRuns: 5 },
    );
  });
});
