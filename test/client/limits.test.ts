import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Fixture } from '../daemon/api/fixture.ts';
import { json, layerctl, scriptedEngine } from './support.ts';

describe('layerctl limits', () => {
  let api: Fixture;
  before(async () => {
    api = await Fixture.start();
  });
  after(() => api[Symbol.asyncDispose]());
  const run = (...args: string[]) => layerctl(['-H', `unix://${api.socket}`, ...args]);
  const cells = (text: string): string[][] =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2,}/));

  it('shows them, and sets those that are named', async () => {
    assert.deepEqual(cells((await run('limits')).out), [
      ['DIRECTION', 'LIMIT', 'REGISTRY', 'TIME', 'VALUE'],
      ['download', 'concurrency', '3'],
      ['upload', 'concurrency', '5'],
      ['upload', 'concurrency', 'registry.example.com', '2'],
      ['upload', 'bandwidth', '5m/s'],
    ]);
    const set = await run(
      ...['limits', 'set', '--max-concurrent-downloads', '9', '--max-concurrent-downloads-per-registry', '4'],
      ...['--max-concurrent-uploads-per-registry', 'registry.example.com=none', '--upload-bandwidth', 'none'],
      ...['--download-bandwidth', '20m', '--download-bandwidth', 'a.example=2m@08:00-18:00'],
    );
    assert.equal(set.status, 0);
    assert.deepEqual(cells(set.out).slice(1), [
      ['download', 'concurrency', '9'],
      ['download', 'concurrency', 'each', '4'],
      ['download', 'bandwidth', '20m/s'],
      ['download', 'bandwidth', 'a.example', '08:00-18:00', '2m/s'],
      ['upload', 'concurrency', '5'],
    ]);
    const asJson = (await run('limits', '--format', 'json')).out.split('\n')[1] ?? '';
    assert.deepEqual(JSON.parse(asJson), {
      Direction: 'download',
      Limit: 'concurrency',
      Registry: 'each',
      Time: '',
      Value: '4',
    });
  });

  it('refuses what sets nothing, or cannot be', async () => {
    for (const [args, status, message] of [
      [[], 2, /nothing to set: name a limit/],
      [['--max-concurrent-uploads', 'x'], 2, /--max-concurrent-uploads 'x': expected a whole number/],
      [['--max-concurrent-uploads-per-registry', 'a='], 2, /per-registry '': expected a whole number/],
      [['--max-concurrent-downloads', '0'], 1, /field downloads.concurrency: "0" must be/],
      [['--download-bandwidth', 'fast'], 1, /field downloads.bandwidth\[0\]/],
    ] as const) {
      const result = await run('limits', 'set', ...args);
      assert.match(result.err, message);
      assert.deepEqual([result.status, result.out], [status, '']);
    }
  });

  it('says of another engine that it has none', async (context) => {
    const { host } = await scriptedEngine(context, (_call, response) => json(response, { message: 'no' }, 404));
    const { err, status } = await layerctl(['-H', host, 'limits']);
    assert.equal(status, 1);
    assert.match(err, /is not layerd but scripted, and does not limit transfers/);
  });
});
