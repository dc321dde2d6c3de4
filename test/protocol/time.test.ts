import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseDate, parseTime, trimFraction, unixSeconds } from '../../src/protocol/time.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);
const SECOND = 1_000_000_000n;
const at = (text: string): bigint => parseTime(text, NOW);
const utc = (...parts: [number, number, number, number?, number?, number?]): bigint =>
  BigInt(Date.UTC(...parts)) * 1_000_000n;
const local = (...parts: [number, number, number, number?, number?, number?]): bigint =>
  BigInt(new Date(...parts).getTime()) * 1_000_000n;

describe('a point in time', () => {
  it('is Unix seconds, with a fraction or without', () => {
    assert.equal(at('0'), 0n);
    assert.equal(at('1136073600'), 1136073600n * SECOND);
    assert.equal(at('1136073600.5'), 1136073600n * SECOND + SECOND / 2n);
    assert.equal(at('1136073600.000000001'), 1136073600n * SECOND + 1n);
  });

  it('is a date and time of RFC 3339, in local time where it has no zone', () => {
    assert.equal(at('2006-01-02T15:04:05Z'), utc(2006, 0, 2, 15, 4, 5));
    assert.equal(at('2006-01-02T15:04:05.999999999Z'), utc(2006, 0, 2, 15, 4, 5) + 999_999_999n);
    assert.equal(at('2006-01-02T15:04:05+07:00'), utc(2006, 0, 2, 8, 4, 5));
    assert.equal(at('2006-01-02T15:04-07:30'), utc(2006, 0, 2, 22, 34));
    assert.equal(at('2006-01-02T15Z'), utc(2006, 0, 2, 15));
    assert.equal(at('2006-01-02Z'), utc(2006, 0, 2));
    assert.equal(at('2006-01-02T15:04:05'), local(2006, 0, 2, 15, 4, 5));
    assert.equal(at('2006-01-02T15:04:05.5'), local(2006, 0, 2, 15, 4, 5) + SECOND / 2n);
    assert.equal(at('2006-01-02T15:04'), local(2006, 0, 2, 15, 4));
    assert.equal(at('2006-01-02'), local(2006, 0, 2));
    assert.equal(at('0001-01-01T00:00:00Z'), -62135596800n * SECOND);
    assert.equal(at('2024-02-29T00:00:00Z'), utc(2024, 1, 29));
  });

  it('is a duration before now, as Go writes durations', () => {
    const now = BigInt(NOW) * 1_000_000n;
    assert.equal(at('10m'), now - 600n * SECOND);
    assert.equal(at('1h30m'), now - 5400n * SECOND);
    assert.equal(at('1.5h'), now - 5400n * SECOND);
    assert.equal(at('.5s'), now - SECOND / 2n);
    assert.equal(at('100ms20us3ns'), now - 100_020_003n);
    assert.equal(at('-1h'), now + 3600n * SECOND);
  });

  it('that is none is refused', () => {
    for (const text of [
      '',
      'yesterday',
      '10 m',
      '1d',
      '2006-13-01',
      '2006-02-30',
      '2023-02-29T00:00:00Z',
      '2006-01-02T24:00:00Z',
      '2006-01-02T15:60:00Z',
      '2006-01-02T15.5',
      '2006-01-02 15:04:05',
      '2006-00-01',
      '-5',
    ]) {
      assert.throws(() => at(text), { kind: 'invalid', message: /^failed to parse value as time or duration/ }, text);
    }
  });

  it('of any date that there is is read back', () => {
    fc.assert(
      fc.property(
        fc.date({ noInvalidDate: true, min: new Date('0001-01-01'), max: new Date('9999-12-31') }),
        (date) => {
          assert.equal(parseDate(date.toISOString()), BigInt(date.getTime()) * 1_000_000n);
          assert.equal(parseDate(trimFraction(date.toISOString())), BigInt(date.getTime()) * 1_000_000n);
          assert.equal(unixSeconds(date.toISOString()), Math.floor(date.getTime() / 1000));
        },
      ),
    );
  });

  it('is written without zeros at the end of its fraction', () => {
    assert.equal(trimFraction('2025-01-01T00:00:00.120000000Z'), '2025-01-01T00:00:00.12Z');
    assert.equal(trimFraction('2025-01-01T00:00:00.000Z'), '2025-01-01T00:00:00Z');
    assert.equal(trimFraction('2025-01-01T00:00:00.10+01:00'), '2025-01-01T00:00:00.1+01:00');
    assert.equal(trimFraction('2025-01-01T00:00:10Z'), '2025-01-01T00:00:10Z');
  });
});
