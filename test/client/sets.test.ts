import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { complete } from '../../src/client/commands/complete.ts';
import { LayerdClient } from '../../src/client/index.ts';
import type { ImageSetCondition, ImageSetReport } from '../../src/protocol/image-set.ts';
import { json, layerctl, scriptedEngine, stream, temporaryDirectory, type Script, type Seen } from './support.ts';

const conditions = (ready: boolean, progressing: boolean, degraded: boolean): ImageSetCondition[] =>
  (
    [
      ['Ready', ready, 'AllPresent', 'all of 2 images are here'],
      ['Progressing', progressing, 'Pulling', 'pulling redis:7'],
      ['Degraded', degraded, 'NotFound', 'redis:7: no such\nimage'],
    ] as const
  ).map(([type, isTrue, reason, message]) => ({
    type,
    status: isTrue ? 'True' : 'False',
    reason,
    message,
    lastTransitionTime: '2026-01-15T11:00:00.000Z',
  }));

const report = (name: string, more: Partial<ImageSetReport> = {}): ImageSetReport => ({
  name,
  generation: 2,
  observedGeneration: 2,
  createdAt: '2026-01-15T10:00:00.000Z',
  updatedAt: '2026-01-15T10:00:00.000Z',
  spec: { images: ['redis:7', 'debian:12'] },
  conditions: conditions(true, false, false),
  images: [
    {
      reference: 'debian:12',
      pullPolicy: 'IfNotPresent',
      state: 'present',
      failures: 0,
      imageId: `sha256:${'a'.repeat(64)}`,
    },
    {
      reference: 'redis:7',
      platform: 'linux/arm64',
      pullPolicy: 'Always',
      state: 'missing',
      failures: 1,
      nextCheck: '2026-01-15T12:00:00.000Z',
      error: { reason: 'NotFound', message: 'no such\timage' },
    },
  ],
  ...more,
});
const BASE = report('base', { conditions: conditions(false, false, true) });
const OTHER = report('other', { observedGeneration: 1, file: '/etc/layerd/image-sets.d/other.json' });

const script: Script = ({ method, path, query }, response) => {
  if (path === '/layerd/sets' && !query.has('watch')) json(response, [BASE, OTHER]);
  else if (path === '/layerd/sets/base') {
    if (method === 'DELETE') response.writeHead(204).end();
    else json(response, BASE, method === 'PUT' ? 201 : 200);
  } else if (path === '/layerd/sets/missing')
    json(response, { message: 'the image set missing comes from a file' }, 409);
};
const cells = (out: string): string[][] =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/));
const bodies = (seen: readonly Seen[]): Promise<string[]> =>
  Promise.all(seen.filter(({ method }) => method === 'PUT').map(async ({ path, body }) => `${path} ${await body()}`));

describe('layerctl sets', () => {
  it('is a table of how they are, names alone, or JSON', async (context) => {
    const { host } = await scriptedEngine(context, script);
    const { status, out } = await layerctl(['-H', host, 'sets']);
    assert.equal(status, 0);
    assert.deepEqual(cells(out), [
      ['NAME', 'IMAGES', 'STATUS', 'SINCE', 'MESSAGE'],
      ['base', '1/2', 'Degraded', '2026-01-15T11:00:00.000Z', 'redis:7: no such image'],
      ['other', '1/2', 'Pending', 'it is about to be looked at'],
    ]);
    assert.equal((await layerctl(['-H', host, 'set', 'ls', '-q'])).out, 'base\nother\n');
    const asJson = await layerctl(['-H', host, 'sets', '--format', 'json']);
    const [, other] = asJson.out.split('\n').map((line) => (line === '' ? {} : (JSON.parse(line) as object)));
    assert.equal((other as { File: string }).File, '/etc/layerd/image-sets.d/other.json');
  });
});

describe('layerctl set', () => {
  it('applies a file under its name, or standard input under the one given', async (context) => {
    const { host, seen } = await scriptedEngine(context, async (call, response) => {
      await call.body();
      await script(call, response);
    });
    const file = join(await temporaryDirectory(context), 'base.json');
    // To the byte: what is wrong with it is for the daemon to say.
    await writeFile(file, '{"images": ["redis:7"],}');
    assert.deepEqual(await layerctl(['-H', host, 'set', 'apply', '-f', file]), { status: 0, out: 'base\n', err: '' });
    const stdin = Readable.from([Buffer.from('{"images":[]}')]);
    await layerctl(['-H', host, 'set', 'apply', 'base', '-f', '-'], { stdin });
    assert.deepEqual(
      seen.map(({ method, path }) => `${method} ${path}`),
      ['PUT /layerd/sets/base', 'PUT /layerd/sets/base'],
    );
  });

  it('sends what it is given', async (context) => {
    const taken: string[] = [];
    const { host, seen } = await scriptedEngine(context, async (call, response) => {
      taken.push(await call.body());
      json(response, BASE);
    });
    await using client = new LayerdClient({ host });
    await client.putSet('base', { images: ['redis:7'], pullPolicy: 'Always' });
    await client.putSet('base', '{"images": []}');
    assert.deepEqual(taken, ['{"images":["redis:7"],"pullPolicy":"Always"}', '{"images": []}']);
    assert.equal((await bodies(seen)).length, 2);
  });

  it('refuses to apply what has no name, no file, or no end', async (context) => {
    const { host, seen } = await scriptedEngine(context, script);
    for (const [args, expected] of [
      [['set', 'apply'], /name a file with --file/],
      [['set', 'apply', '-f', '-'], /a set from standard input needs a name/],
      [['set', 'inspect', '--images', '-f', 'json', 'base'], /--images and --format exclude each other/],
    ] as const) {
      const { status, err } = await layerctl(['-H', host, ...args]);
      assert.equal(status, 2);
      assert.match(err, expected);
    }
    const endless = Readable.from(Array.from({ length: 9 }, () => Buffer.alloc(128 * 1024, ' ')));
    const { status, err } = await layerctl(['-H', host, 'set', 'apply', 'x', '-f', '-'], { stdin: endless });
    assert.deepEqual([status, err], [2, 'layerctl: the set is larger than 1048576 bytes\n']);
    const gone = await layerctl(['-H', host, 'set', 'apply', '-f', '/nonexistent/base.json']);
    assert.deepEqual([gone.status, gone.err.includes('cannot read /nonexistent/base.json')], [1, true]);
    assert.deepEqual(seen, []);
  });

  it('waits until all of it is here, telling why it is not yet', async (context) => {
    const pending = report('base', { generation: 3, observedGeneration: 2 });
    const { host } = await scriptedEngine(context, ({ method, query }, response) => {
      if (method === 'PUT') json(response, pending);
      else if (query.has('watch')) {
        const next = (...each: [boolean, boolean, boolean]) =>
          report('base', { generation: 3, observedGeneration: 3, conditions: conditions(...each) });
        stream(response, [
          pending,
          report('other'),
          next(false, true, false),
          next(false, false, true),
          next(false, false, true),
          next(true, false, false),
        ]);
      }
    });
    const stdin = Readable.from([Buffer.from('{}')]);
    assert.deepEqual(await layerctl(['-H', host, 'set', 'apply', 'base', '-f', '-', '--wait'], { stdin }), {
      status: 0,
      out: 'base\n',
      err: 'base: pulling redis:7\nbase: redis:7: no such image\n',
    });
  });

  it('fails to wait for what is deleted, or when the daemon stops', async (context) => {
    for (const [messages, expected] of [
      [[{ name: 'base', deleted: true }], /base was deleted meanwhile/],
      [[], /the daemon has stopped/],
    ] as const) {
      const { host } = await scriptedEngine(context, ({ method }, response) => {
        if (method === 'PUT') json(response, BASE);
        else stream(response, messages);
      });
      const stdin = Readable.from([Buffer.from('{}')]);
      const { status, err, out } = await layerctl(['-H', host, 'set', 'apply', 'base', '-f', '-', '--wait'], { stdin });
      assert.deepEqual([status, out], [1, '']);
      assert.match(err, expected);
    }
  });

  it('inspects sets as documents, and their images as a table', async (context) => {
    const { host } = await scriptedEngine(context, script);
    const whole = await layerctl(['-H', host, 'set', 'inspect', 'base', 'missing']);
    assert.deepEqual(JSON.parse(whole.out), [BASE]);
    assert.deepEqual([whole.status, whole.err], [1, 'layerctl: the image set missing comes from a file\n']);
    const field = await layerctl(['-H', host, 'set', 'inspect', '-f', '{{.generation}} {{.file}}', 'base']);
    assert.equal(field.out, '2 \n');
    const { out } = await layerctl(['-H', host, 'set', 'inspect', '--images', 'base']);
    assert.deepEqual(cells(out).slice(1), [
      ['debian:12', 'IfNotPresent', 'present', 'aaaaaaaaaaaa', ''],
      ['redis:7', 'linux/arm64', 'Always', 'missing', '2026-01-15T12:00:00.000Z', 'no such image'],
    ]);
  });

  it('deletes sets, and goes on after one that there is not', async (context) => {
    const { host, seen } = await scriptedEngine(context, script);
    const { status, out, err } = await layerctl(['-H', host, 'set', 'rm', 'missing', 'base']);
    assert.deepEqual([status, out, err], [1, 'base\n', 'layerctl: the image set missing comes from a file\n']);
    assert.deepEqual(
      seen.map(({ method }) => method),
      ['DELETE', 'DELETE'],
    );
  });

  it('watches the sets that are named, and says when the daemon stops', async (context) => {
    const { host } = await scriptedEngine(context, (_call, response) => {
      stream(response, [OTHER, BASE, { name: 'base', deleted: true }]);
    });
    const { status, out, err } = await layerctl(['-H', host, 'set', 'watch', 'base']);
    assert.deepEqual(out.split('\n'), [
      '2026-01-15T12:00:00.000Z base 1/2 Degraded redis:7: no such image',
      '2026-01-15T12:00:00.000Z base Deleted',
      '',
    ]);
    assert.deepEqual([status, err], [1, 'layerctl: the daemon has stopped\n']);
    const asJson = await layerctl(['-H', host, 'set', 'watch', '--format', '{{.name}} {{.deleted}}']);
    assert.equal(asJson.out, 'other \nbase \nbase true\n');
  });

  it('completes names of sets', async (context) => {
    const { host } = await scriptedEngine(context, script);
    const connect = () => Promise.resolve(new LayerdClient({ host }));
    assert.deepEqual(await complete(['set', 'rm', 'o'], connect), { type: 'words', words: [['other', '2 images']] });
  });
});
