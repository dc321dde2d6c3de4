import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ListFormat } from '../../src/client/format/format.ts';
import { alignTabs, width } from '../../src/client/format/table.ts';
import { formatNanos, formatSeconds } from '../../src/client/format/time.ts';
import { binarySize, ellipsis, humanDuration, humanSize, shortenId, since } from '../../src/client/format/units.ts';
import { toEngineTime } from '../../src/client/timestamp.ts';

describe('sizes', () => {
  for (const [bytes, text] of [
    [0, '0B'],
    [999, '999B'],
    [1000, '1kB'],
    [4302, '4.3kB'],
    [92_383_675, '92.4MB'],
    [209_055_764, '209MB'],
    [999_999, '1MB'],
    [1_234_567_890, '1.23GB'],
    [5.5e18, '5.5EB'],
  ] as const) {
    it(`${bytes} bytes are ${text}`, () => assert.equal(humanSize(bytes), text));
  }

  it('have four digits where they grow before one’s eyes', () => {
    assert.equal(humanSize(38_866_733, 4), '38.87MB');
    assert.equal(humanSize(1195, 4), '1.195kB');
  });

  it('of memory are in powers of 1024', () => assert.equal(binarySize(25_276_030_976), '23.54GiB'));

  it('are within half a unit of the last digit', () => {
    const factors: Readonly<Record<string, number>> = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15 };
    fc.assert(
      fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (bytes) => {
        const [, number = '', unit = ''] = /^([\d.]+)(\w+)$/.exec(humanSize(bytes)) ?? [];
        assert.ok(Number(number) < 1000 && number.replace('.', '').length <= 4);
        assert.ok(Math.abs(Number(number) * (factors[unit] ?? Number.NaN) - bytes) <= bytes * 0.005);
      }),
    );
  });
});

describe('durations', () => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000];
  for (const [ms, text] of [
    [999, 'Less than a second'],
    [second, '1 second'],
    [59 * second, '59 seconds'],
    [minute, 'About a minute'],
    [2 * minute, '2 minutes'],
    [29 * minute + 59 * second, '29 minutes'],
    [hour, 'About an hour'],
    [hour + 31 * minute, '2 hours'],
    [47 * hour, '47 hours'],
    [2 * day, '2 days'],
    [13 * day, '13 days'],
    [14 * day, '2 weeks'],
    [60 * day, '2 months'],
    [730 * day, '2 years'],
  ] as const) {
    it(`${ms} ms are ${text}`, () => assert.equal(humanDuration(ms), text));
  }

  it('since before 1970 are not known', () => {
    assert.equal(since(-62_135_596_800, 0), 'N/A');
    assert.equal(since(0, 3 * hour), '3 hours ago');
  });
});

describe('identifiers and texts', () => {
  it('are shortened when they are digests alone', () => {
    assert.equal(shortenId(`sha256:${'ab'.repeat(32)}`), 'abababababab');
    assert.equal(shortenId('<missing>'), '<missing>');
  });

  it('are cut by characters, not by code units', () => {
    assert.equal(ellipsis('ábc😀def', 5), 'ábc😀…');
    assert.equal(ellipsis('abcde', 5), 'abcde');
  });
});

describe('times', () => {
  it('are given to the engine as seconds with nine digits', () => {
    const now = Date.parse('2026-01-15T12:00:00.250Z');
    assert.equal(toEngineTime('1795472470.5', now), '1795472470.500000000');
    assert.equal(toEngineTime('2026-01-15T12:00:00Z', now), '1768478400.000000000');
    assert.equal(toEngineTime('1h30m', now), '1768473000.250000000');
    assert.equal(toEngineTime('1000000h', now), '0.000000000');
    assert.throws(() => toEngineTime('soon', now), /soon/);
  });

  it('are printed so that they read back as the same instant', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n }), (nanos) => {
        const text = formatNanos(nanos);
        assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)$/);
        assert.equal(BigInt(Date.parse(text)), nanos / 1_000_000n);
        assert.ok(text.includes(`.${(nanos % 1_000_000_000n).toString().padStart(9, '0')}`));
        assert.equal(Date.parse(formatSeconds(Number(nanos / 1_000_000_000n))), Number(nanos / 1_000_000_000n) * 1000);
      }),
    );
  });
});

describe('a table', () => {
  it('has every cell of a column begin at the same place', () => {
    const cell = fc.string({ unit: fc.constantFrom('a', 'é', '😀', ' ', '.') });
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 5 })
          .chain((columns) => fc.array(fc.array(cell, { minLength: columns, maxLength: columns }))),
        (rows) => {
          const lines = alignTabs(rows.map((row) => row.join('\t')));
          let starts = 0;
          for (let column = 0; column + 1 < (rows[0]?.length ?? 0); column += 1) {
            const wide = Math.max(10, ...rows.map((row) => width(row[column] ?? '') + 3));
            for (const [index, row] of rows.entries()) {
              const shown = Array.from(lines[index] ?? '')
                .slice(starts, starts + wide)
                .join('');
              assert.equal(shown, (row[column] ?? '') + ' '.repeat(wide - width(row[column] ?? '')));
            }
            starts += wide;
          }
          assert.deepEqual(
            lines.map((line) => Array.from(line).slice(starts).join('')),
            rows.map((row) => row.at(-1)),
          );
        },
      ),
    );
  });
});

describe('the format of a list', () => {
  const row = { headings: { ID: 'IMAGE ID', Size: 'SIZE' }, table: '{{.ID}}\t{{.Size}}' };
  const rows = [{ ID: 'a', Size: '1MB' }];
  for (const [format, lines] of [
    [undefined, ['IMAGE ID   SIZE', 'a          1MB']],
    ['table', ['IMAGE ID   SIZE', 'a          1MB']],
    [String.raw`table {{.Size}}\t{{lower .ID}}`, ['SIZE      image id', '1MB       a']],
    ['json', ['{"ID":"a","Size":"1MB"}']],
    ['{{json .}}', ['{"ID":"a","Size":"1MB"}']],
    ['{{.ID}}-{{.Size}}', ['a-1MB']],
  ] as const) {
    it(`${format ?? 'by default'} gives ${JSON.stringify(lines)}`, () => {
      assert.deepEqual(new ListFormat(format, row).lines(rows), lines);
    });
  }

  it('has headings also when there are no rows', () => {
    assert.deepEqual(new ListFormat(undefined, row).lines([]), ['IMAGE ID   SIZE']);
  });
});
