import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, it } from 'node:test';
import request, { type Response } from 'supertest';
import type { AttestationStatement } from '../../../src/protocol/engine.ts';
import { AMD64, ARM64, PROVENANCE, sha256, type TestManifest } from '../images/fixture.ts';
import { loadContract } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const SBOM = 'https://spdx.dev/Document';
/** Not as a program would write it: what is served has to be these very bytes. */
const PROVENANCE_TEXT = '{ "predicateType":"x",\n "n": 1.50 }';
const SBOM_TEXT = JSON.stringify({ files: Array.from({ length: 5000 }, (_, index) => `/usr/lib/${index}/é`) });

describe('GET /images/{name}/attestations', () => {
  let api: Fixture;
  let amd64: TestManifest;
  beforeEach(async () => {
    api = await Fixture.start();
    const { store } = api;
    amd64 = await store.manifest([store.layer('amd64')]);
    const arm64 = await store.manifest([store.layer('arm64')], { platform: ARM64 });
    const attestation = await store.attestation(amd64, [
      [PROVENANCE, PROVENANCE_TEXT],
      [SBOM, SBOM_TEXT],
      ['', '{"of":"no type"}'],
    ]);
    const target = await store.index([amd64.descriptor, arm64.descriptor, attestation.descriptor]);
    store.put('app:1', [amd64, arm64, attestation], { target });
    await store.image('plain:1', [store.layer('plain')]);
    await store.image('foreign:1', [store.layer('foreign')], { platform: ARM64 });
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function get(target: string, version = '1.56'): Promise<Response> {
    const path = `/v${version}/images/${target}`;
    const response = await request(`http+unix://${encodeURIComponent(api.socket)}`)
      .get(path)
      .buffer(true);
    contract?.check('GET', path, { status: response.status, headers: response.headers, text: response.text });
    return response;
  }
  const statements = async (target: string): Promise<AttestationStatement[]> => {
    const response = await get(target);
    assert.equal(response.status, 200, response.text);
    return response.body as AttestationStatement[];
  };
  const types = async (target: string): Promise<string[]> =>
    (await statements(target)).map(({ PredicateType }) => PredicateType);
  const platform = (value: object): string => `platform=${encodeURIComponent(JSON.stringify(value))}`;

  it('tells the statements about the manifest for this host, without what they say', async () => {
    const [first, second, ...others] = await statements('app:1/attestations');
    assert.deepEqual(first, {
      Descriptor: {
        mediaType: 'application/vnd.in-toto+json',
        digest: sha256(PROVENANCE_TEXT),
        size: PROVENANCE_TEXT.length,
        annotations: { 'in-toto.io/predicate-type': PROVENANCE },
      },
      PredicateType: PROVENANCE,
    });
    assert.equal(second?.PredicateType, SBOM);
    assert.deepEqual(others, []);
    assert.deepEqual(await statements('app:1/attestations?statement=0'), [first, second]);
  });

  it('tells what they say, byte for byte', async () => {
    const { text } = await get('app:1/attestations?statement=1');
    assert.ok(text.includes(`"Statement":${PROVENANCE_TEXT}}`));
    assert.ok(text.includes(`"Statement":${SBOM_TEXT}}`));
    const body = JSON.parse(text) as AttestationStatement[];
    assert.deepEqual(body[1]?.Statement, JSON.parse(SBOM_TEXT));
    assert.deepEqual(api.store.db.all('SELECT id FROM lease'), []);
  });

  it('tells those of some types alone', async () => {
    const type = (uri: string): string => `type=${encodeURIComponent(uri)}`;
    assert.deepEqual(await types(`app:1/attestations?${type(SBOM)}`), [SBOM]);
    assert.deepEqual(await types(`app:1/attestations?${type(SBOM)}&${type(PROVENANCE)}`), [PROVENANCE, SBOM]);
    assert.deepEqual(await types(`app:1/attestations?${type('none')}`), []);
    assert.deepEqual(await types('app:1/attestations?type='), [PROVENANCE, SBOM]);
  });

  it('tells those of a platform, by whatever name the image goes', async () => {
    assert.deepEqual(await types(`app:1/attestations?${platform(AMD64)}`), [PROVENANCE, SBOM]);
    assert.deepEqual(await types(`app:1/attestations?${platform(ARM64)}`), []);
    assert.deepEqual(await types(`${amd64.stored.configDigest}/attestations`), [PROVENANCE, SBOM]);
  });

  it('tells none of an image that is no index, whoever it is for', async () => {
    assert.deepEqual(await types('plain:1/attestations?statement=1'), []);
    assert.deepEqual(await types('foreign:1/attestations'), []);
  });

  it('refuses what it cannot serve', async () => {
    const { store } = api;
    const arm64 = await store.manifest([store.layer('arm64 only')], { platform: ARM64 });
    store.put('arm:1', [arm64], { target: await store.index([arm64.descriptor]) });
    for (const [target, status, message] of [
      ['nothing/attestations', 404, /No such image: nothing:latest/],
      ['%2e%2e%2fetc/attestations', 400, /invalid image name/],
      [
        `app:1/attestations?${platform({ os: 'windows', architecture: 'amd64' })}`,
        404,
        /does not provide the specified platform/,
      ],
      ['arm:1/attestations', 404, /no manifest for the platform of this host \(linux\/amd64\)/],
      ['app:1/attestations?platform=linux', 400, /parameter platform: /],
      ['app:1/attestations?platform=', 400, /parameter platform: /],
      [`app:1/attestations?${platform(AMD64)}&${platform(ARM64)}`, 400, /parameter platform: given more than once/],
    ] as const) {
      const response = await get(target);
      assert.equal(response.status, status, target);
      assert.match(response.text, message);
    }
    const older = await get('app:1/attestations', '1.54');
    assert.equal(older.status, 400);
    assert.match(older.text, /requires minimum API version 1\.55/);
    assert.equal((await get('app:1/attestations', '1.55')).status, 200);
  });

  it('serves no statement that would break out of the answer, and none by halves', async () => {
    const { store } = api;
    for (const text of ['{}},{"Descriptor":{}', '"text"', '{"a":', '[{}]', '']) {
      const attestation = await store.attestation(amd64, [
        [SBOM, SBOM_TEXT],
        [PROVENANCE, text],
      ]);
      const target = await store.index([amd64.descriptor, attestation.descriptor]);
      store.put('hostile:1', [amd64, attestation], { target });
      assert.equal((await get('hostile:1/attestations')).status, 200);
      const response = await get('hostile:1/attestations?statement=true');
      assert.equal(response.status, 500);
      assert.match(response.text, /the statement sha256:[0-9a-f]+ of hostile:1 is not a JSON object/);
    }
    assert.deepEqual(store.db.all('SELECT id FROM lease'), []);
  });

  it('names a statement whose file is gone', async () => {
    const { content, db } = api.store;
    await rm(content.path(sha256(SBOM_TEXT)));
    assert.equal((await get('app:1/attestations?statement=1')).status, 500);
    await writeFile(content.path(sha256(SBOM_TEXT)), SBOM_TEXT);
    db.run('DELETE FROM blob WHERE digest = ?', sha256(SBOM_TEXT));
    assert.match((await get('app:1/attestations?statement=1')).text, /is not stored; pull the image again/);
  });
});
