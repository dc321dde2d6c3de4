import { LayerdError } from './errors.ts';

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;
const NANOSECONDS_PER_SECOND = 1_000_000_000n;

/** Units of a Go duration, in nanoseconds. */
const UNITS: ReadonlyMap<string, number> = new Map([
  ['ns', 1],
  ['us', 1e3],
  ['µs', 1e3],
  ['μs', 1e3],
  ['ms', 1e6],
  ['s', 1e9],
  ['m', 60e9],
  ['h', 3600e9],
]);

const DURATION = /^[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const DURATION_PART = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g;
const UNIX_TIME = /^(\d{1,12})(?:\.(\d{0,9}))?$/;
/** A date, with a time of hours, minutes or seconds or without, with a zone or without. */
const DATE_TIME =
  /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?)?(?:(Z)|([+-])(\d\d):(\d\d))?$/;

/**
 * Parses a point in time as the Engine API's `since` and `until` have it: Unix seconds with a fraction, a date or time
 * of RFC 3339 or its beginning (in local time where it has no zone), or a Go duration (`1h30m`) before now. Returns Unix
 * nanoseconds. `now` is Unix milliseconds. Throws `invalid`.
 */
export function parseTime(text: string, now: number): bigint {
  const before = parseDuration(text);
  if (before !== undefined) return BigInt(Math.floor(now)) * NANOSECONDS_PER_MILLISECOND - before;
  const unix = UNIX_TIME.exec(text);
  if (unix !== null) {
    return BigInt(unix[1] ?? 0) * NANOSECONDS_PER_SECOND + BigInt((unix[2] ?? '').padEnd(9, '0'));
  }
  const nanoseconds = parseDate(text);
  if (nanoseconds === undefined) {
    throw new LayerdError(
      'invalid',
      `failed to parse value as time or duration: "${text}"; use Unix seconds, RFC 3339 such as 2026-01-02T15:04:05Z, or a duration such as 10m`,
    );
  }
  return nanoseconds;
}

/** The Unix nanoseconds of a date and time of RFC 3339 or its beginning; undefined where it is none. */
export function parseDate(text: string): bigint | undefined {
  const match = DATE_TIME.exec(text);
  if (match === null) return undefined;
  const number = (group: number): number => Number(match[group] ?? 0);
  const [year, month, day, hour, minute, second] = [number(1), number(2), number(3), number(4), number(5), number(6)];
  const isUtc = match[8] !== undefined || match[9] !== undefined;
  const date = new Date(0);
  // The constructor would take years below 100 for those of the 20th century.
  if (isUtc) {
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second, 0);
  } else {
    date.setFullYear(year, month - 1, day);
    date.setHours(hour, minute, second, 0);
  }
  // A day or an hour that there is not would have rolled over into the next.
  const rolledOver = (isUtc ? date.getUTCDate() : date.getDate()) !== day || month < 1 || month > 12 || day < 1;
  if (rolledOver || hour > 23 || minute > 59 || second > 59 || number(10) > 24 || number(11) > 59) return undefined;
  const offset = (match[9] === '-' ? -1 : 1) * (number(10) * 3600 + number(11) * 60) * 1000;
  const fraction = (match[7] ?? '').slice(0, 9).padEnd(9, '0');
  return BigInt(date.getTime() - offset) * NANOSECONDS_PER_MILLISECOND + BigInt(fraction);
}

/** A time of RFC 3339 without zeros at the end of its fraction, as Go writes it (`RFC3339Nano`). */
export function trimFraction(time: string): string {
  return time.replace(/\.(\d*?)0*(?=Z|[+-]\d\d:\d\d$)/, (_, digits: string) => (digits === '' ? '' : `.${digits}`));
}

/** The nanoseconds of a Go duration such as `1h30m`; undefined where it is none. */
export function parseDuration(text: string): bigint | undefined {
  if (!DURATION.test(text)) return undefined;
  let sum = 0n;
  for (const [, amount = '', unit = ''] of text.matchAll(DURATION_PART)) {
    const [whole = '', fraction = ''] = amount.split('.');
    const scale = UNITS.get(unit) ?? 0;
    sum += BigInt(whole === '' ? 0 : whole) * BigInt(scale) + BigInt(Math.floor(Number(`0.${fraction}`) * scale));
  }
  return text.startsWith('-') ? -sum : sum;
}

/** The Unix seconds of a time of RFC 3339, rounded down; undefined where it is none. */
export function unixSeconds(time: string | undefined): number | undefined {
  const milliseconds = Date.parse(time ?? '');
  return Number.isNaN(milliseconds) ? undefined : Math.floor(milliseconds / 1000);
}
