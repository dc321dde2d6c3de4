import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { Interruption } from '../../src/client/interruption.ts';
import type { GcReport } from '../../src/protocol/engine.ts';
import { json, layerctl, scriptedEngine, type CliOptions, type Script } from './support.ts';

const id = (digit: string): `sha256:${string}` => `sha256:${digit.repeat(64)}`;

describe('layerctl prune', () => {
  const script: Script = ({ path }, response) => {
    if (path !== '/images/prune') return;
    const ImagesDeleted = [{ Untagged: 'redis:7' }, { Deleted: id('a') }];
    json(response, { ImagesDeleted, SpaceReclaimed: 209_055_764 });
  };

  async function run(context: Parameters<typeof scriptedEngine>[0], argv: readonly string[], options: CliOptions = {}) {
    const { host, seen } = await scriptedEngine(context, script);
    const result = await layerctl(argv, { ...options, env: { LAYERD_HOST: host } });
    return { ...result, filters: seen.map(({ query }) => JSON.parse(query.get('filters') ?? 'null') as unknown) };
  }
  const terminal = (answer: string): CliOptions['stdin'] & {} =>
    Object.assign(Readable.from(answer === '' ? [] : [answer]), { isTTY: true });

  it('removes dangling images, and tells what went and how much that freed', async (context) => {
    const { out, status, filters } = await run(context, ['prune', '-f']);
    assert.equal(status, 0);
    assert.deepEqual(filters, [{ dangling: ['true'] }]);
    assert.equal(out, `Deleted Images:\nuntagged: redis:7\ndeleted: ${id('a')}\n\nTotal reclaimed space: 209.1MB\n`);
  });

  it('passes filters on, and asks for all with --all', async (context) => {
    const argv = ['image', 'prune', '--all', '--force', '--filter', 'until=24h', '--filter', 'label!=keep'];
    const { filters } = await run(context, argv);
    assert.deepEqual(filters, [{ dangling: ['false'], until: ['24h'], 'label!': ['keep'] }]);
  });

  for (const answer of ['y\n', 'YES\n']) {
    it(`asks on a terminal, and goes on at ${JSON.stringify(answer)}`, async (context) => {
      const { out, status, filters } = await run(context, ['prune', '-a'], { stdin: terminal(answer) });
      assert.deepEqual([status, filters.length], [0, 1]);
      assert.match(
        out,
        /^WARNING! This will remove all images without .*\nAre you sure .*\? \[y\/N\] Deleted Images:\n/,
      );
    });
  }

  for (const answer of ['n\n', '\n', '', 'yoghurt\ny\n']) {
    it(`removes nothing at ${JSON.stringify(answer)}`, async (context) => {
      const { out, err, status, filters } = await run(context, ['prune'], { stdin: terminal(answer) });
      assert.deepEqual([status, filters], [1, []]);
      assert.match(out, /^WARNING! This will remove all dangling images\.\n/);
      assert.equal(err, 'layerctl: the prune has been cancelled; nothing was removed\n');
    });
  }

  it('removes nothing where it is stopped instead of answered', async (context) => {
    const stop = new AbortController();
    const stdin = Object.assign(new Readable({ read: () => stop.abort(new Interruption('SIGINT')) }), { isTTY: true });
    const { status, filters } = await run(context, ['prune'], { stdin, signal: stop.signal });
    assert.deepEqual([status, filters], [130, []]);
  });

  it('needs --force where there is no terminal', async (context) => {
    const { err, status, filters } = await run(context, ['prune'], { stdin: Readable.from(['y\n']) });
    assert.deepEqual([status, filters], [2, []]);
    assert.match(err, /--force/);
  });
});

describe('layerctl gc', () => {
  const lastUsed = '2026-01-15T10:00:00.000Z';
  const report: GcReport = {
    dryRun: false,
    before: { capacity: 100_000_000, available: 9_000_000, percent: 91 },
    after: { capacity: 100_000_000, available: 21_000_000, percent: 79 },
    wanted: 11_000_000,
    reclaimed: 12_000_000,
    missing: 0,
    removed: [
      { id: id('a'), names: ['app:1', 'app:2'], lastUsed, bytes: 10_000_000, reason: 'least-recently-used' },
      { id: id('b'), names: [], lastUsed, bytes: 1_000_000, reason: 'dangling' },
    ],
    kept: [
      { id: id('c'), names: ['base:1'], lastUsed, bytes: 5000, reason: 'held', holders: ['image set base'] },
      { id: id('d'), names: ['own:1'], lastUsed, bytes: 6000, reason: 'local', holders: [] },
    ],
    interrupted: 1_000_000,
  };

  async function run(
    context: Parameters<typeof scriptedEngine>[0],
    argv: readonly string[],
    answer: Partial<GcReport> = {},
    options: CliOptions = {},
  ) {
    const body = { ...report, ...answer };
    const { host, seen } = await scriptedEngine(context, ({ path }, response) => {
      if (path === '/layerd/gc') json(response, body);
    });
    const result = await layerctl(['gc', ...argv], { ...options, env: { LAYERD_HOST: host } });
    return { ...result, asked: seen.filter(({ path }) => path === '/layerd/gc').map(({ query }) => query.toString()) };
  }

  it('tells what it removed and why, and what that freed', async (context) => {
    const { out, status, asked } = await run(context, ['-f']);
    assert.deepEqual([status, asked], [0, ['']]);
    assert.equal(
      out,
      [
        'IMAGE     IMAGE ID       LAST USED     SIZE      ACTION    REASON',
        'app:1     aaaaaaaaaaaa   2 hours ago   10MB      removed   least recently used',
        '<none>    bbbbbbbbbbbb   2 hours ago   1MB       removed   has no tag',
        '',
        'Interrupted pulls: removed 1MB',
        'Total reclaimed space: 12MB; use of the disk from 91% to 79%',
        '',
      ].join('\n'),
    );
  });

  it('tells in a dry run also what would be kept and why, and asks nobody', async (context) => {
    const { out, status, asked } = await run(context, ['--dry-run'], { dryRun: true });
    assert.deepEqual([status, asked], [0, ['dryRun=1']]);
    assert.match(out, /^app:1 +aaaaaaaaaaaa +2 hours ago +10MB +would remove +least recently used$/m);
    assert.match(out, /^base:1 +cccccccccccc +2 hours ago +5kB +kept +held by image set base$/m);
    assert.match(out, /^own:1 +.* kept +no registry is known to have it$/m);
    assert.match(out, /\nTotal space that would be reclaimed: 12MB; use of the disk from 91% to 79%\n$/);
  });

  it('passes on how far to go', async (context) => {
    const argv = ['-f', '--high', '85', '--low=80%', '--min-age', '1h', '--max-age', '720h', '--local'];
    const { asked } = await run(context, argv);
    assert.deepEqual(asked, ['high=85&low=80&minimumAge=1h&maximumAge=720h&local=true']);
    assert.deepEqual((await run(context, ['-f', '--free', '1.5g'])).asked, [`free=${1.5 * 1024 ** 3}`]);
  });

  it('says as JSON what became of every image', async (context) => {
    const { out } = await run(context, ['-f', '--format', 'json']);
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>);
    assert.deepEqual(
      rows.map(({ Image, Action }) => [Image, Action]),
      [
        ['app:1', 'removed'],
        ['<none>', 'removed'],
        ['base:1', 'kept'],
        ['own:1', 'kept'],
      ],
    );
    assert.equal(rows[0]?.['Names'], 'app:1, app:2');
  });

  it('fails where less could be freed than was wanted, and shows what is in the way', async (context) => {
    const { out, err, status } = await run(context, ['-f'], { missing: 2_000_000 });
    assert.equal(status, 1);
    assert.match(out, / held by image set base$/m);
    assert.match(err, /^layerctl: 2MB of 11MB could not be freed/);
  });

  it('says so where there is nothing to remove', async (context) => {
    const nothing = { removed: [], kept: [], interrupted: 0, reclaimed: 0, wanted: 0 };
    assert.equal((await run(context, ['-f'], nothing)).out, 'Nothing to remove: 91% of the disk is in use\n');
  });

  it('asks on a terminal, and needs --force elsewhere', async (context) => {
    const stdin = Object.assign(Readable.from(['n\n']), { isTTY: true });
    const refused = await run(context, [], {}, { stdin });
    assert.deepEqual([refused.status, refused.asked], [1, []]);
    assert.match(refused.out, /^WARNING! This will remove images, those that were used least recently first\.\n/);
    assert.match(refused.err, /^layerctl: the collection has been cancelled; nothing was removed\n/);
    const { err, status, asked } = await run(context, [], {}, { stdin: Readable.from(['y\n']) });
    assert.deepEqual([status, asked], [2, []]);
    assert.match(err, /--force/);
  });

  for (const [argv, message] of [
    [['--high', '101'], /--high '101': expected percent of the disk/],
    [['--low', 'x'], /--low 'x'/],
    [['--free', '20x'], /--free '20x': expected a size such as 500m or 20g/],
  ] as const) {
    it(`refuses ${argv.join(' ')}`, async (context) => {
      const { err, status, asked } = await run(context, ['-f', ...argv]);
      assert.deepEqual([status, asked], [2, []]);
      assert.match(err, message);
    });
  }
});

describe('layerctl df', () => {
  const totals = (TotalCount: number, TotalSize: number, Reclaimable = TotalSize, ActiveCount = 0) => ({
    ActiveCount,
    TotalCount,
    TotalSize,
    Reclaimable,
  });
  const image = (digit: string, Size: number, SharedSize: number, Containers = 0) => ({
    Id: id(digit),
    RepoTags: [`app:${digit}`, `other:${digit}`],
    RepoDigests: [],
    Created: Date.parse('2026-01-14T12:00:00Z') / 1000,
    Size,
    SharedSize,
    Containers,
    Labels: {},
    ParentId: '',
  });
  const images = [image('a', 3_000_000, 1_000_000), image('b', 2_000_000, 1_000_000, 1)];
  const nothing = totals(0, 0);
  const own: Script = ({ path, query }, response) => {
    if (path === '/layerd/usage') {
      const amount = (count: number, size: number) => ({ count, size });
      json(response, { images: amount(2, 4e6), interrupted: amount(1, 5e5), underWay: amount(3, 25e4) });
    } else if (path === '/system/df') {
      const ImageUsage = {
        ...totals(2, 4_750_000, 4_500_000),
        ...(query.get('verbose') === '1' ? { Items: images } : {}),
      };
      json(response, { ImageUsage, ContainerUsage: nothing, VolumeUsage: nothing, BuildCacheUsage: nothing });
    }
  };
  const older: Script = ({ path, query }, response) => {
    if (path !== '/system/df') return;
    assert.equal(query.get('type'), null);
    json(response, {
      LayersSize: 4_000_000,
      Images: images,
      Containers: [
        { SizeRw: 10, State: 'running' },
        { SizeRw: 90, State: 'exited' },
      ],
      Volumes: [{ UsageData: { Size: 1000, RefCount: 0 } }, { UsageData: { Size: -1, RefCount: -1 } }, {}],
      BuildCache: null,
    });
  };

  async function df(context: Parameters<typeof scriptedEngine>[0], script: Script, argv: string[], version = '1.56') {
    const { host } = await scriptedEngine(context, script, version);
    const { out, err, status } = await layerctl(argv, { env: { LAYERD_HOST: host } });
    assert.equal(status, 0, err);
    return out.split('\n').slice(0, -1);
  }

  it('tells apart what no image has yet', async (context) => {
    assert.deepEqual(await df(context, own, ['df']), [
      'TYPE                TOTAL     ACTIVE    SIZE      RECLAIMABLE',
      'Images              2         0         4MB       4MB (100%)',
      'Interrupted Pulls   1         0         500kB     500kB (100%)',
      'Under Way           3         3         250kB     0B (0%)',
      'Containers          0         0         0B        0B',
      'Local Volumes       0         0         0B        0B',
      'Build Cache         0         0         0B        0B',
    ]);
    const [, interrupted] = await df(context, own, ['system', 'df', '--format', 'json']);
    assert.deepEqual(JSON.parse(interrupted ?? ''), {
      Active: '0',
      Reclaimable: '500kB (100%)',
      Size: '500kB',
      TotalCount: '1',
      Type: 'Interrupted Pulls',
    });
    assert.deepEqual((await df(context, own, ['df', '--format', '{{.Type}}={{.Size}}']))[0], 'Images=4MB');
  });

  it('-v shows of each image what it shares and what is its own', async (context) => {
    assert.deepEqual(await df(context, own, ['df', '-v']), [
      'REPOSITORY   TAG       IMAGE ID       CREATED        SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS',
      'app          a         aaaaaaaaaaaa   24 hours ago   3MB       1MB           2MB           0',
      'app          b         bbbbbbbbbbbb   24 hours ago   2MB       1MB           1MB           1',
    ]);
    assert.deepEqual(await df(context, own, ['df', '-v', '--format', '{{.ID}} {{.UniqueSize}}']), [
      `${id('a')} 2MB`,
      `${id('b')} 1MB`,
    ]);
  });

  it('reckons the totals of an engine that has only lists', async (context) => {
    assert.deepEqual(await df(context, older, ['df'], '1.47'), [
      'TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE',
      'Images          2         1         4MB       3MB (75%)',
      'Containers      2         1         100B      90B (90%)',
      'Local Volumes   3         1         1kB       1kB (100%)',
      'Build Cache     0         0         0B        0B',
    ]);
  });
});
