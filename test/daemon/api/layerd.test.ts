import assert from 'node:assert/strict';
import { on } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import request from 'supertest';
import { WebSocket } from 'ws';
import { parse } from 'yaml';
import { noticeMessage } from '../../../src/daemon/api/subscriptions/messages.ts';
import type { CopyRequest } from '../../../src/daemon/images/copy.ts';
import type { PublishRequest } from '../../../src/daemon/images/publish.ts';
import type { VerifyRequest } from '../../../src/daemon/images/verify.ts';
import type { Finding } from '../../../src/protocol/engine.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { CloseCode } from '../../../src/protocol/event.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import { Fixture } from './fixture.ts';

interface Definition {
  paths: Record<
    string,
    Record<
      string,
      {
        description?: string;
        parameters?: { name: string }[];
        responses: Record<string, { content?: Record<string, object> }>;
      }
    >
  >;
}

const path = fileURLToPath(new URL('../../../docs/layerd-api.yaml', import.meta.url));
const definition = parse(readFileSync(path, 'utf8')) as Definition;

const MANIFESTS = '/layerd/manifests/{name}';
const EVENTS = '/layerd/events';

/** Whether an operation answers with JSON. */
const hasJson = (operation: Definition['paths'][string][string] | undefined): boolean =>
  operation?.responses['200']?.content?.['application/json'] !== undefined;

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

  describe('to put a manifest', () => {
    const digest = `sha256:${'b'.repeat(64)}` as const;
    let asked: PublishRequest[];
    beforeEach(() => {
      asked = [];
      api.remote.publish = (put) => {
        asked.push(put);
        const { mediaType, bytes } = put;
        return Promise.resolve({ mediaType, digest, size: bytes.byteLength, brought: [digest] });
      };
    });
    const put = (name: string, body: string | Buffer, type: string = MediaType.ociIndex): request.Test =>
      request(api.url)
        .put(`/v1.56/layerd/manifests/${name}`)
        .set('Content-Type', type)
        .send(typeof body === 'string' ? body : body.toString('latin1'));

    it('hand on the bytes as they come, and answer as docs/layerd-api.yaml says', async () => {
      const body = '{ "schemaVersion": 2,\n   "manifests": [] }';
      const account = { username: 'ann', password: 'secret' };
      const from = `from=localhost:5000/a@${digest}&from=localhost:5000/b/c@${digest}`;
      const response = await put(`localhost:5000/team/app:1?${from}`, body)
        .set('X-Registry-Auth', Buffer.from(JSON.stringify(account)).toString('base64url'))
        .expect(201);
      assert.equal(response.headers['docker-content-digest'], digest);
      const schema = `/paths/${escape(MANIFESTS)}/put/responses/201/content/application~1json/schema`;
      const validate = ajv.compile({ $ref: `layerd#${schema}` });
      assert.ok(validate(response.body), ajv.errorsText(validate.errors));
      const [first] = asked;
      assert.equal(Buffer.from(first?.bytes ?? '').toString(), body);
      assert.deepEqual(
        [first?.mediaType, first?.credentials, first?.reference.path, first?.reference.tag],
        [MediaType.ociIndex, account, 'team/app', '1'],
      );
      assert.deepEqual(
        first?.from.map(({ path, digest: named }) => [path, named]),
        [
          ['a', digest],
          ['b/c', digest],
        ],
      );
    });

    it('refuse a document that is too large, whatever more of it comes, and names that are none', async () => {
      const limit = 4 * 1024 * 1024;
      await put('app', ' '.repeat(limit)).expect(201);
      const { body } = (await put('app', ' '.repeat(limit + 1)).expect(400)) as { body: { message: string } };
      assert.match(body.message, /larger than the limit of 4194304 bytes/);
      for (const [name, message] of [
        ['App', /must be lowercase/],
        ['app?from=App', /parameter from: .* must be lowercase/],
      ] as const) {
        const { body: refusal } = (await put(name, '{}').expect(400)) as { body: { message: string } };
        assert.match(refusal.message, message);
      }
      assert.equal(asked.length, 1);
    });
  });

  describe('to verify', () => {
    const verify = (query = ''): request.Test => request(api.url).post(`/v1.56/layerd/verify${query}`).buffer(true);
    const finding = {
      kind: 'blob',
      id: `sha256:${'a'.repeat(64)}`,
      problem: 'damaged',
      reason: 'its file has 3 bytes instead of 4',
      images: ['redis:7'],
      repaired: false,
      error: 'it came from no registry',
    } satisfies Finding;

    it('takes an image, a wish for repair and accounts by registry, and ends with the report', async () => {
      let asked: VerifyRequest | undefined;
      api.remote.verify = async (request, progress) => {
        asked = request;
        await progress({ status: 'found' });
        return { blobs: 3, layers: 1, bytes: 10, findings: [finding] };
      };
      const accounts = {
        'registry.example.com:5000': { username: 'ada', password: 'secret' },
        'https://index.docker.io/v1/': { identitytoken: 'token' },
        'ghcr.io': 'nonsense',
      };
      const answer = await fetch(`${api.url}/v1.56/layerd/verify?image=redis&repair=1`, {
        method: 'POST',
        headers: { 'X-Registry-Config': Buffer.from(JSON.stringify(accounts)).toString('base64url') },
      });
      const lines = (await answer.text())
        .trim()
        .split('\r\n')
        .map((line) => JSON.parse(line) as { status?: string; aux?: unknown });
      assert.equal(lines[0]?.status, 'found');
      const schema = ajv.getSchema('layerd#/components/schemas/Verification');
      assert.ok(schema?.(lines[1]?.aux), JSON.stringify(schema?.errors));
      assert.equal(asked?.image, 'redis');
      assert.equal(asked.repair, true);
      assert.deepEqual(asked.credentialsFor('registry.example.com:5000'), { username: 'ada', password: 'secret' });
      assert.deepEqual(asked.credentialsFor('docker.io'), { identityToken: 'token' });
      assert.equal(asked.credentialsFor('ghcr.io'), undefined);
      assert.equal(asked.credentialsFor('quay.io'), undefined);
    });

    it('only looks by default, at everything', async () => {
      let asked: VerifyRequest | undefined;
      api.remote.verify = (request) => {
        asked = request;
        return Promise.resolve({ blobs: 0, layers: 0, bytes: 0, findings: [] });
      };
      await verify().expect(200);
      assert.equal(asked?.image, undefined);
      assert.equal(asked?.repair, false);
    });

    it('is refused with a status before it begins', async () => {
      api.remote.verify = () => Promise.reject(new LayerdError('conflict', 'a verification is already running'));
      await verify().expect(409, { message: 'a verification is already running' });
      api.remote.verify = () => Promise.reject(new LayerdError('not-found', 'no such image: nothing'));
      await verify('?image=nothing').expect(404);
      api.remote.verify = () => Promise.reject(new Error('must not be asked'));
      const accounts = Buffer.from('{"not a host":{"username":"a","password":"b"}}').toString('base64');
      const { text } = await verify().set('X-Registry-Config', accounts).expect(400);
      assert.match(text, /is not the address of a registry/);
    });
  });

  describe('to copy', () => {
    const copy = (query: string): request.Test => request(api.url).post(`/v1.56/layerd/copy?${query}`).buffer(true);

    it('take each registry’s credentials, and answer with progress', async () => {
      let asked: CopyRequest | undefined;
      api.remote.copy = async (request, progress) => {
        asked = request;
        await progress({ status: 'Copying' });
      };
      const header = (account: object): string => Buffer.from(JSON.stringify(account)).toString('base64url');
      const { text } = await copy('from=redis&to=localhost:5000/redis:7&platform={"os":"linux","architecture":"arm64"}')
        .set('X-Registry-Auth', header({ username: 'nobody' }))
        .set('X-Registry-Auth-From', header({ username: 'ann' }))
        .set('X-Registry-Auth-To', header({ username: 'bob' }))
        .expect(200);
      assert.equal(text, '{"status":"Copying"}\r\n');
      assert.deepEqual([asked?.fromCredentials, asked?.toCredentials], [{ username: 'ann' }, { username: 'bob' }]);
      assert.deepEqual([asked?.from.path, asked?.to.tag], ['library/redis', '7']);
      assert.deepEqual(asked?.platform, { os: 'linux', architecture: 'arm64' });
    });

    it('name the parameter that is wrong', async () => {
      api.remote.copy = () => Promise.reject(new Error('must not be asked'));
      for (const [query, message] of [
        ['to=app', /parameter from: missing/],
        ['from=app', /parameter to: missing/],
        ['from=App&to=app', /parameter from: .* must be lowercase/],
        ['from=app&to=a:b:c', /parameter to: invalid reference format/],
        ['from=app&to=app&platform=linux', /parameter platform: .* is not JSON/],
      ] as const) {
        const { text } = await copy(query).expect(400);
        assert.match(text, message, query);
      }
    });

    it('answer a failure before the first line with its status', async () => {
      api.remote.copy = () => Promise.reject(new LayerdError('unauthorized', 'who are you?'));
      await copy('from=a&to=b').expect(403);
      api.remote.copy = () => Promise.reject(new LayerdError('not-found', 'no such image'));
      await copy('from=a&to=b').expect(404);
    });
  });

  it('are all in docs/layerd-api.yaml, which has none that is not served', () => {
    const defined = Object.entries(definition.paths).flatMap(([path, operations]) =>
      Object.keys(operations)
        .filter((key) => key !== 'parameters')
        .map((method) => `${method.toUpperCase()} ${path}`),
    );
    const { routes } = api;
    const own = routes.filter((route) => /^[A-Z]+ \/(layerd|livez|readyz|metrics)(\/|$)/.test(route));
    assert.ok(own.length >= 13, own.join());
    assert.deepEqual(new Set(own).difference(new Set(defined)), new Set());
    assert.deepEqual(new Set(defined).difference(new Set(routes)), new Set());
  });

  it('are described by the daemon itself, from a file that the package has', async () => {
    const { headers, text } = await request(api.url).get('/v1.40/layerd/openapi.yaml').buffer(true).expect(200);
    assert.equal(headers['content-type'], 'application/yaml');
    assert.deepEqual(parse(text), definition);
    const root = new URL('../../../package.json', import.meta.url);
    const { files } = JSON.parse(readFileSync(root, 'utf8')) as { files: string[] };
    assert.ok(files.includes('docs/layerd-api.yaml'));
  });

  describe('for events', () => {
    const validate = ajv.compile({ $ref: 'layerd#/components/schemas/EventsFrame' });
    const { parameters, responses } = definition.paths[EVENTS]?.['get'] ?? { parameters: [], responses: {} };

    it('send frames as docs/layerd-api.yaml says, one of each kind', async () => {
      for (let count = 0; count < 3; count += 1) {
        api.events.append({ type: 'layer', action: 'create', actor: 'a', attributes: { b: 'c' } });
      }
      const { newest } = api.events.retention();
      api.store.db.run('DELETE FROM event WHERE seq < ?', newest);
      const socket = new WebSocket(`ws+unix://${api.socket}:/v1.56${EVENTS}?cursor=${newest - 2}`);
      const frames: string[] = [];
      for await (const [data] of on(socket, 'message', { close: ['close'] }) as AsyncIterable<[Buffer]>) {
        frames.push(data.toString());
        if (frames.length === 3) socket.send('{"filters":{"event":["pull"]}}');
        if (frames.length === 4) socket.terminate();
      }
      // The one kind that takes 30 seconds to come.
      frames.push(noticeMessage({ kind: 'bookmark', seq: newest }));
      for (const frame of frames)
        assert.ok(validate(JSON.parse(frame)), `${frame}\n${ajv.errorsText(validate.errors)}`);
      assert.deepEqual(
        frames.map((frame) => /^\{"(\w+)"/.exec(frame)?.[1]),
        ['hello', 'gap', 'Type', 'filters', 'bookmark'],
      );
      assert.ok(!validate({ nothing: 1 }));
    });

    it('have a reference of every close code, parameter and status', async () => {
      const { description = '' } = definition.paths[EVENTS]?.['get'] ?? {};
      for (const code of Object.values(CloseCode)) assert.ok(description.includes(`| ${code} |`), String(code));
      assert.deepEqual(
        parameters?.map(({ name }) => name),
        ['cursor', 'since', 'until', 'filters', 'progress', 'Last-Event-ID'],
      );
      for (const [query, status] of [
        ['cursor=x', 400],
        ['cursor=999999', 409],
      ] as const) {
        await request(api.url).get(`/v1.56${EVENTS}?${query}`).expect(status);
        assert.ok(responses[String(status)] !== undefined);
      }
    });
  });

  // Names of image sets are no images: sets.test.ts holds them to the definition.
  const paths = Object.keys(definition.paths).filter((path) => path !== '/layerd/sets/{name}');
  for (const path of paths.filter((each) => hasJson(definition.paths[each]?.['get']))) {
    it(`answer as docs/layerd-api.yaml says: ${path}`, async () => {
      const names: [string, number][] = path.includes('{name}')
        ? [
            ['redis:7', 200],
            ['localhost:5000/team/app:1.0', 200],
            ['nothing', 404],
            ['%2e%2e%2fetc', 400],
          ]
        : path.includes('{id}')
          ? [
              [api.demands.begin({ verb: 'pull', reference: 'redis:7', client: 'ann' }).id, 200],
              ['nothing', 404],
            ]
          : [['', 200]];
      for (const [name, status] of names) {
        const { text } = await request(api.url)
          .get(`/v1.56${path.replace(/\{(name|id)\}/, name)}`)
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
