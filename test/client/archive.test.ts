import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, it, type TestContext } from 'node:test';
import { LayerdClient } from '../../src/client/engine.ts';
import { Capture, layerctl, temporaryDirectory } from './support.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** An engine whose script sees the body of a request. Returns its address. */
async function engine(context: TestContext, answer: Answer): Promise<string> {
  const socket = join(await temporaryDirectory(context), 'engine.sock');
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/_ping') === true) response.writeHead(200, { 'Api-Version': '1.56' }).end();
    else void answer(request, response);
  });
  await once(server.listen(socket), 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `unix://${socket}`;
}

const ARCHIVE = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));
const saving: Answer = (_request, response) => void response.writeHead(200).end(ARCHIVE);

describe('the client of archives', () => {
  it('saves bytes as they are, and asks for names and platforms', async (context) => {
    const asked: URL[] = [];
    const host = await engine(context, (request, response) => {
      asked.push(new URL(request.url ?? '', 'http://engine'));
      return saving(request, response);
    });
    await using client = new LayerdClient({ host });
    const saved = await buffer(Readable.from(client.save(['a:1', 'b'], { platforms: ['linux/arm64'] })));
    assert.ok(saved.equals(ARCHIVE));
    assert.equal(asked[0]?.pathname, '/v1.56/images/get');
    assert.deepEqual(asked[0].searchParams.getAll('names'), ['a:1', 'b']);
    assert.deepEqual(JSON.parse(asked[0].searchParams.get('platform') ?? ''), { os: 'linux', architecture: 'arm64' });
  });

  it('sends an archive whole, and tells what the engine says of it', async (context) => {
    let received = Buffer.alloc(0);
    const host = await engine(context, async (request, response) => {
      received = await buffer(request);
      response.end('{"stream":"Loaded image: a:1\\n"}\r\n');
    });
    await using client = new LayerdClient({ host });
    const messages = await Array.fromAsync(client.load(Readable.from([ARCHIVE, ARCHIVE])));
    assert.deepEqual(messages, [{ stream: 'Loaded image: a:1\n' }]);
    assert.ok(received.equals(Buffer.concat([ARCHIVE, ARCHIVE])));
  });

  it('hears a refusal that comes before the end of the archive, and stops sending', async (context) => {
    const host = await engine(context, (_request, response) => {
      response.writeHead(400, { 'Content-Type': 'application/json' }).end('{"message":"no archive"}');
    });
    let sent = 0;
    function* endless(): Generator<Buffer> {
      for (;;) {
        sent += 1;
        yield ARCHIVE;
      }
    }
    await using client = new LayerdClient({ host });
    await assert.rejects(Array.fromAsync(client.load(Readable.from(endless()))), {
      kind: 'invalid',
      status: 400,
      message: 'no archive',
    });
    assert.ok(sent < 1000);
  });

  it('sends no end of an archive that cannot be read to its own', async (context) => {
    const seen = Promise.withResolvers<string>();
    const host = await engine(context, (request) => {
      request.on('error', () => seen.resolve('broken')).on('end', () => seen.resolve('ended'));
      request.resume();
    });
    await using client = new LayerdClient({ host });
    const failing = (async function* () {
      yield ARCHIVE;
      await Promise.resolve();
      throw new Error('the disk is gone');
    })();
    await assert.rejects(Array.fromAsync(client.load(failing)), /the disk is gone/);
    assert.equal(await seen.promise, 'broken');
  });
});

describe('layerctl save and load', () => {
  it('save writes a file that is whole or not there', async (context) => {
    const folder = await temporaryDirectory(context);
    const file = join(folder, 'a.tar');
    const env = { LAYERD_HOST: await engine(context, saving) };
    assert.deepEqual(await layerctl(['save', '-o', file, 'a'], { env }), { status: 0, out: '', err: '' });
    assert.ok((await readFile(file)).equals(ARCHIVE));
    const cut = await engine(context, (_request, response) => {
      response.writeHead(200, { 'Content-Length': '1000' }).write('half');
      setTimeout(() => response.destroy(), 20);
    });
    const { status, err } = await layerctl(['save', '--output', file, 'a'], { env: { LAYERD_HOST: cut } });
    assert.equal(status, 1);
    assert.match(err, /connection/);
    assert.ok((await readFile(file)).equals(ARCHIVE));
    assert.deepEqual(await readdir(folder), ['a.tar']);
    const nowhere = await layerctl(['save', '-o', join(folder, 'no/such/folder.tar'), 'a'], { env });
    assert.deepEqual([nowhere.status, /cannot write .*folder\.tar/.test(nowhere.err)], [1, true]);
    assert.match((await layerctl(['save', '-o', folder, 'a'], { env })).err, /is a directory/);
  });

  it('save writes no archive to a terminal', async (context) => {
    const terminal = new Capture(true);
    const env = { LAYERD_HOST: await engine(context, saving), TERM: 'xterm' };
    const { status, err } = await layerctl(['save', 'a'], { env, stdout: terminal });
    assert.deepEqual([status, terminal.text], [2, '']);
    assert.match(err, /not for a terminal.*--output/);
  });

  it('load reads standard input or a file, but no terminal, and prints what was loaded', async (context) => {
    const bodies: Buffer[] = [];
    const env = {
      LAYERD_HOST: await engine(context, async (request, response) => {
        bodies.push(await buffer(request));
        response.end('{"stream":"Loaded image: a:1\\n"}\r\n{"stream":"Loaded image: b:1\\n"}\r\n');
      }),
    };
    const loaded = { status: 0, out: 'Loaded image: a:1\nLoaded image: b:1\n', err: '' };
    assert.deepEqual(await layerctl(['load'], { env, stdin: Readable.from([ARCHIVE]) }), loaded);
    const file = join(await temporaryDirectory(context), 'a.tar');
    await writeFile(file, ARCHIVE);
    assert.deepEqual(await layerctl(['load', '-q', '-i', file], { env }), loaded);
    assert.ok(bodies.every((body) => body.equals(ARCHIVE)));
    const terminal = Object.assign(Readable.from([]), { isTTY: true });
    const refused = await layerctl(['load'], { env, stdin: terminal });
    assert.equal(refused.status, 2);
    assert.match(refused.err, /no archive: name a file with --input/);
    assert.match((await layerctl(['load', '-i', `${file}.not`], { env })).err, /cannot read .*a\.tar\.not/);
  });
});
