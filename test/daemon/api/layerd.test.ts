import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import request from 'supertest';
import { parse } from 'yaml';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import { Fixture } from './fixture.ts';

interface Definition {
  paths: Record<string, Record<string, { responses: Record<string, object> }>>;
}

const path = fileURLToPath(new URL('../../../docs/layerd-api.yaml', import.meta.url));
const definition = parse(readFileSync(path, 'utf8')) as Definition;

describe("layerd's own endpoints", () => {
  const ajv = new Ajv({ strict: false, validateFormats: false }).addSchema(definition, 'layerd');
  let api: Fixture;
  before(async () => {
    api = await Fixture.start();
    await api.fill();
    api.registryReports = [
      { registry: 'docker.io', rateLimit: { limit: 100, remaining: 76, at: '2026-01-01T00:00:00Z' } },
      { registry: 'ghcr.io' },
    ];
  });
  after(() => api[Symbol.asyncDispose]());

  const escape = (text: string): string => text.replaceAll('~', '~0').replaceAll('/', '~1');

  it('serve a manifest byte for byte, with its media type and digest', async () => {
    const bytes = Buffer.from('{ "schemaVersion": 2 }\n');
    const descriptor = {
      mediaType: MediaType.ociIndex,
      digest: `sha256:${'a'.repeat(64)}` as const,
      size: bytes.length,
    };
    api.remote.remoteManifest = ({ path, tag }) => {
      assert.deepEqual([path, tag], ['library/redis', 'latest']);
      return Promise.resolve({ descriptor, bytes });
    };
    const response = await request(api.url).get('/v1.56/layerd/manifests/redis').buffer(true).expect(200);
    assert.equal(response.headers['content-type'], MediaType.ociIndex);
    assert.equal(response.headers['docker-content-digest'], descriptor.digest);
    assert.equal(response.text, bytes.toString());
  });

  it('ask for referrers with the account, of a platform and of a type', async () => {
    const asked: unknown[] = [];
    api.remote.referrers = ({ registry, path }, digest, { artifactType, credentials } = {}) => {
      asked.push([registry, path, digest, artifactType, credentials]);
      return Promise.resolve([]);
    };
    const platform = JSON.stringify({ os: 'linux', architecture: 'amd64' });
    const account = Buffer.from('{"username":"ann","password":"s3cret"}').toString('base64url');
    const get = (name: string, query: Record<string, string>): request.Test =>
      request(api.url).get(`/v1.56/layerd/images/${name}/referrers`).query(query).set('X-Registry-Auth', account);
    const ofIndex = await get('redis:7', { artifactType: 'application/spdx+json' }).expect(200);
    const ofPlatform = await get('redis:7', { platform }).expect(200);
    const [index, manifest] = [ofIndex, ofPlatform].map(({ body }) => (body as { digest: string }).digest);
    assert.notEqual(index, manifest);
    const credentials = { username: 'ann', password: 's3cret' };
    assert.deepEqual(asked, [
      ['docker.io', 'library/redis', index, 'application/spdx+json', credentials],
      ['docker.io', 'library/redis', manifest, undefined, credentials],
    ]);
    const malformed = await get('redis:7', { platform: 'linux/amd64' }).expect(400);
    assert.match(malformed.text, /parameter platform: /);
    const other = JSON.stringify({ os: 'windows', architecture: 'amd64' });
    assert.match(
      (await get('redis:7', { platform: other }).expect(404)).text,
      /does not provide the specified platform/,
    );
    api.remote.referrers = () => Promise.reject(new LayerdError('forbidden', 'denied: not yours'));
    assert.deepEqual((await get('redis:7', {}).expect(403)).body, { message: 'denied: not yours' });
    assert.equal(asked.length, 2);
    api.remote.referrers = () => Promise.resolve([]);
  });

  for (const path of Object.keys(definition.paths).filter((path) => !path.startsWith('/layerd/manifests/'))) {
    it(`answer as docs/layerd-api.yaml says: ${path}`, async () => {
      const names: [string, number][] = path.includes('{name}')
        ? [
            ['redis:7', 200],
            ['localhost:5000/team/app:1.0', 200],
            ['nothing', 404],
            ['%2e%2e%2fetc', 400],
          ]
        : [['', 200]];
      for (const [name, status] of names) {
        const { text } = await request(api.url)
          .get(`/v1.56${path.replace('{name}', name)}`)
          .buffer(true)
          .expect(status);
        const response = `/paths/${escape(path)}/get/responses/${status}`;
        const isShared = status !== 200;
        const pointer = isShared ? '/components/schemas/Error' : `${response}/content/application~1json/schema`;
        assert.ok(definition.paths[path]?.['get']?.responses[String(status)] !== undefined, `${path} has no ${status}`);
        const validate = ajv.compile({ $ref: `layerd#${pointer}` });
        assert.ok(validate(JSON.parse(text)), `${text}\n${ajv.errorsText(validate.errors)}`);
      }
    });
  }
});
