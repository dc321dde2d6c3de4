import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Ajv } from 'ajv';
import { readCredentials } from '../../../src/daemon/sets/credentials.ts';
import { checkSetFiles, SetFiles } from '../../../src/daemon/sets/files.ts';
import { imageSetSchema } from '../../../src/daemon/sets/schema.ts';
import { parseSpec } from '../../../src/daemon/sets/spec.ts';
import { messageOf } from '../../../src/protocol/errors.ts';
import { ROOT } from '../../support/daemon.ts';
import { until } from '../../support/stack.ts';
import { AMD64, Fixture } from '../images/fixture.ts';

describe('files of image sets', () => {
  let fixture: Fixture;
  let directory: string;
  let warnings: string[];
  let files: SetFiles;
  beforeEach(() => {
    fixture = new Fixture();
    warnings = [];
    directory = join(fixture.root, 'image-sets.d');
    mkdirSync(directory);
    const log = { warn: (text: string) => warnings.push(text), error: (text: string) => warnings.push(text) };
    files = new SetFiles({ sets: fixture.sets, host: AMD64, directory, log, onChange: () => undefined });
  });
  afterEach(async () => {
    await files.close();
    fixture[Symbol.dispose]();
  });
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
  const references = (name: string) => fixture.sets.get(name)?.members.map(({ wanted }) => wanted.name);
  const degraded = (name: string) => {
    const found = fixture.sets.get(name)?.conditions.find(({ type }) => type === 'Degraded');
    return found?.status === 'True' ? found.message : undefined;
  };

  it('are the sets that they are called after, until they are gone', async () => {
    write('base.json', '{"images":["redis:7"]}');
    write('.base.json.swp', '{');
    write('README', 'not a set');
    write('Odd_Name.json', '{"images":[]}');
    await files.read();
    await files.read();
    assert.deepEqual(fixture.sets.names(), ['base']);
    assert.equal(fixture.sets.get('base')?.file, join(directory, 'base.json'));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /Odd_Name\.json is no image set: a file is called after its set/);
    rmSync(join(directory, 'base.json'));
    await files.read();
    assert.deepEqual(fixture.sets.names(), []);
  });

  it('are read again when the directory changes', async () => {
    await files.read();
    write('base.json', '{"images":["redis:7"]}');
    await until('the set', () => Promise.resolve(references('base')?.[0] === 'redis:7'));
    write('.new', '{"images":["debian:12"]}');
    renameSync(join(directory, '.new'), join(directory, 'base.json'));
    await until('the change', () => Promise.resolve(references('base')?.[0] === 'debian:12'));
  });

  it('that are bad degrade their set alone, and unpin nothing', async () => {
    await fixture.image('redis:7', [fixture.layer('redis')]);
    write('base.json', '{"images":["redis:7"]}');
    write('good.json', '{"images":["debian:12"]}');
    await files.read();
    write('base.json', '{"images":["redis:7",{"reference":"debian:12","colour":1}]}');
    write('never.json', '{');
    await files.read();
    assert.equal(
      degraded('base')?.replace(directory, ''),
      '/base.json: field images[1].colour: unknown; expected reference, platform, pullPolicy, interval, schedule, jitter, credentials',
    );
    assert.match(degraded('never') ?? '', /never\.json: it is not JSON/);
    assert.deepEqual(references('base'), ['redis:7']);
    assert.throws(() => fixture.remover.remove('redis:7'), /pinned by image set base/);
    assert.equal(fixture.sets.get('good')?.problem, undefined);
    write('base.json', '{"images":["redis:7"]}');
    await files.read();
    fixture.sets.settle('base');
    assert.equal(degraded('base'), undefined);
  });

  it('wait for a set of the same name that was made through the API', async () => {
    fixture.sets.put('base', parseSpec({ images: ['redis:7'] }, AMD64));
    write('base.json', '{"images":["debian:12"]}');
    await files.read();
    assert.match(degraded('base') ?? '', /made through the API: delete it, or call the file otherwise/);
    assert.deepEqual(references('base'), ['redis:7']);
    fixture.sets.delete('base');
    await files.read();
    assert.deepEqual(references('base'), ['debian:12']);
  });

  it('are left in force where the directory cannot be read, and go with it', async () => {
    write('base.json', '{"images":["redis:7"]}');
    await files.read();
    renameSync(directory, `${directory}.away`);
    writeFileSync(directory, 'a file in its place');
    await files.read();
    assert.deepEqual(references('base'), ['redis:7']);
    assert.match(warnings[0] ?? '', /cannot be read, and stay as they are: ENOTDIR/);
    rmSync(directory);
    await files.read();
    assert.deepEqual(fixture.sets.names(), []);
  });

  it('are checked before a start: the first that is wrong is named', async () => {
    await checkSetFiles(directory, AMD64);
    await checkSetFiles(join(directory, 'nowhere'), AMD64);
    write('a.json', '{"images":["redis:7"]}');
    await checkSetFiles(directory, AMD64);
    write('b.json', '{"images":["redis:7"],"x":1}');
    await assert.rejects(checkSetFiles(directory, AMD64), /b\.json: field x: unknown/);
    rmSync(join(directory, 'b.json'));
    write('B.json', '{"images":[]}');
    await assert.rejects(checkSetFiles(directory, AMD64), /B\.json is no image set/);
  });
});

describe('config/', () => {
  const read = (name: string): unknown => JSON.parse(readFileSync(join(ROOT, 'config', name), 'utf8'));
  const validate = new Ajv({ strict: true, strictTypes: false, strictRequired: false }).compile(imageSetSchema());

  it('has the schema of image sets, and an example that fits it and the daemon', () => {
    const remedy = 'run node_modules/.bin/node scripts/config-files.ts';
    assert.deepEqual(read('image-set.schema.json'), JSON.parse(JSON.stringify(imageSetSchema())), remedy);
    const example = read('image-set.json');
    assert.ok(validate(example), JSON.stringify(validate.errors));
    assert.equal(parseSpec(example, AMD64).images.length, 4);
  });

  it('has a schema of image sets that refuses what the daemon refuses', () => {
    for (const bad of [
      {},
      { images: 'redis' },
      { images: [], x: 1 },
      { images: [{ tag: '7' }] },
      { images: [''] },
      { images: ['redis'], pullPolicy: 'Never' },
      { images: [{ reference: 'redis', pullPolicy: 'Always', interval: 'daily' }] },
      { images: [{ reference: 'redis', pullPolicy: 'Always', interval: '1h', schedule: '@daily' }] },
      { images: ['redis'], credentials: '../x' },
    ]) {
      assert.ok(!validate(bad), JSON.stringify(bad));
      assert.throws(() => parseSpec(bad, AMD64), { kind: 'invalid' });
    }
  });
});

describe('credentials by name', () => {
  const SECRET = 'correct horse battery staple';
  let fixture: Fixture;
  beforeEach(() => (fixture = new Fixture()));
  afterEach(() => fixture[Symbol.dispose]());
  const write = (content: object | string, mode = 0o600): void => {
    const path = join(fixture.root, 'corp.json');
    rmSync(path, { force: true });
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    chmodSync(path, mode);
  };
  const readAs = (registry = 'registry.example.com') => readCredentials(fixture.root, 'corp', registry);

  it('are those of the file, as it is now', async () => {
    write({ username: 'ann', password: SECRET });
    assert.deepEqual(await readAs(), { username: 'ann', password: SECRET });
    write({ identitytoken: SECRET });
    assert.deepEqual(await readAs(), { identityToken: SECRET });
    write({ username: 'ann', password: SECRET, registry: 'registry.example.com' }, 0o400);
    assert.deepEqual(await readAs(), { username: 'ann', password: SECRET });
  });

  it('are refused, and not quoted, where the file is not as it has to be', async () => {
    const account = { username: 'ann', password: SECRET };
    for (const [content, mode, expected] of [
      [account, 0o640, /corp\.json cannot be used: others than its owner may read it: chmod 600 it/],
      [account, 0o604, /others than its owner may read it/],
      [`{"password": "${SECRET}"`, 0o600, /it is not JSON/],
      [{ username: 'ann', passwort: SECRET }, 0o600, /expected no fields but username, password/],
      [{ username: 'ann', password: 1 }, 0o600, /field password: expected a text/],
      [{ password: SECRET }, 0o600, /expected "username" and "password", or "identitytoken"/],
      [`["${SECRET}"]`, 0o600, /expected a JSON object/],
      [
        { ...account, registry: 'other.example.com' },
        0o600,
        /are for other\.example\.com, not for registry\.example\.com/,
      ],
    ] as const) {
      write(content, mode);
      await assert.rejects(readAs(), (error) => {
        const message = messageOf(error);
        assert.match(message, expected);
        assert.ok(!message.includes(SECRET));
        return true;
      });
    }
    rmSync(join(fixture.root, 'corp.json'));
    await assert.rejects(readAs(), /corp\.json cannot be used: ENOENT/);
  });
});
