import assert from 'node:assert/strict';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf, noise, tarOf } from '../../support/images.ts';
import { loadContract, MISSING, type Answer } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

describe('imports', () => {
  let api: Fixture;
  let tar: Buffer;
  beforeEach(async () => {
    api = await Fixture.start();
    tar = await tarOf([
      { name: 'etc/hostname', content: 'here' },
      { name: 'data', content: noise('data', 300_000) },
    ]);
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function send(path: string, body?: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: api.socket, path, method: 'POST' }, (response) => {
        text(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, headers: response.headers, text: answer }),
          reject,
        );
      });
      request.on('error', reject).end(body);
    });
  }

  /** The image ID that a successful import answers with. */
  function idOf(answer: Answer): string {
    assert.equal(answer.status, 200, answer.text);
    const last = JSON.parse(answer.text.trim().split('\r\n').at(-1) ?? '') as { status: string };
    assert.match(last.status, /^sha256:[0-9a-f]{64}$/);
    return last.status;
  }

  const inspect = async (name: string): Promise<Record<string, unknown>> => {
    const { store } = api.store;
    const { config } = store.resolve(name);
    return JSON.parse((await api.store.content.read(config ?? 'sha256:')).toString()) as Record<string, unknown>;
  };

  const isEmpty = (): void => {
    for (const table of ['image', 'blob', 'lease', 'layer']) {
      assert.equal(api.store.db.get(`SELECT 1 FROM ${table}`), undefined, table);
    }
  };

  for (const [compression, compress] of [
    ['no', (bytes: Buffer) => bytes],
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ] as const) {
    it(`make an image of a tar with ${compression} compression, whose bytes stay as they came`, async () => {
      const bytes = compress(tar);
      const id = idOf(await send('/v1.56/images/create?fromSrc=-&repo=team/base&tag=1', bytes));
      const { store } = api.store;
      assert.equal(store.resolve('team/base:1').id, id);
      const [row] = store.db.all<{ digest: string; diff_id: string; media_type: string }>(
        'SELECT digest, diff_id, media_type FROM manifest_layer',
      );
      assert.equal(row?.digest, digestOf(bytes));
      assert.equal(row.diff_id, digestOf(tar));
      assert.match(row.media_type, compression === 'no' ? /layer\.v1\.tar$/ : new RegExp(`\\+${compression}$`));
    });
  }

  it('set what they were told', async () => {
    const query = new URLSearchParams([
      ['fromSrc', '-'],
      ['repo', 'r:2'],
      ['message', 'made by hand'],
      ['changes', 'CMD ["sh"]'],
      ['changes', 'LABEL team=base'],
      ['platform', 'linux/arm/v7'],
    ]);
    idOf(await send(`/images/create?${query.toString()}`, tar));
    const config = await inspect('r:2');
    assert.deepEqual(config['config'], { Cmd: ['sh'], Labels: { team: 'base' } });
    assert.deepEqual([config['os'], config['architecture'], config['variant']], ['linux', 'arm', 'v7']);
    assert.equal((config['history'] as { comment: string }[])[0]?.comment, 'made by hand');
    assert.deepEqual(config['rootfs'], { type: 'layers', diff_ids: [digestOf(tar)] });
    const said = api.events.read().map(({ action, attributes }) => [action, attributes['name'], attributes['team']]);
    assert.deepEqual(said, [
      ['tag', 'r:2', 'base'],
      ['import', 'r:2', 'base'],
    ]);
  });

  it('are dangling without a name, and take a name from the image that had it', async () => {
    const first = idOf(await send('/images/create?fromSrc=-', tar));
    assert.deepEqual(api.store.store.names(first as `sha256:${string}`), []);
    const second = idOf(await send('/images/create?fromSrc=-&repo=r', tar));
    const third = idOf(await send('/images/create?fromSrc=-&repo=r&changes=USER+me', tar));
    assert.equal(api.store.store.resolve('r:latest').id, third);
    assert.equal(api.store.store.resolve(second).id, second);
  });

  it('answer as the definition says', { skip: contract === undefined && MISSING }, async () => {
    for (const [path, body, status] of [
      ['/v1.56/images/create?fromSrc=-&repo=ok', tar, 200],
      ['/v1.24/images/create?fromSrc=-&repo=ok:2&platform=ignored/in/old/versions', tar, 200],
      ['/v1.56/images/create?fromSrc=-&repo=UPPER', tar, 400],
      ['/v1.56/images/create?fromSrc=-&repo=a&tag=-', tar, 400],
      ['/v1.56/images/create?fromSrc=-&tag=1', tar, 400],
      [`/v1.56/images/create?fromSrc=-&repo=a@${digestOf('')}`, tar, 400],
      ['/v1.56/images/create?fromSrc=-&platform=a/b/c/d', tar, 400],
      ['/v1.56/images/create?fromSrc=-&changes=RUN+x', tar, 400],
      ['/v1.56/images/create?fromSrc=-&fromImage=redis', tar, 400],
      ['/v1.56/images/create?fromSrc=', tar, 400],
      ['/v1.56/images/create?fromSrc=ftp%3A%2F%2Fhost%2Ffile', undefined, 400],
      ['/v1.56/images/create?fromSrc=http%3A%2F%2F', undefined, 400],
      ['/v1.56/images/create', undefined, 400],
    ] as const) {
      const answer = await send(path, body);
      assert.equal(answer.status, status, `${path}: ${answer.text.slice(0, 300)}`);
      contract?.check('POST', path, answer);
    }
  });

  for (const [what, bytes, message] of [
    ['no tar', () => noise('no tar', 4096), /what came is no layer: the layer's tar/],
    ['half a tar', () => tar.subarray(0, 100_000), /end|cut|truncated/],
    ['half a gzip', () => gzipSync(tar).subarray(0, 10_000), /unexpected end/],
    ['xz', () => Buffer.from('fd377a585a000004', 'hex'), /compressed with xz; decompress it first/],
  ] as const) {
    it(`refuse ${what} and leave nothing`, async () => {
      const answer = await send('/images/create?fromSrc=-&repo=r', bytes());
      assert.equal(answer.status, 400, answer.text);
      assert.match(answer.text, message);
      isEmpty();
    });
  }

  it('leave nothing of a client that stops halfway', async () => {
    await new Promise<void>((resolve) => {
      const request = httpRequest({ socketPath: api.socket, path: '/images/create?fromSrc=-&repo=r', method: 'POST' });
      request.on('error', () => resolve());
      request.write(tar.subarray(0, 200_000), () => setTimeout(() => request.destroy(new Error('stopped')), 50));
    });
    while (api.store.db.get('SELECT 1 FROM lease') !== undefined) await sleep(1);
    isEmpty();
  });

  describe('by URL', () => {
    let answer: (request: IncomingMessage, response: ServerResponse) => void;
    let url: string;
    const server = createServer((request, response) => answer(request, response));
    beforeEach(async () => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      url = `127.0.0.1:${(server.address() as AddressInfo).port}/rootfs.tar`;
    });
    afterEach(() => {
      server.closeAllConnections();
      server.close();
    });
    const create = (from: string): Promise<Answer> => send(`/images/create?fromSrc=${encodeURIComponent(from)}&repo=r`);

    it('download it, with a bar', async () => {
      answer = (_request, response) => response.setHeader('content-length', tar.length).end(tar);
      const result = await create(url);
      const id = idOf(result);
      assert.equal(api.store.store.resolve('r').id, id);
      const [first, ...rest] = result.text
        .trim()
        .split('\r\n')
        .map((line) => JSON.parse(line) as { status: string; progressDetail?: object });
      assert.deepEqual(first, { status: `Downloading from http://${url}` });
      assert.deepEqual(rest.at(-2)?.progressDetail, { current: tar.length, total: tar.length });
      assert.equal((await inspect('r'))['history'] !== undefined, true);
    });

    it('follow a redirect, and take a body without a length', async () => {
      answer = (request, response) => {
        if (request.url === '/rootfs.tar') response.writeHead(302, { location: '/real' }).end();
        else response.end(tar);
      };
      idOf(await create(`http://${url}`));
    });

    for (const [status, expected] of [
      [404, 404],
      [403, 403],
      [418, 503],
    ] as const) {
      it(`say that the server answered with ${status}`, async () => {
        answer = (_request, response) => response.writeHead(status).end('no');
        const result = await create(url);
        assert.match(
          result.text,
          new RegExp(`cannot download http://127\\.0\\.0\\.1:\\d+/rootfs\\.tar.*status ${status}`),
        );
        assert.equal(result.status, expected);
        isEmpty();
      });
    }

    it('fail with a body that ends early', async () => {
      answer = (_request, response) => {
        response.setHeader('content-length', tar.length);
        response.write(tar.subarray(0, 100_000), () => response.destroy());
      };
      const result = await create(url);
      assert.equal(result.status, 200);
      assert.match(result.text, /"errorDetail"/);
      isEmpty();
    });
  });
});
