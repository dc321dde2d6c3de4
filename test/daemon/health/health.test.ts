import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  check,
  databaseReads,
  databaseWrites,
  dataRootWrites,
  eventLoopTurns,
  reserveHolds,
} from '../../../src/daemon/health/checks.ts';
import { EventLoopDelay } from '../../../src/daemon/health/event-loop.ts';
import { Health, type Check } from '../../../src/daemon/health/health.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';

const find = async (one: Check) => (await new Health([one]).find())[0];

describe('checks of health', () => {
  it('are made once for all who ask within a second', async () => {
    let runs = 0;
    let now = 0;
    const counted = check('counted', () => void (runs += 1));
    const health = new Health([counted], { now: () => now });
    await Promise.all([health.find(), health.find()]);
    now = 999;
    await health.find();
    assert.equal(runs, 1);
    now = 1000;
    await health.find();
    assert.equal(runs, 2);
  });

  it('fail where they do not end, and are not begun again meanwhile', async () => {
    let runs = 0;
    const hanging = check('disk', () => {
      runs += 1;
      return new Promise<void>(() => undefined);
    });
    const health = new Health([hanging], { timeout: 10 });
    const alive = setInterval(() => undefined, 1000);
    for (let time = 0; time < 2; time += 1) {
      assert.deepEqual(await health.find(), [{ name: 'disk', isWell: false, note: 'no answer within 0.01 s' }]);
    }
    clearInterval(alive);
    assert.equal(runs, 1);
  });
});

describe('the checks', () => {
  it('find a database that answers, and one that does not', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'layerd-health-'));
    try {
      const db = new Database(join(folder, 'metadata.db'));
      assert.equal((await find(databaseReads(db)))?.isWell, true);
      assert.equal((await find(databaseWrites(db)))?.isWell, true);
      db.run('PRAGMA query_only = ON');
      assert.equal((await find(databaseReads(db)))?.isWell, true);
      assert.equal((await find(databaseWrites(db)))?.isWell, false);
      db.close();
      assert.equal((await find(databaseReads(db)))?.isWell, false);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('find a data root that files can be written in, and one that is gone', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'layerd-health-'));
    assert.equal((await find(dataRootWrites(folder)))?.isWell, true);
    rmSync(folder, { recursive: true });
    const finding = await find(dataRootWrites(folder));
    assert.equal(finding?.isWell, false);
    assert.match(finding.note ?? '', /write .*\/health/);
  });

  it('tell why no space is held back', async () => {
    assert.equal((await find(reserveHolds({ shortage: undefined })))?.isWell, true);
    const finding = await find(reserveHolds({ shortage: 'the disk is nearly full' }));
    assert.equal(finding?.isWell, false);
    assert.match(finding.note ?? '', /removing images.*the disk is nearly full/);
  });

  it('find an event loop that does not turn, while it does not and after', async () => {
    const observed: number[] = [];
    const first = Promise.withResolvers<undefined>();
    using delay = new EventLoopDelay((seconds) => {
      observed.push(seconds);
      first.resolve(undefined);
    });
    assert.equal((await find(eventLoopTurns(delay)))?.isWell, true);
    // A turn that is longer than the timer's interval.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
    assert.ok(delay.longest >= 90, `${delay.longest}`);
    const alive = setInterval(() => undefined, 1000);
    await first.promise;
    clearInterval(alive);
    assert.ok((observed[0] ?? 0) >= 0.09, `${observed[0]}`);
    assert.ok(delay.longest >= 90, `${delay.longest}`);
    assert.equal((await find(eventLoopTurns({ longest: 5001 })))?.note, 'it was blocked for 5.0 s');
  });
});
