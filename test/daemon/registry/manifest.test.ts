import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  isIndex,
  MAX_ARTIFACT_LAYERS,
  MAX_INDEX_MANIFESTS,
  parseManifest,
} from '../../../src/daemon/registry/manifest.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import { MAX_DOCUMENT_BYTES, MAX_IMAGE_LAYERS } from '../../../src/protocol/oci.ts';
import { artifact, attestation, bulk, image, index, LINUX_ARM64, schema1 } from '../../support/images.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const LAYER = { mediaType: MediaType.ociLayerGzip, digest: DIGEST, size: 1 };
const MANIFEST = {
  schemaVersion: 2,
  mediaType: MediaType.ociManifest,
  config: { mediaType: MediaType.ociConfig, digest: DIGEST, size: 2 },
  layers: [LAYER],
};
const INDEX = {
  schemaVersion: 2,
  mediaType: MediaType.ociIndex,
  manifests: [{ ...LAYER, mediaType: MediaType.ociManifest }],
};
const parse = (document: unknown, mediaType = ''): ReturnType<typeof parseManifest> =>
  parseManifest(Buffer.from(JSON.stringify(document)), mediaType);

describe('a manifest', () => {
  it('is read as it was written: images, indexes, artifacts and attestations', async () => {
    const one = image({
      layers: [await bulk('a', 100)],
      format: 'oci',
      platform: LINUX_ARM64,
      annotations: { a: 'b' },
    });
    const documents = [one, index([one, attestation(one)]), artifact('application/x', [Buffer.from('x')])];
    for (const { bytes, mediaType } of documents) {
      assert.deepEqual(parseManifest(bytes, mediaType), JSON.parse(bytes.toString()));
    }
  });

  it('is told from an index', () => {
    assert.equal(isIndex(parse(MANIFEST)), false);
    assert.equal(isIndex(parse(INDEX)), true);
  });

  it('has the media type that it is served as when it does not say', () => {
    const { mediaType: _, ...silent } = MANIFEST;
    assert.equal(parse(silent, MediaType.ociManifest).mediaType, MediaType.ociManifest);
    assert.equal(parse(silent, `${MediaType.dockerManifest}; charset=utf-8`).mediaType, MediaType.dockerManifest);
    assert.equal(parse(silent, 'application/json').mediaType, MediaType.ociManifest);
  });

  it('is refused when the registry and itself call it differently', () => {
    assert.throws(() => parse(MANIFEST, MediaType.dockerManifest), { kind: 'corrupt', message: /calls itself/ });
  });

  it('is refused when it is an index to one reader and an image to another', () => {
    for (const document of [
      { ...MANIFEST, manifests: [] },
      { ...INDEX, layers: [] },
      { ...INDEX, config: null },
    ]) {
      assert.throws(() => parse(document), { kind: 'corrupt', message: /ambiguous/ });
    }
    assert.throws(() => parse({ ...INDEX, mediaType: MediaType.ociManifest }), { kind: 'corrupt' });
    assert.throws(() => parse({ ...MANIFEST, mediaType: MediaType.ociIndex }), { kind: 'corrupt' });
  });

  it('of schema 1 is refused with what to do', () => {
    const old = schema1('a', 'b');
    const expected = { kind: 'invalid', message: /schema 1 support has been removed.*push it again/ };
    assert.throws(() => parseManifest(Buffer.from(old.body), old.contentType), expected);
    assert.throws(() => parseManifest(Buffer.from(old.body), 'application/json'), expected);
    assert.throws(() => parse({ ...MANIFEST, mediaType: MediaType.dockerSchema1 }), expected);
  });

  it('of an unknown media type is refused by its name', () => {
    const expected = { kind: 'invalid', message: /unsupported media type application\/x-new/ };
    assert.throws(() => parse({ ...MANIFEST, mediaType: 'application/x-new' }), expected);
    assert.throws(
      () => parse({ schemaVersion: 2, config: MANIFEST.config, layers: [] }, 'application/x-new'),
      expected,
    );
  });

  it('has at most so many layers, manifests and bytes', () => {
    const many = (count: number): unknown[] => new Array<unknown>(count).fill(LAYER);
    const tooMany = { kind: 'invalid', message: /the limit is/ };
    const artifact = { ...MANIFEST, config: { ...MANIFEST.config, mediaType: 'application/x-config' } };
    for (const [manifest, limit] of [
      [MANIFEST, MAX_IMAGE_LAYERS],
      [artifact, MAX_ARTIFACT_LAYERS],
    ] as const) {
      assert.doesNotThrow(() => parse({ ...manifest, layers: many(limit) }));
      assert.throws(() => parse({ ...manifest, layers: many(limit + 1) }), tooMany);
    }
    assert.throws(() => parse({ ...INDEX, manifests: many(MAX_INDEX_MANIFESTS + 1) }), tooMany);
    assert.throws(() => parseManifest(Buffer.alloc(MAX_DOCUMENT_BYTES + 1, ' '), MediaType.ociManifest), tooMany);
  });

  it('has sizes that are numbers of bytes', () => {
    for (const size of [-1, 1.5, 2 ** 53, '1', null, undefined]) {
      assert.throws(() => parse({ ...MANIFEST, layers: [{ ...LAYER, size }] }), {
        kind: 'corrupt',
        message: /layers\[0\]\.size/,
      });
    }
  });

  it('names content by sha256 digests, and says so of others', () => {
    for (const digest of [
      'sha256:abc',
      `sha256:${'A'.repeat(64)}`,
      'x',
      5,
      undefined,
      `sha256:${'a'.repeat(64)}/../x`,
    ]) {
      assert.throws(() => parse({ ...MANIFEST, config: { ...MANIFEST.config, digest } }), { kind: 'corrupt' });
    }
    assert.throws(() => parse({ ...MANIFEST, layers: [{ ...LAYER, digest: `sha512:${'a'.repeat(128)}` }] }), {
      kind: 'invalid',
      message: /layers\[0\]\.digest is a sha512 digest; layerd stores content by sha256 only/,
    });
  });

  it('may have null where Go writes what was never set', () => {
    const document = parse({ ...MANIFEST, layers: null, annotations: null, subject: null });
    assert.deepEqual(document, { ...MANIFEST, layers: [] });
  });

  it('cannot reach the prototype of anything', () => {
    const text = `{"schemaVersion":2,"mediaType":"${MediaType.ociManifest}","config":${JSON.stringify(MANIFEST.config)},
      "layers":[],"annotations":{"__proto__":"x","constructor":"y"},"__proto__":{"polluted":true}}`;
    const document = parseManifest(Buffer.from(text), MediaType.ociManifest);
    assert.equal(Object.getPrototypeOf(document), Object.prototype);
    assert.equal('polluted' in document, false);
    assert.deepEqual(Object.entries(document.annotations ?? {}), [
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });

  it('is refused when an annotation is no string', () => {
    assert.throws(() => parse({ ...MANIFEST, annotations: { a: 1 } }), { kind: 'corrupt', message: /annotations/ });
  });

  it('survives being nested very deeply', () => {
    const deep = `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`;
    const text = `{"schemaVersion":2,"mediaType":"${MediaType.ociManifest}","config":${deep},"layers":[]}`;
    assert.throws(() => parseManifest(Buffer.from(text), ''), { kind: 'corrupt', message: /config is not an object/ });
  });

  it('is either read or refused with a kind, whatever it holds', () => {
    const value = fc.oneof(fc.jsonValue(), fc.constantFrom(DIGEST, MediaType.ociManifest, MediaType.ociIndex, 2));
    const document = fc.record(
      {
        schemaVersion: fc.oneof(fc.constant(2), value),
        mediaType: fc.oneof(fc.constantFrom(MediaType.ociManifest, MediaType.ociIndex), value),
        config: fc.oneof(fc.constant(LAYER), value),
        layers: fc.oneof(fc.constant([LAYER]), fc.array(value)),
        manifests: fc.oneof(fc.constant([LAYER]), fc.array(value)),
        annotations: value,
        subject: value,
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(document, fc.constantFrom('', MediaType.ociManifest, MediaType.ociIndex), (content, mediaType) => {
        try {
          const parsed = parse(content, mediaType);
          assert.equal(parsed.schemaVersion, 2);
        } catch (error) {
          assert.ok(error instanceof LayerdError, String(error));
          assert.match(error.kind, /^(?:invalid|corrupt)$/);
        }
      }),
    );
  });

  it('is refused when it is not JSON in UTF-8', () => {
    assert.throws(() => parseManifest(Buffer.from([0xff, 0xfe]), ''), { kind: 'corrupt' });
    assert.throws(() => parse([]), { kind: 'corrupt' });
  });
});
