import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { get } from 'node:http';
import { createConnection } from 'node:net';
import { text } from 'node:stream/consumers';
import request, { type Test } from 'supertest';
import { unservedOperations } from '../../../src/daemon/api/unserved.ts';
import { LayerdError, type ErrorKind } from '../../../src/protocol/errors.ts';
import { loadContract, MISSING } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();
const withContract = { skip: contract === undefined ? MISSING : false };

type Method = 'get' | 'post' | 'delete' | 'head' | 'put';

describe('the API over its socket', () => {
  let api: Fixture;
  beforeEach(async () => {
    api = await Fixture.start();
  });
  afterEach(() => api[Symbol.asyncDispose]());

  /** Sends a request over the Unix socket. */
  const send = (method: Method, target: string): Test =>
    request(`http+unix://${encodeURIComponent(api.socket)}`)[method](target);

  /** Sends a request and holds the answer to the definition. */
  async function call(method: Method, target: string, status = 200): Promise<unknown> {
    const response = await send(method, target).buffer(true);
    assert.equal(response.status, status, response.text);
    contract?.check(method.toUpperCase(), target, response);
    return response.text === '' ? undefined : JSON.parse(response.text);
  }

  /** Gets a path to the letter, which clients would have tidied up. */
  const raw = (path: string): Promise<{ status: number | undefined; text: string }> =>
    new Promise((resolve, reject) => {
      get({ socketPath: api.socket, path }, (response) => {
        text(response).then((body) => resolve({ status: response.statusCode, text: body }), reject);
      }).once('error', reject);
    });

  describe('versions', () => {
    it('are served from 1.12 to 1.56, and the newest without a prefix', async () => {
      for (const prefix of ['', '/v1.12', '/v1.22', '/v1.41', '/v1.56']) {
        const version = (await call('get', `${prefix}/version`)) as { ApiVersion: string; MinAPIVersion: string };
        assert.equal(version.ApiVersion, '1.56');
        assert.equal(version.MinAPIVersion, '1.12');
      }
    });

    const refused: [string, RegExp][] = [
      ['/v1.99/info', /^client version 1\.99 is too new\. Maximum supported API version is 1\.56$/],
      ['/v2.0/info', /^client version 2\.0 is too new\. Maximum supported API version is 1\.56$/],
      [
        '/v1.11/info',
        /^client version 1\.11 is too old\. Minimum supported API version is 1\.12, please upgrade your client to a newer version$/,
      ],
      ['/v0.5/info', /too old/],
      ['/v1./info', /malformed API version "1\."/],
      ['/v1.2.3/info', /malformed API version "1\.2\.3"/],
    ];
    for (const [target, message] of refused) {
      it(`that cannot be served are refused: ${target}`, async () => {
        assert.match(((await call('get', target, 400)) as { message: string }).message, message);
      });
    }

    it('are no part of a path that only looks like one', async () => {
      assert.deepEqual(await (await send('get', '/vnext/info').expect(404)).body, { message: 'page not found' });
    });

    it('are told in the headers of every answer, errors too', async () => {
      for (const target of ['/_ping', '/nowhere', '/v1.99/info', '/containers/json']) {
        const { headers } = await send('get', target);
        assert.equal(headers['api-version'], '1.56');
        assert.equal(headers['docker-experimental'], 'false');
        assert.equal(headers['ostype'], 'linux');
        assert.equal(headers['server'], 'layerd/1.2.3 (linux)');
      }
    });

    it('from before 1.24 get errors as plain text', async () => {
      const response = await send('get', '/v1.22/images/nothing/json').expect(404);
      assert.match(String(response.headers['content-type']), /^text\/plain/);
      assert.match(response.text, /^No such image: nothing/i);
    });
  });

  describe('the system', () => {
    it('answers a ping, with headers alone on HEAD', async () => {
      const get = await send('get', '/_ping')
        .expect(200, 'OK')
        .expect('Cache-Control', /no-cache/);
      contract?.check('GET', '/_ping', get);
      const head = await send('head', '/v1.30/_ping').expect(200).expect('Content-Length', '0');
      contract?.check('HEAD', '/_ping', {
        status: head.status,
        headers: head.headers,
        text: '',
      });
    });

    it('describes itself, its host and its registries', withContract, async () => {
      await api.fill();
      api.config = {
        debug: true,
        insecureRegistries: ['registry.lan:5000', '10.0.0.0/8'],
        mirrors: ['https://mirror.lan'],
        proxies: { http: 'http://user:secret@proxy.lan:3128', https: 'user:secret@proxy.lan', no: '.lan' },
      };
      const info = (await call('get', '/info')) as Record<string, unknown>;
      assert.equal(info['Driver'], 'erofs');
      assert.equal(info['Images'], 4);
      assert.equal(info['IndexServerAddress'], 'https://index.docker.io/v1/');
      assert.equal(info['HttpProxy'], 'http://xxxxx:xxxxx@proxy.lan:3128');
      assert.equal(info['HttpsProxy'], 'xxxxx:xxxxx@proxy.lan');
      assert.deepEqual(info['RegistryConfig'], {
        InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8', '10.0.0.0/8'],
        IndexConfigs: {
          'docker.io': { Name: 'docker.io', Mirrors: ['https://mirror.lan/'], Secure: true, Official: true },
          'registry.lan:5000': { Name: 'registry.lan:5000', Mirrors: [], Secure: false, Official: false },
        },
        Mirrors: ['https://mirror.lan/'],
      });
      for (const version of ['1.24', '1.40', '1.46', '1.48', '1.49']) await call('get', `/v${version}/info`);
      const kernelMemory = async (version: string): Promise<unknown[]> => {
        const older = (await call('get', `/v${version}/info`)) as Record<string, unknown>;
        return [older['KernelMemory'], older['KernelMemoryTCP']];
      };
      assert.deepEqual(await kernelMemory('1.41'), Array(2).fill(info['OomKillDisable']));
      assert.deepEqual(await kernelMemory('1.42'), [undefined, undefined]);
    });
  });

  describe('images', () => {
    beforeEach(() => api.fill());

    it('are listed, inspected and explained as the definition says', withContract, async () => {
      const list = (await call('get', '/images/json?shared-size=1&manifests=1')) as { RepoTags: string[] }[];
      assert.deepEqual(list.flatMap(({ RepoTags }) => RepoTags).sort(), [
        'debian:12',
        'localhost:5000/team/app:1.0',
        'redis:7',
      ]);
      await call('get', '/images/json?manifests=1&identity=1');
      // It came with 1.54.
      await call('get', '/v1.53/images/json?identity=1');
      await call('get', '/images/json?identity=1', 400);
      for (const name of ['redis:7', 'localhost:5000/team/app:1.0']) {
        await call('get', `/images/${name}/json`);
        await call('get', `/images/${encodeURIComponent(name)}/json?manifests=true`);
        await call('get', `/images/${name}/history`);
      }
    });

    it('that do not say when they were made are told of as the definition says', withContract, async () => {
      const { store } = api;
      const config = {
        created: '',
        history: [{ created_by: 'make' }],
        container: 'abc',
        container_config: { Cmd: ['x'] },
      };
      await store.image('ageless:1', [store.layer('ageless')], { config });
      for (const [version, zero] of [
        ['1.41', -62_135_596_800],
        ['1.56', 0],
      ] as const) {
        const list = (await call('get', `/v${version}/images/json`)) as { RepoTags: string[]; Created: number }[];
        assert.equal(list.find(({ RepoTags }) => RepoTags.includes('ageless:1'))?.Created, zero);
        const history = (await call('get', `/v${version}/images/ageless:1/history`)) as { Created: number }[];
        assert.deepEqual(
          history.map(({ Created }) => Created),
          [zero],
        );
      }
      const image = (await call('get', '/v1.41/images/ageless:1/json')) as Record<string, unknown>;
      assert.equal(image['Container'], 'abc');
      assert.deepEqual((image['ContainerConfig'] as Record<string, unknown>)['Cmd'], ['x']);
    });

    it('are found by names with slashes, as they are or percent-encoded', async () => {
      const plain = await call('get', '/images/localhost:5000/team/app:1.0/json');
      assert.deepEqual(await call('get', '/images/localhost%3A5000%2Fteam%2Fapp%3A1.0/json'), plain);
    });

    it('are found by filters in either form, and refuse what is not one', async () => {
      const listed = async (version: string, query: Record<string, string>): Promise<string[]> => {
        const list = await call('get', `${version}/images/json?${new URLSearchParams(query).toString()}`);
        return (list as { RepoTags: string[] }[]).flatMap(({ RepoTags }) => RepoTags);
      };
      assert.deepEqual(await listed('', { filters: '{"reference":["redis"]}' }), ['redis:7']);
      assert.deepEqual(await listed('', { filters: '{"label":{"team=cache":true}}' }), ['redis:7']);
      assert.deepEqual(await listed('/v1.24', { filter: 'redis' }), ['redis:7']);
      for (const filters of ['{', '[]', '{"label":1}', '{"nonsense":["a"]}']) {
        const refused = await call('get', `/images/json?filters=${encodeURIComponent(filters)}`, 400);
        assert.match((refused as { message: string }).message, /invalid filter/);
      }
      const [redis] = (await call('get', '/images/json?filters={"reference":["redis"]}')) as { Id: string }[];
      const start = redis?.Id.slice('sha256:'.length, 19) ?? '';
      const before = encodeURIComponent(JSON.stringify({ before: [start] }));
      assert.equal(((await call('get', `/images/json?filters=${before}`)) as unknown[]).length, 1);
      const refusals: [string, string, number, RegExp][] = [
        ['before', 'nothing:here', 404, /^No such image: nothing:here$/],
        ['since', 'abcdef012345', 404, /^No such image: abcdef012345/],
        ['since', 'Not A Name', 400, /invalid reference format/],
        ['until', 'soon', 400, /^failed to parse value as time or duration: "soon"/],
        ['until', '2025-13-01', 400, /^failed to parse value as time or duration/],
        ['reference', '[', 400, /^syntax error in pattern/],
        ['dangling', 'perhaps', 400, /^invalid filter 'dangling=\[perhaps\]'/],
      ];
      for (const [name, value, status, message] of refusals) {
        const filters = encodeURIComponent(JSON.stringify({ [name]: [value] }));
        const refused = await call('get', `/images/json?filters=${filters}`, status);
        assert.match((refused as { message: string }).message, message);
      }
    });

    it('are chosen by a platform, whose form is checked', async () => {
      const query = (value: string): string => `/images/redis:7/json?platform=${encodeURIComponent(value)}`;
      await call('get', query('{"os":"linux","architecture":"amd64"}'));
      for (const value of ['linux/amd64', '{"os":"linux"}', '[]']) {
        const refused = (await call('get', query(value), 400)) as { message: string };
        assert.match(refused.message, /^parameter platform: .*platform/);
      }
      // It came with 1.49; before that it is ignored, as dockerd does.
      await call('get', query('linux/amd64').replace('/images', '/v1.48/images'));
      await call(
        'get',
        '/images/redis:7/json?manifests=1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D',
        400,
      );
    });

    it('are refused by names that no image can have', async () => {
      for (const name of ['..%2F..%2Fetc%2Fpasswd', 'a%2F%2Fb', '%2e%2e', 'a%00b', 'a%0Ab', '%20', 'a'.repeat(2000)]) {
        const refused = await raw(`/images/${name}/json`);
        assert.equal(refused.status, 400);
        assert.match(refused.text, /image name/);
      }
      assert.equal((await raw('/images/%E0%A4%A/json')).status, 400);
      await call('get', '/images/nothing/json', 404);
    });

    it('are removed, and what became of them is told and logged as events', withContract, async () => {
      const items = (await call('delete', '/images/localhost:5000/team/app:1.0')) as Record<string, string>[];
      assert.deepEqual(items[0], { Untagged: 'localhost:5000/team/app:1.0' });
      assert.ok(items.some((item) => item['Deleted']?.startsWith('sha256:')));
      await call('get', '/images/localhost:5000/team/app:1.0/json', 404);
      const events = await send('get', '/events?since=0&until=0s').set('Accept', 'application/jsonl').buffer(true);
      assert.match(events.text, /"Action":"untag"/);
      assert.match(events.text, /"Action":"delete"/);
    });

    it('show their layers with all three identities, and who shares them', async () => {
      const { text: report } = await send('get', '/layerd/images/redis:7/layers').buffer(true).expect(200);
      const [base] = JSON.parse(report) as Record<string, unknown>[];
      assert.deepEqual(Object.keys(base ?? {}).sort(), [
        'blobSize',
        'chainId',
        'diffId',
        'imageSize',
        'layerDigest',
        'mediaType',
        'sharedWith',
        'size',
      ]);
    });
  });

  describe('what is not served', () => {
    it('is each method that a path does not have, HEAD where it has GET too', async () => {
      await api.fill();
      for (const path of ['/images/json', '/images/redis:7/json', '/version', '/v1.41/info', '/layerd/registries']) {
        const response = await send('head', path).expect(404);
        assert.match(String(response.headers['content-type']), /^application\/json/);
      }
      await send('head', '/events').expect(404);
      await send('head', '/containers/a/archive?path=/').expect(501);
      assert.deepEqual((await send('post', '/version').expect(404)).body, { message: 'page not found' });
    });

    it('is all of the definition that is not served, each as not implemented', withContract, async () => {
      const served = new Set([
        'GET /images/json',
        'POST /images/create',
        'POST /images/prune',
        'GET /system/df',
        'GET /images/{name}/json',
        'GET /images/{name}/history',
        'DELETE /images/{name}',
        'POST /images/{name}/tag',
        'POST /images/{name}/push',
        'GET /images/{name}/get',
        'GET /images/get',
        'POST /images/load',
        'GET /info',
        'GET /version',
        'GET /_ping',
        'HEAD /_ping',
        'GET /events',
        'GET /distribution/{name}/json',
        'GET /images/search',
        'GET /images/{name}/attestations',
        'POST /auth',
      ]);
      for (const { method, path } of contract?.operations() ?? []) {
        if (served.has(`${method} ${path}`)) continue;
        const target = path.replace(/\{\w+\}/g, 'some');
        const response = await send(method.toLowerCase() as Method, target);
        assert.equal(response.status, 501, `${method} ${path}`);
        if (method !== 'HEAD') contract?.check(method, target, response);
      }
    });

    it('is named with its area and the request', async () => {
      const body = (await send('get', '/v1.50/containers/json?all=1').expect(501)).body as unknown;
      assert.match((body as { message: string }).message, /does not serve containers \(GET \/containers\/json\)/);
      assert.ok(unservedOperations.length > 90);
    });

    it('is not found where the Engine has no such endpoint, or not with that method', async () => {
      for (const [method, target] of [
        ['get', '/nowhere'],
        ['get', '/'],
        ['post', '/images/json'],
        ['put', '/info'],
        ['get', '/INFO'],
        ['get', '/images/json/../../etc'],
      ] as const) {
        const body = (await send(method, target).expect(404)).body as unknown;
        assert.deepEqual(body, { message: 'page not found' });
      }
    });

    it('answers a client that sends a large body all the same, and cuts it off', async () => {
      const connection = createConnection(api.socket);
      connection.write('POST /build HTTP/1.1\r\nHost: layerd\r\nContent-Length: 1000000000\r\n\r\n');
      connection.on('error', () => undefined);
      const chunk = Buffer.alloc(64 * 1024);
      const pump = (): void => {
        while (!connection.destroyed && connection.write(chunk));
      };
      connection.on('drain', pump);
      pump();
      let answer = '';
      connection.on('data', (data) => (answer += data.toString()));
      await new Promise((resolve) => connection.once('close', resolve));
      assert.match(answer, /^HTTP\/1\.1 501 /);
      assert.ok(connection.bytesWritten < 100_000_000);
    });
  });

  describe('errors', () => {
    const statuses: [ErrorKind, number][] = [
      ['invalid', 400],
      ['unauthorized', 401],
      ['forbidden', 403],
      ['not-found', 404],
      ['conflict', 409],
      ['too-many-requests', 429],
      ['not-implemented', 501],
      ['unavailable', 503],
      ['no-space', 507],
    ];
    for (const [kind, status] of statuses) {
      it(`of the class ${kind} are answered by ${status}`, async () => {
        api.remote.distribution = () => Promise.reject(new LayerdError(kind, 'the registry said why'));
        const body = (await send('get', '/distribution/redis/json').expect(status)).body as unknown;
        assert.deepEqual(body, { message: 'the registry said why' });
      });
    }

    it('of credentials are answered by 403 to a pull, at whose 401 the docker CLI would wait for somebody to type', async () => {
      api.remote.pull = () => Promise.reject(new LayerdError('unauthorized', 'the registry said why'));
      const body = (await send('post', '/images/create?fromImage=redis&tag=7').expect(403)).body as unknown;
      assert.deepEqual(body, { message: 'the registry said why' });
    });

    it('that are defects tell the client a request ID alone, and the log the rest', async () => {
      api.remote.pull = () => Promise.reject(new TypeError('secret internals'));
      const body = (await send('post', '/images/create?fromImage=redis&tag=7').expect(500)).body as unknown;
      const { message } = body as { message: string };
      assert.doesNotMatch(message, /secret/);
      const line = api.lines.find(({ level }) => level === 'error');
      assert.ok(message.includes(String(line?.fields['request'])));
      assert.match(String(line?.fields['error']), /TypeError: secret internals/);
    });
  });

  describe('a browser', () => {
    const send = (headers: Record<string, string>, target = '/info'): Test => request(api.url).get(target).set(headers);

    it('is refused over tcp by its Origin, whatever it is', async () => {
      for (const origin of ['http://evil.example', 'null', api.url]) {
        const response = await send({ Origin: origin }).expect(403);
        contract?.check('GET', '/info', response);
        assert.equal(response.headers['access-control-allow-origin'], undefined);
      }
    });

    it('is refused over tcp when a name of its own resolves to this host', async () => {
      await send({ Host: 'evil.example:2375' }).expect(403);
      await send({ Host: 'evil.example.' }).expect(403);
    });

    it('is told from clients, which address a host by its name or address', async () => {
      for (const host of ['127.0.0.1:2375', '[::1]:2375', 'localhost', 'docker:2375', 'layerd.example.org']) {
        await send({ Host: host }, '/_ping').expect(200);
      }
    });

    it('cannot reach a Unix socket, where the headers mean nothing', async () => {
      await request(`http+unix://${encodeURIComponent(api.socket)}`)
        .get('/_ping')
        .set({ Origin: 'http://x.example', Host: 'x.example' })
        .expect(200);
    });
  });

  it('logs each request with its ID at debug level, and no credentials', async () => {
    api.remote.pull = () => Promise.resolve();
    await send('post', '/images/create?fromImage=redis&tag=7').set('X-Registry-Auth', 'c2VjcmV0').expect(200);
    const line = api.lines.find(({ message }) => message === 'request');
    assert.equal(line?.level, 'debug');
    assert.equal(line.fields['method'], 'POST');
    assert.doesNotMatch(JSON.stringify(api.lines), /c2VjcmV0/);
  });

  it('tells what registries said of their limits', async () => {
    api.registryReports = [
      { registry: 'docker.io', rateLimit: { limit: 100, remaining: 76, at: '2026-01-01T00:00:00Z' } },
    ];
    assert.deepEqual((await send('get', '/v1.50/layerd/registries').expect(200)).body, api.registryReports);
  });

  it('asks a registry for a reference, with the credentials', withContract, async () => {
    api.remote.distribution = (reference, { credentials }) => {
      assert.deepEqual(reference, { registry: 'localhost:5000', path: 'team/app', tag: 'latest', digest: undefined });
      assert.deepEqual(credentials, { username: 'me', password: 'secret' });
      return Promise.resolve({
        Descriptor: {
          mediaType: 'application/vnd.oci.image.index.v1+json',
          digest: `sha256:${'a'.repeat(64)}`,
          size: 5,
        },
        Platforms: [{ os: 'linux', architecture: 'arm64', variant: 'v8' }],
      });
    };
    const auth = Buffer.from('{"username":"me","password":"secret"}').toString('base64url');
    const target = '/distribution/localhost:5000/team/app/json';
    const response = await send('get', target).set('X-Registry-Auth', auth).buffer(true);
    contract?.check('GET', target, response);
  });
});
