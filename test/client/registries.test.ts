import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { ReferrerReport, SearchResult } from '../../src/protocol/engine.ts';
import { json, layerctl, scriptedEngine, temporaryDirectory, type Script } from './support.ts';

const digest = (digit: string): `sha256:${string}` => `sha256:${digit.repeat(64)}`;

/** Runs layerctl against the script, with an account for each registry. */
async function run(context: TestContext, script: Script, argv: readonly string[]) {
  const engine = await scriptedEngine(context, script);
  const directory = await temporaryDirectory(context);
  const account = (name: string): object => ({ auth: Buffer.from(`${name}:s3cret`).toString('base64') });
  const auths = { 'https://index.docker.io/v1/': account('hub'), 'registry.example.com': account('ann') };
  await writeFile(join(directory, 'config.json'), JSON.stringify({ auths }));
  const result = await layerctl(argv, { env: { LAYERD_HOST: engine.host, DOCKER_CONFIG: directory } });
  const accounts = engine.seen.map(({ headers }) => {
    const header = String(headers['x-registry-auth'] ?? '');
    return (JSON.parse(Buffer.from(header, 'base64url').toString() || '{}') as { username?: string }).username;
  });
  const asked = engine.seen.map(({ path, query }) => `${path}?${decodeURIComponent(query.toString())}`);
  return { ...result, asked, accounts };
}

describe('layerctl search', () => {
  const results: SearchResult[] = [
    {
      name: 'redis',
      description: 'Redis is the world’s fastest data platform for\ncaching\u001b[31m, vector search',
      is_official: true,
      is_automated: false,
      star_count: 13_000,
    },
    { name: 'team/redis', description: '', is_official: false, is_automated: false, star_count: 0 },
  ];
  const script: Script = (_request, response) => json(response, results);

  it('shows what was found, with the account of the registry that is searched', async (context) => {
    const { status, out, asked, accounts } = await run(context, script, ['search', 'redis']);
    assert.equal(status, 0);
    assert.deepEqual(out.split('\n'), [
      'NAME         DESCRIPTION                                     STARS     OFFICIAL',
      'redis        Redis is the world’s fastest data platform f…   13000     [OK]',
      'team/redis                                                   0         ',
      '',
    ]);
    assert.deepEqual([asked, accounts], [['/images/search?term=redis'], ['hub']]);
    const other = await run(context, script, [
      'search',
      '--limit=5',
      '-f',
      'stars=3',
      '--filter',
      'is-official=true',
      'registry.example.com/redis',
    ]);
    assert.deepEqual(other.asked, [
      '/images/search?term=registry.example.com/redis&limit=5&filters={"stars":["3"],"is-official":["true"]}',
    ]);
    assert.deepEqual(other.accounts, ['ann']);
    assert.deepEqual((await run(context, script, ['search', 'other.example.com/redis'])).accounts, [undefined]);
  });

  it('shows it as JSON, by a template, and whole', async (context) => {
    const { out } = await run(context, script, ['search', '--format', 'json', '--no-trunc', 'redis']);
    assert.deepEqual(JSON.parse(out.split('\n')[0] ?? ''), {
      Description: 'Redis is the world’s fastest data platform for caching [31m, vector search',
      IsAutomated: 'false',
      IsOfficial: 'true',
      Name: 'redis',
      StarCount: '13000',
    });
    const names = await run(context, script, ['search', '--format', '{{.Name}} {{.StarCount}}', 'redis']);
    assert.equal(names.out, 'redis 13000\nteam/redis 0\n');
  });

  it('refuses what it cannot understand, and asks nobody', async (context) => {
    for (const [argv, message] of [
      [['--limit', 'many', 'redis'], /--limit 'many': expected a number/],
      [['--filter', 'stars', 'redis'], /bad filter 'stars'/],
      [['https://registry.example.com/redis'], /should not have a scheme/],
      [[], /missing required argument/],
    ] as const) {
      const { status, err, asked } = await run(context, script, ['search', ...argv]);
      assert.equal(status, 2, argv.join(' '));
      assert.match(err, message);
      assert.deepEqual(asked, []);
    }
  });
});

describe('layerctl inspect --referrers', () => {
  const report: ReferrerReport = {
    repository: 'registry.example.com/app',
    digest: digest('a'),
    referrers: [
      {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: digest('b'),
        size: 1234,
        artifactType: 'application/spdx+json',
        annotations: { 'org.opencontainers.image.created': '2026', note: 'two\nlines' },
      },
      { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: digest('c'), size: 9 },
    ],
  };
  const script: Script = ({ path }, response) =>
    json(
      response,
      path.endsWith('/json')
        ? {
            Descriptor: { digest: digest('a') },
            RepoDigests: [`redis@${digest('0')}`, `redis@${digest('a')}`, `registry.example.com/app@${digest('a')}`],
          }
        : report,
    );

  it('shows what refers to the image, asked with the account of the registry that is asked', async (context) => {
    const { status, out, asked, accounts } = await run(context, script, [
      'inspect',
      '--referrers',
      'registry.example.com/app:1',
    ]);
    assert.equal(status, 0);
    assert.deepEqual(out.split('\n'), [
      `registry.example.com/app@${digest('a')}`,
      'ARTIFACT TYPE           DIGEST         SIZE      ANNOTATIONS',
      'application/spdx+json   bbbbbbbbbbbb   1.23kB    org.opencontainers.image.created=2026, note=two lines',
      '-                       cccccccccccc   9B        -',
      '',
    ]);
    assert.deepEqual(asked, [
      '/images/registry.example.com/app:1/json?',
      `/layerd/images/registry.example.com/app@${digest('a')}/referrers?`,
    ]);
    assert.deepEqual(accounts, [undefined, 'ann']);
    const byId = await run(context, script, [
      'inspect',
      '--referrers',
      '--artifact-type',
      'x',
      '--platform',
      'linux/arm64',
      'abcdef',
    ]);
    assert.equal(
      byId.asked[1],
      `/layerd/images/redis@${digest('a')}/referrers?platform={"os":"linux","architecture":"arm64"}&artifactType=x`,
    );
    assert.equal(byId.accounts[1], 'hub');
  });

  it('shows it as JSON and by a template', async (context) => {
    const { out } = await run(context, script, ['inspect', '--referrers', '-f', 'json', 'redis']);
    assert.deepEqual(JSON.parse(out), report);
    const argv = ['inspect', '--referrers', '-f', '{{range .referrers}}{{println .digest}}{{end}}', 'redis'];
    assert.equal((await run(context, script, argv)).out, `${digest('b')}\n${digest('c')}\n\n`);
  });

  it('excludes other views, and is what a type of artifacts is for', async (context) => {
    for (const argv of [
      ['--referrers', '--layers'],
      ['--artifact-type', 'x'],
    ]) {
      const { status, err } = await run(context, script, ['inspect', ...argv, 'redis']);
      assert.equal(status, 2);
      assert.match(err, /exclude each other|--artifact-type needs --referrers/);
    }
  });

  it('says of another engine that it does not tell of them', async (context) => {
    const { status, err } = await run(
      context,
      ({ path }, response) => (path.endsWith('/json') ? json(response, { RepoDigests: [] }) : undefined),
      ['inspect', '--referrers', 'redis'],
    );
    assert.equal(status, 1);
    assert.match(err, /is not layerd but scripted, and does not tell of referrers of images/);
  });
});
