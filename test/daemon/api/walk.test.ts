import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { text } from 'node:stream/consumers';
import { NEWEST, OLDEST, versionText } from '../../../src/daemon/api/versions.ts';
import type { ApiParts, ImageOperations } from '../../../src/daemon/api/parts.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { image, layer, tarOf } from '../../support/images.ts';
import { loadContract, MISSING, type Answer } from './contract.ts';
import { Coverage } from './coverage.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

/** The parts of the definition that an image daemon is about. */
const TAGS = ['Image', 'Distribution', 'System'];

/** One request of the walk. */
interface Step {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE';
  /** Without a version. */
  readonly target: string;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | undefined;
  /** The first minor version in which it has that status; before it the parameters in question are ignored. */
  readonly since?: number;
}

const json = (value: unknown): string => encodeURIComponent(JSON.stringify(value));
const AMD64 = json({ os: 'linux', architecture: 'amd64' });
const S390 = json({ os: 'linux', architecture: 's390x' });
const AUTH = { 'X-Registry-Auth': Buffer.from('{"username":"me","password":"secret"}').toString('base64url') };
const PULLED = `sha256:${'a'.repeat(64)}` as const;

/** Statuses of the definition that layerd never answers with, each with the reason. */
const NEVER: Readonly<Record<string, string>> = {
  'POST /auth 204': 'a login is always answered with a status, as by dockerd',
  'GET /images/{name}/attestations 501': 'the store has them',
  'GET /_ping 500': 'it depends on nothing that could fail',
  'HEAD /_ping 500': 'it depends on nothing that could fail',
  'POST /images/{name}/tag 409': 'a tag that is taken moves, as with dockerd',
  'POST /build 200': 'builds are not served',
  'POST /build 400': 'builds are not served',
  'POST /build 500': 'builds are not served',
  'POST /build/prune 200': 'builds are not served',
  'POST /build/prune 500': 'builds are not served',
  'POST /commit 201': 'containers are not served',
  'POST /commit 404': 'containers are not served',
  'POST /commit 500': 'containers are not served',
};

describe('the walk over the definition', { skip: contract === undefined && MISSING }, () => {
  let tar: Buffer;
  let archive: Buffer;
  before(async () => {
    tar = await tarOf([{ name: 'etc/issue', content: 'hello' }]);
    const made = image({ layers: [await layer([{ name: 'file', content: 'content' }])] });
    const [config, blob] = made.blobs;
    archive = await tarOf([
      { name: 'layer.tar', content: blob?.bytes ?? '' },
      { name: 'c.json', content: config?.bytes ?? '' },
      {
        name: 'manifest.json',
        content: JSON.stringify([{ Config: 'c.json', RepoTags: ['loaded:1'], Layers: ['layer.tar'] }]),
      },
    ]);
  });

  if (contract === undefined) return;
  const coverage = new Coverage(contract, TAGS);

  /** What is asked in each version, in this order: what goes away comes last. `id`: that of an image. */
  const steps = (id: string): Step[] => [
    { method: 'GET', target: '/_ping', status: 200 },
    { method: 'HEAD', target: '/_ping', status: 200 },
    { method: 'GET', target: '/version', status: 200 },
    { method: 'GET', target: '/info', status: 200 },

    { method: 'POST', target: '/images/create?fromImage=redis&tag=8', status: 200, headers: AUTH },
    { method: 'POST', target: '/images/create?fromImage=nothing&tag=1', status: 404 },
    { method: 'POST', target: '/images/create?fromImage=redis&platform=linux%2Farm64', status: 200 },
    { method: 'POST', target: '/images/create?fromImage=REDIS', status: 400 },
    {
      method: 'POST',
      target: '/images/create?fromSrc=-&repo=imported&tag=1&message=by+hand&changes=USER+me&platform=linux%2Famd64',
      status: 200,
      body: tar,
    },
    { method: 'POST', target: '/images/create?fromSrc=-&changes=RUN+x', status: 400, body: tar },
    { method: 'POST', target: '/images/load?quiet=0', status: 200, body: archive },
    { method: 'POST', target: `/images/load?platform=${AMD64}`, status: 200, body: archive },
    { method: 'POST', target: `/images/load?platform=${S390}`, status: 404, body: archive, since: 48 },
    { method: 'POST', target: '/images/load', status: 400, body: Buffer.from('no archive') },

    { method: 'GET', target: '/images/json', status: 200 },
    { method: 'GET', target: '/images/json?all=1&digests=1&shared-size=1&manifests=1&identity=1', status: 200 },
    { method: 'GET', target: `/images/json?filters=${json({ dangling: ['true'], label: ['team'] })}`, status: 200 },
    { method: 'GET', target: `/images/json?filters=${json({ nothing: ['true'] })}`, status: 400 },
    { method: 'GET', target: '/images/redis:7/json', status: 200 },
    { method: 'GET', target: '/images/redis:7/json?manifests=1', status: 200 },
    { method: 'GET', target: `/images/redis:7/json?platform=${AMD64}`, status: 200 },
    { method: 'GET', target: `/images/redis:7/json?platform=${S390}`, status: 404, since: 49 },
    { method: 'GET', target: '/images/localhost:5000/team/app:1.0/json', status: 200 },
    { method: 'GET', target: '/images/nothing/json', status: 404 },
    { method: 'GET', target: `/images/redis:7/history?platform=${AMD64}`, status: 200 },
    { method: 'GET', target: '/images/nothing/history', status: 404 },
    { method: 'GET', target: `/images/loaded:1/get?platform=${AMD64}`, status: 200 },
    { method: 'GET', target: `/images/get?names=loaded:1&names=imported:1&platform=${AMD64}`, status: 200 },
    { method: 'GET', target: '/images/get?names=nothing', status: 404 },
    { method: 'GET', target: '/images/nothing/get', status: 404 },

    { method: 'GET', target: '/distribution/redis:7/json', status: 200, headers: AUTH },
    { method: 'GET', target: '/distribution/private/json', status: 401 },
    { method: 'POST', target: '/images/redis/push?tag=7', status: 200, headers: AUTH },
    { method: 'POST', target: `/images/redis:7/push?platform=${AMD64}`, status: 200, headers: AUTH },
    { method: 'POST', target: '/images/nothing/push', status: 404, headers: AUTH },

    { method: 'POST', target: '/images/redis:7/tag?repo=other&tag=1', status: 201 },
    { method: 'POST', target: '/images/redis:7/tag', status: 400 },
    { method: 'POST', target: '/images/nothing/tag?repo=other', status: 404 },
    {
      method: 'GET',
      target: `/events?since=0&until=0s&filters=${json({ type: ['image'] })}`,
      status: 200,
      headers: { Accept: 'application/jsonl' },
    },
    { method: 'GET', target: '/events?since=never', status: 400 },

    {
      method: 'POST',
      target: `/build?${everyQuery('POST', '/build')}`,
      status: 501,
      body: tar,
      headers: { 'Content-type': 'application/x-tar', 'X-Registry-Config': 'e30=' },
    },
    { method: 'POST', target: `/build/prune?${everyQuery('POST', '/build/prune')}`, status: 501 },
    { method: 'POST', target: `/commit?${everyQuery('POST', '/commit')}`, status: 501, body: Buffer.from('{}') },

    { method: 'POST', target: '/auth', status: 200, body: Buffer.from('{"username":"me","password":"secret"}') },
    { method: 'POST', target: '/auth', status: 401, body: Buffer.from('{"username":"me","password":"wrong"}') },
    { method: 'POST', target: '/auth', status: 400, body: Buffer.from('{"username":7}') },
    { method: 'GET', target: '/images/search?term=redis&limit=5', status: 200, headers: AUTH },
    { method: 'GET', target: `/images/search?term=redis&filters=${json({ 'is-official': ['true'] })}`, status: 200 },
    { method: 'GET', target: '/images/search?limit=5', status: 400 },
    { method: 'GET', target: '/images/search?term=redis&limit=1000', status: 400 },
    { method: 'GET', target: '/images/redis:7/attestations', status: 200, since: 55 },
    {
      method: 'GET',
      target: `/images/redis:7/attestations?platform=${AMD64}&type=x&statement=1`,
      status: 200,
      since: 55,
    },
    { method: 'GET', target: `/images/redis:7/attestations?platform=${S390}`, status: 404, since: 55 },
    { method: 'GET', target: '/images/redis:7/attestations?platform=amd64', status: 400, since: 55 },
    { method: 'GET', target: '/images/nothing/attestations', status: 404, since: 55 },
    { method: 'GET', target: '/system/df', status: 200 },
    { method: 'GET', target: '/system/df?type=image&type=volume&verbose=1', status: 200 },
    { method: 'GET', target: '/system/df?type=nothing', status: 400, since: 42 },

    { method: 'POST', target: `/images/prune?filters=${json({ dangling: ['true'] })}`, status: 200 },
    { method: 'POST', target: `/images/prune?filters=${json({ nothing: ['true'] })}`, status: 400 },
    { method: 'DELETE', target: `/images/${id}`, status: 409 },
    { method: 'DELETE', target: `/images/redis:7?platforms=${S390}`, status: 404, since: 50 },
    { method: 'DELETE', target: '/images/redis:7?noprune=1&force=0', status: 200 },
    { method: 'DELETE', target: '/images/nothing', status: 404 },
  ];

  /** All parameters in the query of an operation, which layerd refuses as a whole. */
  function everyQuery(method: string, path: string): string {
    const operation = contract?.operations().find((each) => each.method === method && each.path === path);
    const names = operation?.parameters.filter((each) => each.startsWith('query ')) ?? [];
    return names.map((each) => `${each.slice('query '.length)}=1`).join('&');
  }

  async function send(api: Fixture, { method, target, headers = {}, body }: Step, prefix: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: api.socket, path: prefix + target, method, headers }, (response) => {
        response.setEncoding('latin1');
        text(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, headers: response.headers, text: answer }),
          reject,
        );
      });
      request.on('error', reject).end(body);
    });
  }

  /** What registries answer in all versions. */
  function answerAsRegistries(api: Fixture): void {
    const isKnown = ({ path }: { path: string }): boolean => path !== 'library/nothing';
    const unknown = (): Promise<never> => Promise.reject(new LayerdError('not-found', 'the repository does not exist'));
    api.remote.pull = async ({ reference }, progress) => {
      if (!isKnown(reference)) return unknown();
      await progress({ status: `Pulling from ${reference.path}`, id: reference.tag ?? 'latest' });
      await progress({ status: `Digest: ${PULLED}` });
    };
    api.remote.push = async ({ reference }, progress) => {
      if (!isKnown(reference)) return unknown();
      await progress({ status: `The push refers to repository [docker.io/${reference.path}]` });
      await progress({ progressDetail: {}, aux: { Tag: '7', Digest: PULLED, Size: 5 } });
    };
    api.remote.logIn = (_registry, { credentials }) =>
      credentials?.password === 'secret'
        ? Promise.resolve(undefined)
        : Promise.reject(new LayerdError('unauthorized', 'incorrect username or password'));
    api.remote.search = () => Promise.resolve([{ name: 'redis', description: 'a store', official: true, stars: 1 }]);
    api.remote.distribution = ({ path }) =>
      path === 'library/private'
        ? Promise.reject(new LayerdError('unauthorized', 'authentication required'))
        : Promise.resolve({
            Descriptor: { mediaType: 'application/vnd.oci.image.index.v1+json', digest: PULLED, size: 5 },
            Platforms: [{ os: 'linux', architecture: 'amd64' }],
          });
  }

  const versions = [
    '',
    ...Array.from({ length: NEWEST - OLDEST + 1 }, (_, index) => `/v${versionText(OLDEST + index)}`),
  ];
  for (const prefix of versions) {
    it(`meets it in ${prefix === '' ? 'requests without a version' : prefix.slice(1)}`, async () => {
      await using api = await Fixture.start();
      await api.fill();
      answerAsRegistries(api);
      const minor = prefix === '' ? NEWEST : Number(prefix.split('.')[1]);
      for (const step of steps(api.store.store.resolve('redis:7').listedId)) {
        const { method, target, status, headers = {}, body, since = 0 } = step;
        if (minor < since) continue;
        const answer = await send(api, step, prefix);
        assert.equal(answer.status, status, `${method} ${prefix}${target}: ${answer.text.slice(0, 500)}`);
        contract.check(method, prefix + target, answer);
        coverage.record(method, target, { headers, hasBody: body !== undefined, status });
      }
    });
  }

  it('meets it where everything fails', async () => {
    const fail = (): Promise<never> => Promise.reject(new TypeError('a defect'));
    const broken = new Proxy({} as ImageOperations, { get: () => fail });
    await using api = await Fixture.start({
      images: broken,
      events: new Proxy({} as ApiParts['events'], {
        get: () => {
          throw new TypeError('a defect');
        },
      }),
      system: {
        version: () => {
          throw new TypeError('a defect');
        },
        info: fail,
      },
      registries: { reports: () => [], logIn: fail },
    });
    const seen = new Set<string>();
    for (const step of steps('redis')) {
      const { method, target, body, headers = {} } = step;
      const name: string = `${method} ${contract.template(method, target.split('?')[0] ?? '')}`;
      if (step.status >= 300 || seen.has(name) || `${name} 500` in NEVER) continue;
      seen.add(name);
      const answer = await send(api, step, '');
      assert.equal(answer.status, 500, `${name}: ${answer.text}`);
      assert.doesNotMatch(answer.text, /defect/);
      contract.check(method, target, answer);
      coverage.record(method, target, { headers, hasBody: body !== undefined, status: 500 });
    }
  });

  after(() => {
    const { operations, parameters, responses, missing } = coverage;
    const never = Object.keys(NEVER);
    console.log(
      `operations ${operations.covered} of ${operations.all}, parameters ${parameters.covered} of ${parameters.all}, ` +
        `responses ${responses.covered} of ${responses.all} (${never.length} cannot be), ` +
        `in ${versions.length} forms of the path`,
    );
    assert.deepEqual(missing.sort(), never.sort());
  });
});
