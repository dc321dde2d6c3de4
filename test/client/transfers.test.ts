import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import type { TransferReport } from '../../src/protocol/engine.ts';
import { Capture, json, layerctl, scriptedEngine, stream, type Script, type Seen } from './support.ts';

const report = (digit: string, more: Partial<TransferReport> = {}): TransferReport => ({
  digest: `sha256:${digit.repeat(64)}`,
  direction: 'download',
  state: 'downloading',
  repository: 'docker.io/library/redis',
  size: 10_000_000,
  received: 2_500_000,
  rate: 1_000_000,
  secondsLeft: 8,
  priority: 0,
  attempts: 1,
  since: '2026-01-15T11:59:00Z',
  wantedBy: [{ id: 'a1', verb: 'pull', reference: 'redis:7', client: 'ann', since: '2026-01-15T11:59:00Z' }],
  ...more,
});
const A = report('a');
const WAITING = report('b', { state: 'waiting', received: 0, rate: 0, priority: 3 });

/** Lists both transfers, and takes what is done to them. */
const script: Script = ({ method, path }, response) => {
  if (!path.startsWith('/layerd/transfers')) return;
  if (method === 'DELETE') response.writeHead(204).end();
  else json(response, method === 'PATCH' ? [A] : [A, WAITING]);
};
const changes = async (seen: readonly Seen[]): Promise<string[]> => {
  const steered = seen.filter(({ method }) => method !== 'GET');
  return Promise.all(steered.map(async ({ method, path, body }) => `${method} ${path.slice(18, 28)} ${await body()}`));
};

describe('layerctl transfers', () => {
  it('is a table where there is no terminal, and JSON', async (context) => {
    const { host } = await scriptedEngine(context, script);
    const { status, out } = await layerctl(['-H', host, 'transfers']);
    assert.equal(status, 0);
    assert.deepEqual(
      out.split('\n').map((line) => line.split(/ {2,}/)),
      [
        ['DIGEST', 'DIRECTION', 'STATE', 'RECEIVED', 'SIZE', 'RATE', 'LEFT', 'PRIORITY', 'FOR'],
        ['aaaaaaaaaaaa', 'download', 'downloading', '2.5MB', '10MB', '1MB/s', '8s', '0', 'redis:7'],
        ['bbbbbbbbbbbb', 'download', 'waiting', '0B', '10MB', '8s', '3', 'redis:7'],
        [''],
      ],
    );
    const asJson = await layerctl(['-H', host, 'transfers', '--no-trunc', '--format', 'json']);
    const [first] = asJson.out.split('\n').map((line) => (line === '' ? {} : (JSON.parse(line) as object)));
    assert.deepEqual(
      [(first as Record<string, string>)['Digest'], (first as Record<string, string>)['Client']],
      [A.digest, 'ann'],
    );
  });

  it('pauses, resumes, reorders and cancels by the start of a digest', async (context) => {
    const { host, seen } = await scriptedEngine(context, async (call, response) => {
      await call.body();
      await script(call, response);
    });
    const run = (...args: string[]) => layerctl(['-H', host, 'transfer', ...args]);
    assert.deepEqual(await run('pause', 'aaaa'), { status: 0, out: `${A.digest}\n`, err: '' });
    await run('resume', A.digest);
    await run('priority', '10', 'sha256:bb');
    await run('priority', '--', '-10', 'bb');
    await run('cancel', 'a');
    assert.deepEqual(
      seen.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path.slice(18, 28)}`),
      ['PATCH sha256:aaa', 'PATCH sha256:aaa', 'PATCH sha256:bbb', 'PATCH sha256:bbb', 'DELETE sha256:aaa'],
    );
  });

  it('refuses what names none or several, and a priority that is none', async (context) => {
    const { host, seen } = await scriptedEngine(context, (call, response) => {
      if (call.method === 'GET') json(response, [A, report('a', { digest: `sha256:${'a'.repeat(63)}b` })]);
    });
    const run = (...args: string[]) => layerctl(['-H', host, ...args]);
    assert.match((await run('transfer', 'pause', 'aaa')).err, /several transfers begin with aaa/);
    const none = await run('transfer', 'cancel', 'ff');
    assert.deepEqual([none.status, none.err], [1, 'layerctl: no transfer begins with ff: see layerctl transfers\n']);
    for (const args of [
      ['transfer', 'priority', 'high', 'aaa'],
      ['pull', '--priority', '101', 'redis:7'],
    ]) {
      const { status, err } = await run(...args);
      assert.equal(status, 2);
      assert.match(err, /expected a whole number from -100 to 100/);
    }
    assert.deepEqual(await changes(seen), []);
  });

  it('asks for a pull’s priority by a header', async (context) => {
    const { host, seen } = await scriptedEngine(context, ({ path }, response) => {
      if (path === '/images/create') stream(response, [{ status: 'Digest: …' }]);
    });
    assert.equal((await layerctl(['-H', host, 'pull', '--priority', '-5', 'redis:7'])).status, 0);
    assert.equal(seen.at(-1)?.headers['x-layerd-priority'], '-5');
  });

  it(
    'is live on a terminal, does what keys say, and leaves the terminal as it was',
    { timeout: 20_000 },
    async (context) => {
      const done = Promise.withResolvers<ServerResponse>();
      const acted: string[] = [];
      const keys = Object.assign(new PassThrough(), { isTTY: true, raw: [] as boolean[] });
      const stdin = Object.assign(keys, { setRawMode: (raw: boolean) => void keys.raw.push(raw) });
      const { host } = await scriptedEngine(context, async (call, response) => {
        if (call.method === 'GET') {
          response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
          for (const each of [A, WAITING]) response.write(`${JSON.stringify(each)}\n`);
          done.resolve(response);
          return;
        }
        acted.push(`${call.method} ${call.path.slice(18, 28)} ${await call.body()}`);
        if (call.method === 'DELETE') {
          response.writeHead(204).end();
          stdin.write('q');
        } else json(response, [A]);
      });
      const stdout = new Capture(true);
      stdout.columns = 120;
      const running = layerctl(['-H', host, 'transfers'], { stdin, stdout, env: { NO_COLOR: '1' } });
      await done.promise;
      while (!stdout.text.includes('> ↓aaaaaaaaaaaa downloading  [=====>')) await new Promise(setImmediate);
      stdin.write('p');
      stdin.write('\u001b[B');
      stdin.write('+');
      stdin.write('c');
      assert.equal((await running).status, 0);
      assert.deepEqual([...acted].sort(), [
        'DELETE sha256:bbb ',
        'PATCH sha256:aaa {"paused":true}',
        'PATCH sha256:bbb {"priority":4}',
      ]);
      assert.match(stdout.text, /2 transfers, 1 waiting/);
      assert.deepEqual(keys.raw, [true, false]);
      assert.ok(stdout.text.endsWith('\u001b[?25h\u001b[?1049l'));
    },
  );
});
