import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Checksums } from '../../../src/daemon/content/checksum.ts';
import type { Repairer } from '../../../src/daemon/images/repair.ts';
import { Scrubber, type ScrubSettings } from '../../../src/daemon/images/scrub.ts';
import { Soundness } from '../../../src/daemon/images/soundness.ts';
import { Verifier, type VerifyRequest } from '../../../src/daemon/images/verify.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import type { VerifyReport } from '../../../src/protocol/engine.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { Fixture } from './fixture.ts';

const DAY = 24 * 60 * 60 * 1000;

describe('verification', () => {
  let fixture: Fixture;
  let checksums: Checksums;
  let soundness: Soundness;
  /** What was to be repaired; fails where that is set. */
  let repaired: string[];
  let failure: string | undefined;
  /** Of the start. */
  let reconciled: Promise<unknown>;
  const repairer = {
    repair: ({ kind, digest }: { kind: string; digest: Digest }) => {
      repaired.push(`${kind} ${digest}`);
      return failure === undefined ? Promise.resolve() : Promise.reject(new LayerdError('unavailable', failure));
    },
  } as unknown as Repairer;

  beforeEach(() => {
    fixture = new Fixture();
    checksums = new Checksums();
    const { db, content, layers } = fixture;
    soundness = new Soundness({ db, content, layers, checksums });
    repaired = [];
    failure = undefined;
    reconciled = Promise.resolve();
  });
  afterEach(async () => {
    await checksums.close();
    fixture[Symbol.dispose]();
  });

  /** An image without layers. */
  async function stored(): Promise<{ manifest: Digest; config: Digest }> {
    await fixture.image('empty:1', []);
    const { manifest, id } = fixture.store.resolve('empty:1');
    return { manifest, config: id };
  }

  const verifier = (sound: Pick<Soundness, 'check'> = soundness): Verifier => {
    const { store, content, layers, events } = fixture;
    const settled = (): Promise<unknown> => reconciled;
    const parts = {
      store,
      content,
      layers,
      repairer,
      events: { append: (event: never) => events.push(event) },
      settled,
    };
    return new Verifier({ ...parts, soundness: sound });
  };
  const verify = (subject: Verifier, options: Partial<VerifyRequest> = {}): Promise<VerifyReport> => {
    const { signal } = new AbortController();
    const request = { image: undefined, repair: false, client: 'test', credentialsFor: () => undefined, signal };
    return subject.verify({ ...request, ...options }, () => undefined);
  };

  it('is done one at a time, and again once it has ended or failed', async () => {
    await stored();
    const held = Promise.withResolvers<undefined>();
    const subject = verifier({ check: () => held.promise });
    const first = verify(subject);
    await assert.rejects(verify(subject), { kind: 'conflict', message: /already running/ });
    held.reject(new LayerdError('internal', 'too many open files'));
    await assert.rejects(first, /too many open files/);
    await assert.rejects(verify(subject), /too many open files/);
  });

  it('waits until what a start restores is there', async () => {
    const { config } = await stored();
    const bytes = await fixture.content.read(config);
    rmSync(fixture.content.path(config));
    const restoring = Promise.withResolvers<undefined>();
    reconciled = restoring.promise;
    const report = verify(verifier());
    await new Promise(setImmediate);
    writeFileSync(fixture.content.path(config), bytes);
    restoring.resolve(undefined);
    assert.deepEqual((await report).findings, []);
  });

  it('ends when the client goes away, and is not a finding', async () => {
    const { config } = await stored();
    const gone = new AbortController();
    gone.abort(new Error('gone'));
    await assert.rejects(verify(verifier(), { signal: gone.signal }), /gone/);
    assert.equal(fixture.content.has(config), true);
  });

  it('takes manifests first, which tell what the others need', async () => {
    const { manifest, config } = await stored();
    for (const digest of [config, manifest]) writeFileSync(fixture.content.path(digest), 'damaged');
    const { findings } = await verify(verifier(), { repair: true });
    assert.deepEqual(
      findings.map(({ id }) => id),
      [manifest, config],
    );
    assert.deepEqual(repaired, [`blob ${manifest}`, `blob ${config}`]);
  });

  it('says why a repair did not succeed, and goes on', async () => {
    const { manifest, config } = await stored();
    for (const digest of [config, manifest]) rmSync(fixture.content.path(digest));
    failure = 'the registry is down';
    const { findings } = await verify(verifier(), { repair: true });
    assert.deepEqual(
      findings.map(({ problem, repaired: done, error }) => ({ problem, done, error })),
      [manifest, config].map(() => ({ problem: 'missing', done: false, error: failure })),
    );
  });

  it('takes damage back that is none any more', async () => {
    const { config } = await stored();
    const bytes = await fixture.content.read(config);
    writeFileSync(fixture.content.path(config), 'damaged');
    await verify(verifier());
    assert.equal(fixture.content.has(config), false);
    writeFileSync(fixture.content.path(config), bytes);
    assert.deepEqual((await verify(verifier())).findings, []);
    assert.equal(fixture.content.has(config), true);
  });

  describe('in the background', () => {
    const errors: string[] = [];
    const scrubber = (settings: Partial<ScrubSettings>, now: string, isBusy = () => false): Scrubber => {
      const { db, store } = fixture;
      const log = { info: () => undefined, error: (message: string) => errors.push(message) };
      const all = { interval: 30 * DAY, rate: 1e9, hours: undefined, ...settings };
      return new Scrubber({ db, store, soundness, repairer, isBusy, log, settings: all, now: () => new Date(now) });
    };
    const verified = (): number =>
      fixture.db.get<{ count: number }>('SELECT count(verified_at) AS count FROM blob')?.count ?? 0;
    beforeEach(() => {
      errors.length = 0;
      fixture.db.run('UPDATE blob SET created_at = 0');
    });

    it('reads what was not read for so long, and only once', async () => {
      await stored();
      fixture.db.run('UPDATE blob SET created_at = ?', Date.parse('2026-01-01T00:00:00Z'));
      await scrubber({}, '2026-01-30T00:00:00Z').round();
      assert.equal(verified(), 0);
      await scrubber({}, '2026-02-01T00:00:00Z').round();
      assert.equal(verified(), 2);
    });

    it('keeps to its hours, over midnight too, and can be turned off', async () => {
      await stored();
      fixture.db.run('UPDATE blob SET created_at = 0');
      const hours = { from: 22 * 60, to: 5 * 60 };
      await scrubber({ hours }, '2026-02-01T12:00:00').round();
      await scrubber({ interval: 0 }, '2026-02-01T12:00:00').round();
      assert.equal(verified(), 0);
      await scrubber({ hours }, '2026-02-01T23:00:00').round();
      assert.equal(verified(), 2);
    });

    it('repairs what it finds, and tries again what it could not', async () => {
      const { config } = await stored();
      fixture.db.run('UPDATE blob SET created_at = 0');
      writeFileSync(fixture.content.path(config), 'damaged');
      failure = 'the registry is down';
      const first = scrubber({}, '2026-02-01T12:00:00Z');
      await first.round();
      await first.round();
      assert.deepEqual(repaired, [`blob ${config}`]);
      assert.match(errors.join('\n'), /is damaged: its file has 7 bytes.*could not be repaired: the registry is down/s);
      // A start begins anew.
      await scrubber({}, '2026-02-01T12:00:00Z').round();
      assert.equal(repaired.length, 2);
    });

    it('waits while transfers are under way', async () => {
      await stored();
      fixture.db.run('UPDATE blob SET created_at = 0');
      const subject = scrubber({}, '2026-02-01T12:00:00Z', () => true);
      const round = subject.round();
      await subject.close();
      await round;
      assert.equal(verified(), 0);
      assert.deepEqual(errors, []);
    });
  });
});
