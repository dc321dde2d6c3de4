import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { shortId } from '../../src/protocol/digest.ts';
import type { AttestationStatement } from '../../src/protocol/engine.ts';
import { MediaType } from '../../src/protocol/media-types.ts';
import type { Descriptor, Manifest } from '../../src/protocol/oci.ts';
import {
  artifact,
  attestation,
  blobOf,
  digestOf,
  emptyLayer,
  HOST_PLATFORM,
  image,
  index,
  layer,
  layerOfTar,
  noise,
  schema1,
  type Compression,
  type Format,
  type TestImage,
  type TestLayer,
} from '../support/images.ts';
import { has, must, needs } from '../support/process.ts';
import { assertStoreHolds, failed, startStack, succeeded, type Stack } from '../support/stack.ts';

describe('images of every kind', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  beforeEach(async () => {
    stack = await startStack();
  });
  afterEach(() => stack.stop());

  /** Pulls, checks what is stored, lets the file system's own checker judge every layer, and removes it again. */
  async function accepted(name: string, pushed: TestImage, id = pushed.id): Promise<void> {
    await stack.push(name, pushed);
    const { daemon } = stack;
    const ref = stack.ref(name);
    succeeded(await daemon.docker('pull', ref));
    assert.equal(succeeded(await daemon.docker('image', 'inspect', '--format', '{{.Id}}', ref)), `${id}\n`);
    await assertStoreHolds(daemon.dataRoot, pushed);
    if (has('fsck.erofs')) {
      const folder = join(daemon.dataRoot, 'layers/sha256');
      for (const file of await readdir(folder)) await must('fsck.erofs', [join(folder, file)]);
    }
    succeeded(await daemon.docker('rmi', ref));
    await assertStoreHolds(daemon.dataRoot);
  }

  async function refused(name: string, pushed: TestImage): Promise<string> {
    await stack.push(name, pushed);
    const output = failed(await stack.daemon.docker('pull', stack.ref(name)));
    await assertStoreHolds(stack.daemon.dataRoot);
    assert.equal(succeeded(await stack.daemon.docker('images', '-q', '-a')), '');
    return output;
  }

  for (const format of ['docker', 'oci'] as const satisfies Format[]) {
    for (const compression of ['gzip', 'zstd', 'none'] as const satisfies Compression[]) {
      it(`are pulled: ${format} manifest, layer compression ${compression}`, async () => {
        const files = [{ name: 'usr/' }, { name: 'usr/data', content: noise(compression, 50_000) }];
        await accepted(`${format}-${compression}:1`, image({ format, layers: [await layer(files, { compression })] }));
      });
    }
  }

  it('are pulled: indexes, indexes in indexes, with attestations kept beside the image', async () => {
    const own = image({ format: 'oci', layers: [await layer([{ name: 'own' }])] });
    await accepted('listed:1', index([own]));
    await accepted('attested:1', index([attestation(own), own], { format: 'oci' }), own.id);
    await accepted('nested:1', index([index([own], { format: 'oci' })], { format: 'oci' }));
  });

  it('tell what attests to them, once they are pulled', async () => {
    const own = image({ format: 'oci', layers: [await layer([{ name: 'own' }])] });
    const attested = attestation(own);
    await stack.push('attested:1', index([own, attested], { format: 'oci' }));
    succeeded(await stack.daemon.docker('pull', stack.ref('attested:1')));
    const path = `/v1.56/images/${stack.ref('attested:1')}/attestations`;
    const answer = await stack.daemon.request(`${path}?statement=1`);
    const [found, ...others] = answer.json<AttestationStatement[]>();
    assert.deepEqual(others, []);
    assert.equal(found?.PredicateType, 'https://slsa.dev/provenance/v0.2');
    const statement = attested.blobs.find(({ digest }) => digest === found.Descriptor.digest);
    assert.deepEqual(found.Statement, JSON.parse(statement?.bytes.toString() ?? ''));
  });

  it('are pulled: an empty layer, the same layer twice, no layer at all', async () => {
    const some = await layer([{ name: 'some' }]);
    await accepted('empty:1', image({ layers: [some, emptyLayer()] }));
    await accepted('repeated:1', image({ layers: [some, await layer([{ name: 'other' }]), some] }));
    await accepted('bare:1', image({ layers: [] }));
  });

  it('are pulled: an artifact with content, and one that is only a config', async () => {
    for (const [name, made] of [
      ['content:1', artifact('application/vnd.example.thing', [Buffer.from('one'), noise('two', 5000)])],
      ['config-only:1', artifact('application/vnd.example.thing')],
    ] as const) {
      await stack.push(name, made);
      succeeded(await stack.daemon.docker('pull', stack.ref(name)));
      await assertStoreHolds(stack.daemon.dataRoot, made);
      succeeded(await stack.daemon.docker('rmi', stack.ref(name)));
      await assertStoreHolds(stack.daemon.dataRoot);
    }
  });

  it('are pulled: many layers at once', async () => {
    const layers = await Promise.all(
      Array.from({ length: 40 }, (_, at) => layer([{ name: `file-${at}`, content: String(at) }])),
    );
    await accepted('many:1', image({ layers }));
  });

  it('are refused: layers whose bytes the registry does not hold', async () => {
    const urls = ['https://example.invalid/layer'];
    const foreign = await layer([{ name: 'foreign' }], { mediaType: MediaType.dockerForeignLayer, urls });
    const output = await refused('foreign:1', image({ layers: [foreign] }));
    assert.match(output, /foreign/);
  });

  it('are refused: schema 1, and media types that nobody knows', async () => {
    const { contentType, body } = schema1('old', '1');
    const free = stack.proxy.inject({
      path: /^\/v2\/old\/manifests\//,
      answer: {
        status: 200,
        headers: { 'Content-Type': contentType, 'Docker-Content-Digest': digestOf(body) },
        body,
      },
    });
    assert.match(failed(await stack.daemon.docker('pull', stack.ref('old:1'))), /schema 1|schema1|schemaVersion 1/i);
    free();
    const odd = await layer([{ name: 'odd' }], { mediaType: 'application/vnd.example.layer.v9+squashfs' });
    assert.match(await refused('odd:1', image({ format: 'oci', layers: [odd] })), /vnd\.example\.layer\.v9\+squashfs/);
  });

  it('are refused: a layer with another diff ID than the config says, with both named', async () => {
    const made = await layer([{ name: 'made' }]);
    const claimed = digestOf('something else');
    const output = await refused(
      'diff-id:1',
      image({ layers: [made], config: { rootfs: { type: 'layers', diff_ids: [claimed] } } }),
    );
    assert.match(output, new RegExp(claimed));
    assert.match(output, new RegExp(made.diffId));
  });

  it('are refused: an image for another platform than the one asked for, before anything else of it is fetched', async () => {
    const made = await layer([{ name: 'elsewhere', content: noise('elsewhere', 50_000) }]);
    const s390x = image({ layers: [made], platform: { os: 'linux', architecture: 's390x' } });
    await stack.push('elsewhere:1', s390x);
    const wrong = ['pull', '--platform', 'linux/riscv64', stack.ref('elsewhere:1')];
    const output = failed(await stack.daemon.docker(...wrong));
    assert.match(output, /linux\/riscv64.*linux\/s390x/);
    assert.doesNotMatch(output, new RegExp(shortId(made.digest)));
    assert.deepEqual(stack.proxy.blobRequests(made.digest), []);
    await assertStoreHolds(stack.daemon.dataRoot);
    // What is stored of it, because nobody asked for a platform, stays as it is.
    succeeded(await stack.daemon.docker('pull', stack.ref('elsewhere:1')));
    failed(await stack.daemon.docker(...wrong));
    await assertStoreHolds(stack.daemon.dataRoot, s390x);
  });

  it('are refused without a trace: one of whose layers the registry has nothing', async () => {
    const [here, gone] = await Promise.all(['here', 'gone'].map((name) => layer([{ name }])));
    assert.ok(here !== undefined && gone !== undefined);
    const missing = { method: 'GET', path: new RegExp(gone.digest) };
    const complete = stack.proxy.until('the other layer', (seen) =>
      seen.some(({ path, end }) => path.endsWith(here.digest) && end === 'complete'),
    );
    stack.proxy.inject({ ...missing, until: complete, answer: { status: 404 } });
    await refused('gone:1', image({ layers: [here, gone] }));
  });

  it('are refused as soon as the config is here, though layers are still on their way', async () => {
    const made = await layer([{ name: 'slow', content: noise('slow', 50_000) }]);
    stack.proxy.inject({ path: new RegExp(made.digest), stallAfter: 1000 });
    const output = await refused(
      'slow:1',
      image({ layers: [made], config: { rootfs: { type: 'layers', diff_ids: [] } } }),
    );
    assert.match(output, /1 layers.*0 diff IDs/);
  });

  it('are refused: fewer or more diff IDs than layers', async () => {
    const made = await layer([{ name: 'count' }]);
    for (const [name, diffIds] of [
      ['fewer:1', []],
      ['more:1', [made.diffId, made.diffId]],
    ] as const) {
      const config = { rootfs: { type: 'layers', diff_ids: [...diffIds] } };
      await refused(name, image({ layers: [made], config }));
    }
  });

  it('are refused: a layer of another size than the manifest says', async () => {
    for (const [name, difference] of [
      ['too-long:1', -1],
      ['too-short:1', 1],
    ] as const) {
      const made = await layer([{ name, content: noise(name, 3000) }]);
      const output = await refused(
        name,
        image({
          layers: [made],
          alter: ({ layers: [first] }) => {
            if (first !== undefined) first.size += difference;
          },
        }),
      );
      assert.match(output, /size|bytes/);
    }
    const made = await layer([{ name: 'twice' }]);
    const alter = ({ layers: [, second] }: Manifest): void => {
      if (second !== undefined) second.size += 1;
    };
    assert.match(await refused('listed-twice:1', image({ layers: [made, made], alter })), /the manifest says/);
  });

  it('are refused in the same words where the blob of another size is stored already, which stays', async () => {
    const made = await layer([{ name: 'sizes', content: noise('sizes', 3000) }]);
    const content = noise('content', 3000);
    const held = await stack.push('held:1', image({ layers: [made] }));
    const thing = await stack.push('thing:1', artifact('application/vnd.example.thing', [content]));
    for (const name of ['held:1', 'thing:1']) succeeded(await stack.daemon.docker('pull', stack.ref(name)));
    const hostile = { ...blobOf(content), diffId: blobOf(content).digest, compression: 'none' } as const;
    for (const [name, layers, change] of [
      ['longer:1', [made], ({ layers: [first] }) => [first, 5]],
      ['shorter:1', [made], ({ layers: [first] }) => [first, -5]],
      ['config:1', [made], ({ config }) => [config, 5]],
      // Never unpacked: it would be read again from its place, and found wrong.
      ['unpacked:1', [hostile], ({ layers: [first] }) => [first, -5]],
    ] as const satisfies [string, TestLayer[], (manifest: Manifest) => [Descriptor | undefined, number]][]) {
      let said = '';
      const alter = (manifest: Manifest): void => {
        const [descriptor, difference] = change(manifest);
        assert.ok(descriptor !== undefined);
        const { size, digest } = descriptor;
        descriptor.size += difference;
        said = `has ${size} bytes under ${digest}, the manifest says ${descriptor.size}`;
      };
      await stack.push(name, image({ layers, alter }));
      const output = failed(await stack.daemon.docker('pull', stack.ref(name)));
      assert.ok(output.includes(said), `${name}: ${output}`);
      assert.doesNotMatch(output, /Already exists/);
    }
    await assertStoreHolds(stack.daemon.dataRoot, held, thing);
  });

  it('are refused: layers that are no tar, are cut off, or are not compressed as they say', async () => {
    const fine = await layer([{ name: 'fine', content: noise('fine', 20_000) }]);
    await refused('no-tar:1', image({ layers: [layerOfTar(noise('no tar', 2048))] }));
    const cut = fine.bytes.subarray(0, 5000);
    await refused('cut:1', image({ layers: [{ ...fine, ...blobOf(cut) }] }));
    await refused('not-gzip:1', image({ layers: [{ ...fine, ...blobOf(noise('not gzip', 500)) }] }));
  });

  it('are refused without harm to an artifact that holds the same bytes, which are no layer', async () => {
    const bytes = noise('held by an artifact', 3000);
    const held = await stack.push('held:1', artifact('application/vnd.example.thing', [bytes]));
    succeeded(await stack.daemon.docker('pull', stack.ref('held:1')));
    const hostile = { ...blobOf(bytes), diffId: blobOf(bytes).digest, compression: 'none' } as const;
    await stack.push('hostile:1', image({ layers: [hostile] }));
    assert.match(failed(await stack.daemon.docker('pull', stack.ref('hostile:1'))), /as it was published/);
    await assertStoreHolds(stack.daemon.dataRoot, held);
    succeeded(await stack.daemon.docker('rmi', stack.ref('held:1')));
    await assertStoreHolds(stack.daemon.dataRoot);
  });

  it('are refused: a config that is no JSON', async () => {
    const bad = blobOf('{"architecture": ');
    const made = image({
      layers: [await layer([{ name: 'fine' }])],
      alter: (manifest) => {
        manifest.config = { ...manifest.config, digest: bad.digest, size: bad.bytes.length };
      },
    });
    await refused('config:1', { ...made, blobs: [...made.blobs, bad] });
  });

  it('are refused: an index with no image in it', async () => {
    const about = image({ layers: [await layer([{ name: 'about' }])], platform: HOST_PLATFORM });
    const output = await refused('nothing:1', index([attestation(about)], { format: 'oci' }));
    assert.match(output, /no matching manifest/);
  });
});
