import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { image, layer, noise, tarOf, type TestImage } from '../../support/images.ts';
import { loadContract, MISSING, type Answer } from './contract.ts';
import { Fixture } from './fixture.ts';

const contract = loadContract();

describe('the archives of the API', () => {
  let api: Fixture;
  let made: TestImage;
  let archive: Buffer;
  beforeEach(async () => {
    api = await Fixture.start();
    made = image({ layers: [await layer([{ name: 'file', content: noise('file', 200_000) }])] });
    const [config, blob] = made.blobs;
    archive = await tarOf([
      { name: 'layer.tar', content: blob?.bytes ?? '' },
      { name: 'c.json', content: config?.bytes ?? '' },
      {
        name: 'manifest.json',
        content: JSON.stringify([{ Config: 'c.json', RepoTags: ['a/b:1'], Layers: ['layer.tar'] }]),
      },
    ]);
  });
  afterEach(() => api[Symbol.asyncDispose]());

  async function send(method: string, path: string, body?: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: api.socket, path, method }, (response) => {
        response.setEncoding('latin1');
        text(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, headers: response.headers, text: answer }),
          reject,
        );
      });
      request.on('error', reject).end(body);
    });
  }

  it('are loaded and saved as the definition says', { skip: contract === undefined && MISSING }, async () => {
    for (const [method, path, body, status] of [
      ['POST', '/v1.56/images/load?quiet=0', archive, 200],
      ['POST', '/images/load', archive, 200],
      ['GET', '/v1.56/images/get?names=a/b:1&names=a/b', undefined, 200],
      ['GET', '/v1.56/images/a/b:1/get', undefined, 200],
      ['GET', '/v1.24/images/a%2Fb:1/get', undefined, 200],
      ['GET', '/images/nothing/get', undefined, 404],
      ['GET', '/images/get?names=nothing', undefined, 404],
      ['GET', '/images/get', undefined, 400],
      ['GET', '/images/get?names=', undefined, 400],
      ['GET', '/images/get?names=UPPER', undefined, 400],
      ['GET', '/images/a/b:1/get?platform=linux', undefined, 400],
      [
        'GET',
        '/images/a/b:1/get?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D',
        undefined,
        404,
      ],
      ['POST', '/images/load', Buffer.from('nothing'), 400],
      ['POST', '/images/load?platform=linux', archive, 400],
      ['POST', '/images/load', undefined, 400],
    ] as const) {
      const answer = await send(method, path, body);
      assert.equal(answer.status, status, `${method} ${path}: ${answer.text.slice(0, 300)}`);
      contract?.check(method, path, answer);
    }
  });

  it('tell of layers only to those who ask for it, and name what was loaded', async () => {
    const lines = async (query: string): Promise<Record<string, unknown>[]> => {
      const answer = await send('POST', `/images/load${query}`, archive);
      assert.equal(answer.headers['content-type'], 'application/json');
      api.store.remover.remove('a/b:1');
      return answer.text
        .split('\r\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    };
    const loaded = [{ stream: 'Loaded image: a/b:1\n' }];
    assert.deepEqual(await lines(''), loaded);
    assert.deepEqual(await lines('?quiet=1'), loaded);
    const told = await lines('?quiet=0');
    assert.deepEqual(told.at(-1), loaded[0]);
    assert.equal(told[0]?.['status'], 'Loading layer');
  });

  it('ignore platforms of versions that have none', async () => {
    assert.equal((await send('POST', '/v1.47/images/load?platform=linux', archive)).status, 200);
    assert.equal((await send('GET', '/v1.47/images/a/b:1/get?platform=linux')).status, 200);
  });

  it('end with a client that goes away while they are saved', async () => {
    assert.equal((await send('POST', '/images/load', archive)).status, 200);
    await new Promise<void>((resolve) => {
      const request = httpRequest({ socketPath: api.socket, path: '/images/a/b:1/get' }, (response) => {
        response.once('data', () => {
          request.destroy();
          resolve();
        });
      });
      request.on('error', () => undefined).end();
    });
    while (api.store.db.get('SELECT 1 FROM lease') !== undefined) await sleep(1);
    assert.deepEqual(
      api.lines.filter(({ level }) => level === 'error'),
      [],
    );
  });

  it('keep nothing in memory that a client does not read', async () => {
    const size = 24 * 1024 * 1024;
    const big = image({
      layers: [await layer([{ name: 'big', content: noise('big', size) }], { compression: 'none' })],
    });
    const [config, blob] = big.blobs;
    const bytes = await tarOf([
      { name: 'l', content: blob?.bytes ?? '' },
      { name: 'c', content: config?.bytes ?? '' },
      { name: 'manifest.json', content: JSON.stringify([{ Config: 'c', RepoTags: ['big:1'], Layers: ['l'] }]) },
    ]);
    assert.equal((await send('POST', '/images/load', bytes)).status, 200);
    let read = 0;
    const saving = await api.archives.saver.save(['big:1'], []);
    for (let chunk = await saving.next(); read < 1024 * 1024; chunk = await saving.next()) {
      if (chunk.done !== true) read += chunk.value.byteLength;
    }
    const before = process.memoryUsage().arrayBuffers;
    await sleep(100);
    // Nobody asks for more, so no more is read from the disk.
    assert.ok(process.memoryUsage().arrayBuffers - before < size / 4);
    await saving.return(undefined);
  });
});
