import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LayerdClient } from '../../src/client/index.ts';
import type { PullRequest } from '../../src/daemon/api/parts.ts';
import type { DemandReport } from '../../src/protocol/engine.ts';
import { LayerdError } from '../../src/protocol/errors.ts';
import { Fixture } from '../daemon/api/fixture.ts';
import { layerctl, scriptedEngine, json } from './support.ts';

describe('layerctl pulls', () => {
  let api: Fixture;
  let asked: PullRequest[];
  let end: (error?: Error) => void;
  beforeEach(async () => {
    asked = [];
    api = await Fixture.start();
    api.remote.pull = (pull) =>
      new Promise((resolve, reject) => {
        asked.push(pull);
        end = (error) => (error === undefined ? resolve() : reject(error));
        pull.signal.addEventListener('abort', () => reject(new LayerdError('cancelled', 'stopped')));
      });
  });
  afterEach(() => api[Symbol.asyncDispose]());
  const run = (...args: string[]) => layerctl(['-H', `unix://${api.socket}`, ...args]);
  const detach = async (...args: string[]): Promise<string> => {
    const { out, status } = await run('pull', '--detach', ...args);
    assert.equal(status, 0);
    assert.match(out, /^[0-9a-f]{12}\n$/);
    return out.trim();
  };

  it('begins a detached one and leaves, with all that it is asked for', async () => {
    const id = await detach('--platform', 'linux/arm64', '--priority', '7', 'redis');
    const [pull] = asked;
    assert.deepEqual([pull?.platform, pull?.allPlatforms, pull?.priority], ['linux/arm64', false, 7]);
    await detach('--all-platforms', 'redis');
    assert.equal(asked[1]?.allPlatforms, true);
    const listed = (await run('pulls')).out.split('\n').map((line) => line.split(/ {2,}/));
    assert.deepEqual(listed[0]?.slice(0, 4), ['ID', 'VERB', 'REFERENCE', 'STATE']);
    assert.deepEqual(listed[1]?.slice(0, 4), [id, 'pull', 'redis:latest', 'running']);
    const { out } = await run('pulls', 'inspect', id);
    assert.deepEqual(
      (JSON.parse(out) as DemandReport[]).map((report) => [report.id, report.detached]),
      [[id, true]],
    );
    assert.equal((await run('pulls', 'inspect', '-f', '{{.state}} {{.endedAt}}', id)).out, 'running \n');
    for (const [args, message] of [
      [['--all-tags', 'redis'], /--detach and --all-tags exclude each other/],
      [['--all-platforms', '--platform', 'linux', 'redis'], /exclude each other/],
      [['--priority', 'x', 'redis'], /--priority 'x': expected a whole number/],
    ] as const) {
      const result = await run('pull', '--detach', ...args);
      assert.deepEqual([result.status, result.out], [2, '']);
      assert.match(result.err, message);
    }
  });

  it('waits for how they end', async () => {
    const good = await detach('redis:7');
    setTimeout(() => end(), 50);
    const done = await run('pulls', 'wait', good);
    assert.deepEqual([done.status, done.out], [0, 'done\n']);
    const bad = await detach('redis:8');
    end(new LayerdError('not-found', 'there is no redis:8'));
    const failed = await run('pulls', 'wait', good, bad, 'nope');
    assert.deepEqual([failed.status, failed.out], [1, 'done\nfailed\n']);
    assert.match(
      failed.err,
      /^layerctl: redis:8: there is no redis:8\nlayerctl: no pull, push or copy nope is under way/,
    );
    const states = (await run('pulls', '-a', '--format', '{{.State}} {{.Error}}')).out;
    assert.equal(states, 'done \nfailed there is no redis:8\n');
    assert.equal((await run('pulls', 'ls', '--format', '{{.ID}}')).out, '');
  });

  it('reorders and cancels them', async () => {
    const id = await detach('redis:7');
    assert.equal((await run('pulls', 'priority', '9', id)).out, `${id}\n`);
    assert.equal((await run('pulls', '--format', '{{.Priority}}')).out, '9\n');
    const waiting = run('pulls', 'wait', id);
    assert.equal((await run('pulls', 'cancel', id)).out, `${id}\n`);
    const { status, out, err } = await waiting;
    assert.deepEqual([status, out], [1, 'cancelled\n']);
    assert.match(err, /cancelled through the API/);
    assert.equal((await run('pulls', 'cancel', id)).status, 1);
  });

  it('is completed with the identifiers, and with what is below it', async () => {
    const id = await detach('redis:7');
    const words = async (...line: string[]): Promise<string[]> =>
      (await layerctl(['__complete', '-H', `unix://${api.socket}`, ...line])).out
        .trimEnd()
        .split('\n')
        .slice(1)
        .map((word) => word.split('\t')[0] ?? '');
    assert.deepEqual(await words('pulls', 'cancel', ''), [id]);
    assert.deepEqual(await words('pulls', ''), ['ls', 'inspect', 'wait', 'priority', 'cancel']);
    assert.deepEqual(await words('pulls', '--a'), ['--all']);
    assert.deepEqual(await words('limits', 's'), ['set']);
  });

  it('is the library’s too, which says of another engine that it has none', async (context) => {
    await using client = new LayerdClient({ host: `unix://${api.socket}` });
    const { id } = await client.pullDetached('redis:7', { auth: { username: 'ann', password: 'x' } });
    assert.deepEqual(asked[0]?.credentials, { username: 'ann', password: 'x' });
    setTimeout(() => end(), 20);
    const states = await Array.fromAsync(client.watchPull(id));
    assert.deepEqual([states[0]?.state, states.at(-1)?.state], ['running', 'done']);
    assert.deepEqual((await client.inspectPull(id)).state, 'done');
    const { host } = await scriptedEngine(context, (_call, response) => json(response, { message: 'no' }, 404));
    const { err, status } = await layerctl(['-H', host, 'pull', '--detach', 'redis']);
    assert.equal(status, 1);
    assert.match(err, /is not layerd but scripted, and does not pull detached/);
  });
});

describe('layerctl push and copy', () => {
  it('say how urgent they are', async (context) => {
    const { host, seen } = await scriptedEngine(context, (_call, response) => json(response, { status: 'done' }));
    for (const args of [
      ['push', '--priority', '-5', 'registry.example.com/app:1'],
      ['copy', '--priority=10', 'redis:7', 'registry.example.com/redis:7'],
    ]) {
      assert.equal((await layerctl(['-H', host, ...args])).status, 0);
    }
    const priorities = seen.flatMap(({ headers }) => headers['x-layerd-priority'] ?? []);
    assert.deepEqual(priorities, ['-5', '10']);
    const { status, err } = await layerctl(['-H', host, 'copy', '--priority', '101', 'a', 'b']);
    assert.equal(status, 2);
    assert.match(err, /--priority '101': expected a whole number from -100 to 100/);
  });
});
