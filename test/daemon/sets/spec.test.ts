import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nextAttempt, nextCheck } from '../../../src/daemon/sets/cadence.ts';
import { MAX_IMAGES, parseSpec } from '../../../src/daemon/sets/spec.ts';
import { isKind } from '../../../src/protocol/errors.ts';
import { AMD64, sha256 } from '../images/fixture.ts';

const images = (spec: object) => parseSpec(spec, AMD64).images;

describe('the spec of an image set', () => {
  it('has a reference alone stand for all defaults', () => {
    const [one, digest] = images({ images: ['redis', `debian:12@${sha256('x')}`] });
    assert.deepEqual(
      [one?.name, one?.platformName, one?.policy, one?.cadence, one?.credentials],
      ['redis:latest', '', 'IfNotPresent', undefined, undefined],
    );
    assert.equal(digest?.name, `debian@${sha256('x')}`);
  });

  it('has defaults for all images, which each of them may change', () => {
    const [one, two, three, four] = images({
      platform: 'arm64',
      pullPolicy: 'Always',
      interval: '6h',
      jitter: '10m',
      credentials: 'corp',
      images: [
        'redis:7',
        { reference: 'debian:12', platform: 'linux/amd64', schedule: '0 3 * * *', credentials: 'other' },
        { reference: 'node:18', pullPolicy: 'IfNotPresent' },
        { reference: 'gcc:12', interval: '90s', jitter: '0s' },
      ],
    });
    assert.ok(one && two && three && four);
    assert.deepEqual(one.cadence, { interval: 21_600_000, jitter: 600_000 });
    assert.deepEqual([one.platformName, one.credentials], ['linux/arm64', 'corp']);
    assert.deepEqual(two.cadence, { schedule: '0 3 * * *', jitter: 600_000 });
    assert.deepEqual([two.platformName, two.credentials], ['linux/amd64', 'other']);
    assert.equal(three.cadence, undefined);
    assert.deepEqual(four.cadence, { interval: 90_000, jitter: 0 });
  });

  it('checks every hour where it does not say when', () => {
    const [one] = images({ images: [{ reference: 'redis', pullPolicy: 'Always' }] });
    assert.deepEqual(one?.cadence, { interval: 3_600_000, jitter: undefined });
  });

  const always = { reference: 'redis', pullPolicy: 'Always' };
  const refused: readonly (readonly [what: unknown, message: RegExp])[] = [
    [[], /expected a JSON object with images/],
    [null, /expected a JSON object/],
    [{}, /^field images: expected a list/],
    [{ images: [], color: 1, shape: 2 }, /^field color, shape: unknown; expected images, platform/],
    [{ images: [1] }, /^field images\[0\]: expected a reference/],
    [{ images: ['a', 'UPPER'] }, /^field images\[1\]: .*lowercase/],
    [{ images: [{ reference: '' }] }, /^field images\[0\]\.reference: /],
    [{ images: [{}] }, /^field images\[0\]\.reference: expected a reference/],
    [{ images: [{ reference: 'a', tag: 'b' }] }, /^field images\[0\]\.tag: unknown; expected reference, platform/],
    [{ images: ['redis', 'docker.io/library/redis:latest'] }, /^field images\[1\]: redis:latest is listed twice/],
    [{ images: [`redis@sha512:${'a'.repeat(128)}`] }, /^field images\[0\]: .*sha256/],
    [
      { images: Array.from({ length: MAX_IMAGES + 1 }, (_, at) => `redis:${at}`) },
      /^field images: expected at most 500/,
    ],
    [{ images: [], pullPolicy: 'Never' }, /^field pullPolicy: expected IfNotPresent or Always, not "Never"/],
    [{ images: [{ ...always, interval: '1 day' }] }, /^field images\[0\]\.interval: expected a span of time/],
    [{ images: [{ ...always, interval: '10ms' }] }, /^field images\[0\]\.interval: expected a span of time from 1s/],
    [{ images: [{ ...always, interval: '-1h' }] }, /^field images\[0\]\.interval: /],
    [{ images: [{ ...always, interval: 60 }] }, /^field images\[0\]\.interval: expected a text/],
    [{ images: [{ ...always, jitter: '25h' }] }, /^field images\[0\]\.jitter: .*24h/],
    [{ images: [{ ...always, schedule: 'daily' }] }, /^field images\[0\]\.schedule: expected the five fields of cron/],
    [{ images: [{ ...always, schedule: '0 0 3 * * *' }] }, /^field images\[0\]\.schedule: expected the five fields/],
    [{ images: [{ ...always, schedule: '99 3 * * *' }] }, /^field images\[0\]\.schedule: expected the five fields/],
    [{ images: [{ ...always, schedule: '0 0 31 2 *' }] }, /^field images\[0\]\.schedule: .*there is none/],
    [{ images: [{ ...always, schedule: '2026-01-01T00:00:00' }] }, /^field images\[0\]\.schedule: /],
    [
      { images: [{ ...always, schedule: '0 3 * * *', interval: '1h' }] },
      /^field images\[0\]\.schedule: there is an int/,
    ],
    [
      { images: [{ reference: 'redis', interval: '1h' }] },
      /^field images\[0\]\.interval: only images with "pullPolicy"/,
    ],
    [{ images: ['redis'], interval: '1h' }, /^field interval: only images with "pullPolicy": "Always"/],
    [{ images: ['redis'], platform: 'linux/' }, /^field platform: /],
    [{ images: ['redis'], credentials: '../../etc/passwd' }, /^field credentials: expected the name of a file/],
  ];
  for (const [spec, message] of refused) {
    it(`refuses ${JSON.stringify(spec).slice(0, 90)}`, () => {
      assert.throws(
        () => parseSpec(spec, AMD64),
        (error: Error) => isKind(error, 'invalid') && message.test(error.message),
      );
    });
  }
});

describe('the cadence of checks', () => {
  const NOW = new Date(2026, 0, 1, 12, 0, 0).getTime();

  it('is an interval after the last, later by up to a tenth where no jitter is given', () => {
    const hour = { interval: 3_600_000, jitter: undefined };
    assert.equal(nextCheck(hour, NOW, 0), NOW + 3_600_000);
    assert.equal(nextCheck({ interval: 600_000, jitter: undefined }, NOW, 0.5), NOW + 630_000);
    // A tenth of a day would be no jitter but another schedule.
    assert.equal(nextCheck({ interval: 86_400_000, jitter: undefined }, NOW, 0.5), NOW + 86_400_000 + 150_000);
    assert.equal(nextCheck({ ...hour, jitter: 60_000 }, NOW, 0.5), NOW + 3_630_000);
  });

  it('follows cron in the local zone', () => {
    const three = new Date(2026, 0, 2, 3, 0, 0).getTime();
    assert.equal(nextCheck({ schedule: '0 3 * * *', jitter: 0 }, NOW, 0.9), three);
    assert.equal(nextCheck({ schedule: '0 3 * * *', jitter: 60_000 }, NOW, 0.5), three + 30_000);
    assert.equal(
      nextCheck({ schedule: '@daily', jitter: undefined }, NOW, 0.5),
      new Date(2026, 0, 2).getTime() + 150_000,
    );
  });

  it('backs off twice as long each time up to five minutes, and as long as the registry asks', () => {
    const at = (failures: number, asked = 0, random = 1) => nextAttempt(failures, asked, { now: 0, random });
    assert.deepEqual(
      [1, 2, 3, 9, 10, 500].map((failures) => at(failures)),
      [1000, 2000, 4000, 256_000, 300_000, 300_000],
    );
    assert.equal(at(3, 0, 0), 2000);
    assert.equal(at(1, 120_000, 0), 120_500);
  });
});
