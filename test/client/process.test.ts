import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scriptedEngine, stream } from './support.ts';

const MAIN = fileURLToPath(new URL('../../src/client/main.ts', import.meta.url));

/** layerctl as a process of its own. */
function start(context: TestContext, host: string, argv: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, ...argv], {
    env: { LAYERD_HOST: host, DOCKER_CONFIG: '/nonexistent' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  context.after(() => child.kill('SIGKILL'));
  child.stdout.setEncoding('utf8');
  child.stderr.setEncoding('utf8');
  const texts = { out: '', err: '' };
  child.stdout.on('data', (text: string) => (texts.out += text));
  child.stderr.on('data', (text: string) => (texts.err += text));
  return { child, texts };
}

describe('the process', () => {
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    it(`lets go of the daemon on ${signal}, says that the pull can go on, and exits with ${status}`, async (context) => {
      const gone = Promise.withResolvers<undefined>();
      const engine = await scriptedEngine(context, (_request, response) => {
        response.writeHead(200).write('{"status":"Pulling"}\n');
        response.on('close', () => gone.resolve(undefined));
      });
      const { child, texts } = start(context, engine.host, ['pull', 'redis:7']);
      await once(child.stdout, 'data');
      child.kill(signal);
      const [code] = (await once(child, 'close')) as [number];
      await gone.promise;
      assert.equal(code, status);
      assert.match(texts.err, /^layerctl: interrupted; what has arrived is kept/);
    });
  }

  it('ends by itself when the work is done', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => stream(response, [{ status: 'done' }]));
    const { child, texts } = start(context, engine.host, ['pull', 'redis:7']);
    const [code] = (await once(child, 'close')) as [number];
    assert.equal(code, 0);
    assert.equal(texts.out, 'done\ndocker.io/library/redis:7\n');
  });

  it('ends quietly when the other end of its pipe closes', async (context) => {
    const engine = await scriptedEngine(context, (_request, response) => {
      const line = `${JSON.stringify({ Type: 'image', Action: 'pull', Actor: { ID: 'x'.repeat(500), Attributes: {} }, time: 1, timeNano: 1 })}\n`;
      response.writeHead(200).write(line);
      const writing = setInterval(() => response.write(line.repeat(100)), 5);
      response.on('close', () => clearInterval(writing));
    });
    const { child, texts } = start(context, engine.host, ['events']);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 141);
    assert.equal(texts.err, '');
  });
});
