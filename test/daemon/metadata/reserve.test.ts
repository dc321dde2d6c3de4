import assert from 'node:assert/strict';
import { existsSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { databaseWrites, dataRootWrites } from '../../../src/daemon/health/checks.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';
import { RESERVE_BYTES, Reserve } from '../../../src/daemon/metadata/reserve.ts';
import { isKind } from '../../../src/protocol/errors.ts';
import { must, needs, run, scratch } from '../../support/process.ts';

const MIB = 1024 * 1024;

const noSpace = (): never => {
  throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
};

/** A reserve in a folder, with what it has logged. */
function reserveIn(t: TestContext, folder: string): { reserve: Reserve; path: string; logged: string[] } {
  const logged: string[] = [];
  const say = (message: string) => void logged.push(message);
  const path = join(folder, 'reserve');
  const reserve = new Reserve(path, { info: say, warn: say });
  t.after(() => reserve.close());
  return { reserve, path, logged };
}

describe('the reserve', () => {
  it('takes space that is really there, also where a crash left a file without any, or another size', async (t) => {
    await using folder = await scratch('reserve');
    const { reserve, path, logged } = reserveIn(t, folder.path);
    for (const bytes of [0, 10, MIB + 10, RESERVE_BYTES, 2 * RESERVE_BYTES]) {
      writeFileSync(path, '');
      truncateSync(path, bytes);
      reserve.fill();
      const { size, blocks } = statSync(path);
      assert.deepEqual([size, blocks * 512 >= size], [RESERVE_BYTES, true]);
    }
    const { mtimeNs } = statSync(path, { bigint: true });
    reserve.fill();
    assert.equal(statSync(path, { bigint: true }).mtimeNs, mtimeNs, 'a whole one is left as it is');
    assert.deepEqual(logged, []);
  });

  it('is given up for work that meets a full disk, once, and for nothing else', async (t) => {
    await using folder = await scratch('reserve');
    const { reserve, path } = reserveIn(t, folder.path);
    reserve.fill();
    assert.throws(() => reserve.within(() => JSON.parse('{') as unknown), SyntaxError);
    assert.ok(existsSync(path));
    assert.equal(
      reserve.within(() => (existsSync(path) ? noSpace() : 'done')),
      'done',
    );
    let attempts = 0;
    assert.throws(
      () =>
        reserve.within(() => {
          attempts += 1;
          noSpace();
        }),
      /ENOSPC/,
    );
    assert.equal(attempts, 1, 'without a reserve there is no sense in trying again');
  });
});

describe('the metadata on a full disk', { skip: needs('root') }, () => {
  it('take essential transactions and no others, and the reserve then takes what it gets', async (t) => {
    await using folder = await scratch('full');
    if ((await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', folder.path])).code !== 0) {
      t.skip('cannot mount here');
      return;
    }
    const { reserve, path, logged } = reserveIn(t, folder.path);
    const database = new Database(join(folder.path, 'metadata.db'), reserve);
    try {
      const wanted = 4 * MIB;
      reserve.fill();
      const put = (key: string): unknown =>
        database.run('INSERT INTO fact (key, value) VALUES (?, ?)', key, 'x'.repeat(200_000));
      const ballast = join(folder.path, 'ballast');
      assert.throws(() => writeFileSync(ballast, Buffer.alloc(128 * MIB)), { code: 'ENOSPC' });

      await assert.rejects(dataRootWrites(folder.path).run(), /no space left/);
      await assert.rejects(databaseWrites(database).run(), /no space left/);
      assert.equal(reserve.shortage, undefined);

      const refused = (error: unknown): boolean => isKind(error, 'no-space') && error.message.includes('metadata.db');
      assert.throws(() => database.transaction(() => put('of a pull')), refused);
      assert.equal(statSync(path).size, wanted);
      database.essential(() => put('of a removal'));
      assert.deepEqual(
        database.all<{ key: string }>('SELECT key FROM fact').map(({ key }) => key),
        ['of a removal'],
      );

      assert.match(String(reserve.shortage), /given up/);
      reserve.fill();
      assert.match(String(reserve.shortage), /nearly full/);
      assert.ok(statSync(path).size > 0 && statSync(path).size < wanted, 'what is left of it');
      rmSync(ballast);
      reserve.fill();
      assert.equal(statSync(path).size, wanted);
      assert.equal(reserve.shortage, undefined);
      await dataRootWrites(folder.path).run();
      assert.deepEqual(
        logged.map((message) => /gave up|held back again/.exec(message)?.[0]),
        ['gave up', 'held back again'],
      );
    } finally {
      database.close();
      await must('umount', [folder.path]);
    }
  });
});
