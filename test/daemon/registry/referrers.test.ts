import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { hexOf } from '../../../src/protocol/digest.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import type { Descriptor } from '../../../src/protocol/oci.ts';
import { artifact, image, layer, push, referrersIndex, type TestImage } from '../../support/images.ts';
import { needs } from '../../support/process.ts';
import { startProxy, type Proxy } from '../../support/proxy.ts';
import { startRegistry, type Registry } from '../../support/registry.ts';
import { repositoryAt, startClient, type Client } from './harness.ts';

const SBOM = 'application/spdx+json';
const SIGNATURE = 'application/vnd.dev.cosign.artifact.sig.v1+json';

describe('the referrers of a manifest', { skip: needs('docker-registry') }, () => {
  let registry: Registry;
  let proxy: Proxy;
  let client: Client;
  let subject: TestImage;
  let other: TestImage;
  let sbom: TestImage;
  let signature: TestImage;
  let index: TestImage;
  before(async () => {
    registry = await startRegistry();
    proxy = await startProxy(registry);
    subject = image({ layers: [await layer([{ name: 'app' }])], format: 'oci' });
    other = image({ layers: [await layer([{ name: 'other' }])], format: 'oci' });
    sbom = artifact(SBOM, [Buffer.from('{}')]);
    signature = artifact(SIGNATURE, [Buffer.from('signed')]);
    index = referrersIndex([
      [sbom, SBOM],
      [signature, SIGNATURE],
    ]);
    for (const each of [subject, other]) await push(registry.host, 'team/app', each.digest, each);
    await push(registry.host, 'team/app', `sha256-${hexOf(subject.digest)}`, index);
  });
  after(async () => {
    await proxy.stop();
    await registry.stop();
  });
  beforeEach(() => {
    client = startClient();
  });
  afterEach(async () => {
    await client[Symbol.asyncDispose]();
    proxy.reset();
  });

  const referrers = (of: TestImage = subject, artifactType?: string): Promise<Descriptor[]> =>
    client.registries.referrers(repositoryAt(proxy.host), of.digest, { artifactType });
  /** Puts the API in front of the registry: one page for each list of manifests, by the query that asks for it. */
  const serveApi = (pages: Record<string, { readonly of: readonly TestImage[]; readonly next?: string }>): void => {
    for (const [query, { of, next }] of Object.entries(pages)) {
      proxy.inject({
        path: new RegExp(`/referrers/${subject.digest}${query.replace('?', '\\?')}$`),
        answer: {
          status: 200,
          headers: {
            'Content-Type': MediaType.ociIndex,
            ...(next === undefined ? {} : { Link: `<${next}>; rel="next"` }),
          },
          body: referrersIndex(of.map((each) => [each, each === sbom ? SBOM : SIGNATURE])).bytes.toString(),
        },
      });
    }
  };

  it('are those of the tag of its digest, where the registry has no API for them', async () => {
    assert.deepEqual(
      (await referrers()).map(({ digest, artifactType, annotations }) => [digest, artifactType, annotations]),
      [
        [sbom.digest, SBOM, { about: SBOM }],
        [signature.digest, SIGNATURE, { about: SIGNATURE }],
      ],
    );
    assert.deepEqual(
      (await referrers(subject, SBOM)).map(({ digest }) => digest),
      [sbom.digest],
    );
    assert.deepEqual(
      proxy.seen.map(({ path, status }) => [path.replace(/\?.*/, '').split('/').at(-2), status]),
      Array(2)
        .fill([
          ['referrers', 404],
          ['manifests', 200],
        ])
        .flat(),
    );
  });

  it('are none where nothing refers to it', async () => {
    assert.deepEqual(await referrers(other), []);
  });

  it('are those of the API, all pages of it, filtered here where the registry does not', async () => {
    const path = `/v2/team/app/referrers/${subject.digest}`;
    serveApi({
      '': { of: [sbom], next: `${path}?page=2` },
      [`?${new URLSearchParams({ artifactType: SIGNATURE }).toString()}`.replaceAll('+', '\\+')]: {
        of: [sbom],
        next: `${path}?page=2`,
      },
      '?page=2': { of: [signature] },
    });
    assert.deepEqual(
      (await referrers()).map(({ digest }) => digest),
      [sbom.digest, signature.digest],
    );
    assert.deepEqual(
      (await referrers(subject, SIGNATURE)).map(({ digest }) => digest),
      [signature.digest],
    );
  });

  it('are never shown in part', async () => {
    const path = `/v2/team/app/referrers/${subject.digest}`;
    serveApi({ '': { of: [sbom], next: `${path}?page=2` } });
    await assert.rejects(referrers(), { kind: 'unavailable', message: /links to a page .* that it does not have/ });
    proxy.reset();
    serveApi({ '': { of: [sbom], next: `${path}?again` }, '?again': { of: [sbom], next: `${path}?again` } });
    await assert.rejects(referrers(), { kind: 'invalid', message: /more referrers .* than fit/ });
    proxy.reset();
    serveApi({ '': { of: [sbom], next: '/v2/other/referrers/all' } });
    await assert.rejects(referrers(), { kind: 'forbidden' });
  });

  it('are not those of a page for browsers', async () => {
    proxy.inject({
      path: /referrers/,
      answer: { status: 200, headers: { 'Content-Type': 'text/html' }, body: '<html>' },
    });
    assert.equal((await referrers()).length, 2);
  });

  it('are refused in the registry’s words, and for what is no index', async () => {
    const denied = '{"errors":[{"code":"DENIED","message":"not yours"}]}';
    proxy.inject({ path: /referrers/, answer: { status: 403, body: denied } });
    await assert.rejects(referrers(), { message: /not yours/ });
    proxy.reset();
    proxy.inject({ path: /sha256-/, answer: { status: 403, body: denied } });
    await assert.rejects(referrers(), { message: /not yours/ });
    proxy.reset();
    const headers = { 'Content-Type': MediaType.ociManifest };
    proxy.inject({ path: /sha256-/, answer: { status: 200, headers, body: sbom.bytes.toString() } });
    await assert.rejects(referrers(), { kind: 'corrupt', message: /should be an index/ });
  });
});
