import type { Platform } from '../../protocol/oci.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';

/** A parameter is never longer than this in an error message, in characters. */
const QUOTED = 100;

/** Quotes what a client sent, cut to a sane length. */
export const quote = (text: string): string =>
  JSON.stringify(text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text);

/** The error of a parameter that is not what was expected. */
export const invalidParameter = (name: string, value: string, expected: string): LayerdError =>
  new LayerdError('invalid', `invalid ${name} ${quote(value)}: expected ${expected}`);

const FALSE: ReadonlySet<string> = new Set(['', '0', 'no', 'false', 'none']);

/** A flag, as dockerd reads it: everything is true but an empty value, 0, no, false and none. */
export function flag(query: URLSearchParams, name: string): boolean {
  return !FALSE.has((query.get(name) ?? '').trim().toLowerCase());
}

/** Parameters that hold JSON are not longer than this, in characters. */
const MAX_JSON_LENGTH = 64 * 1024;

function json(name: string, text: string, expected: string): unknown {
  if (text.length > MAX_JSON_LENGTH) throw invalidParameter(name, text, `at most ${MAX_JSON_LENGTH} characters`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new LayerdError(
      'invalid',
      `invalid ${name} ${quote(text)}: expected ${expected} as JSON: ${messageOf(error)}`,
    );
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const PLATFORM = 'an OCI platform such as {"os":"linux","architecture":"arm64"}';

/** A platform as JSON (OCI image index spec, `platform`). */
export function parsePlatform(name: string, text: string): Platform {
  const value = json(name, text, PLATFORM);
  if (!isObject(value)) throw invalidParameter(name, text, PLATFORM);
  const { os, architecture, variant, 'os.version': osVersion, 'os.features': osFeatures } = value;
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '' || architecture === '') {
    throw invalidParameter(name, text, `${PLATFORM}, with both os and architecture`);
  }
  if (
    (variant !== undefined && typeof variant !== 'string') ||
    (osVersion !== undefined && typeof osVersion !== 'string') ||
    (osFeatures !== undefined && !isStrings(osFeatures))
  ) {
    throw invalidParameter(name, text, PLATFORM);
  }
  return {
    os,
    architecture,
    ...(variant !== undefined && variant !== '' && { variant }),
    ...(osVersion !== undefined && osVersion !== '' && { 'os.version': osVersion }),
    ...(osFeatures !== undefined && { 'os.features': osFeatures }),
  };
}

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

/** Filters by name: an event or image must match one value of each (all of them for labels). */
export type Filters = ReadonlyMap<string, readonly string[]>;

const FILTERS = 'an object of lists, such as {"label":["a=b"]}';

/** Filters as JSON: `{"name":["value"]}`, or as old clients send them, `{"name":{"value":true}}`. */
export function parseFilters(text: string): Filters {
  if (text === '') return new Map();
  const value = json('filters', text, FILTERS);
  if (value === null) return new Map();
  if (!isObject(value)) throw invalidParameter('filters', text, FILTERS);
  return new Map(
    Object.entries(value).map(([name, values]) => {
      if (isStrings(values)) return [name, values];
      if (isObject(values) && Object.values(values).every((set) => typeof set === 'boolean')) {
        return [name, Object.keys(values).filter((key) => values[key] === true)];
      }
      throw invalidParameter('filters', text, FILTERS);
    }),
  );
}

const UNIX = /^(-?\d{1,12})(?:\.(\d+))?$/;
const RFC_3339 = /^(\d{4}-\d{2}-\d{2})(?:[Tt](\d{2}(?::\d{2}(?::\d{2}(?:\.(\d+))?)?)?))?([Zz]|[+-]\d{2}:\d{2})?$/;
const DURATION = /^(?:\d+(?:\.\d+)?(?:h|m|s|ms|us|µs|ns))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g;
const NANOSECONDS: Readonly<Record<string, number>> = {
  h: 3600e9,
  m: 60e9,
  s: 1e9,
  ms: 1e6,
  us: 1e3,
  µs: 1e3,
  ns: 1,
};
const fraction = (digits: string): bigint => BigInt(digits.slice(0, 9).padEnd(9, '0'));

/**
 * A time: Unix seconds with a fraction, RFC 3339 or a beginning of it, or a duration before now (`10m`, `1h30m`). A time
 * without a zone is the daemon's local time. The result is in Unix nanoseconds; undefined for an empty text.
 */
export function parseTime(name: string, text: string, now: bigint): bigint | undefined {
  if (text === '') return undefined;
  const unix = UNIX.exec(text);
  if (unix !== null) {
    const nanoseconds = fraction(unix[2] ?? '');
    const seconds = BigInt(unix[1] ?? 0) * 1_000_000_000n;
    return text.startsWith('-') ? seconds - nanoseconds : seconds + nanoseconds;
  }
  const date = RFC_3339.exec(text);
  if (date !== null) {
    const clock = (date[2] ?? '00').replace(/\..*/, '');
    const full = clock + '00:00:00'.slice(clock.length);
    const instant = Date.parse(`${date[1] ?? ''}T${full}${(date[4] ?? '').toUpperCase()}`);
    if (!Number.isNaN(instant)) return BigInt(instant) * 1_000_000n + fraction(date[3] ?? '');
  }
  if (DURATION.test(text)) {
    const parts = [...text.matchAll(DURATION_PART)].map(
      ([, amount, unit]) => Number(amount) * (NANOSECONDS[unit ?? ''] ?? 0),
    );
    const total = parts.reduce((sum, part) => sum + part, 0);
    if (total < Number.MAX_SAFE_INTEGER * 1e3) return now - BigInt(Math.round(total));
  }
  throw invalidParameter(
    name,
    text,
    'Unix seconds, a date and time as in RFC 3339, or a duration before now such as 10m',
  );
}
