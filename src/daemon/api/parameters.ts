import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import { decodePlatform } from '../images/platform.ts';
import { withTag, type Reference } from '../../protocol/reference.ts';
import { parseDuration, parseTime } from '../../protocol/time.ts';

/** A parameter is never longer than this in an error message, in characters. */
const QUOTED = 100;

/** Quotes what a client sent, cut to a sane length. */
export const quote = (text: string): string =>
  JSON.stringify(text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text);

const FALSE: ReadonlySet<string> = new Set(['', '0', 'no', 'false', 'none']);

/** A flag, as dockerd reads it: everything is true but an empty value, 0, no, false and none. */
export function flag(query: URLSearchParams, name: string): boolean {
  return !FALSE.has((query.get(name) ?? '').trim().toLowerCase());
}

/** A platform as JSON (OCI image index spec, `platform`); undefined where the parameter is missing or empty. */
export function platform(query: URLSearchParams, name: string): Platform | undefined {
  const text = query.get(name) ?? '';
  return text === '' ? undefined : named(name, () => decodePlatform(text));
}

/** All platforms of a parameter that may be repeated. */
export function platforms(query: URLSearchParams, name: string): Platform[] {
  return query.getAll(name).map((text) => named(name, () => decodePlatform(text)));
}

/** A whole number within bounds; undefined where the parameter is missing or empty. */
export function integer(
  query: URLSearchParams,
  name: string,
  { min, max }: { min: number; max: number },
): number | undefined {
  const text = query.get(name) ?? '';
  if (text === '') return undefined;
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new LayerdError(
    'invalid',
    `parameter ${name}: ${quote(text)} is outside the range of [${min}, ${max}]: expected a number within it`,
  );
}

/** A point in time in Unix nanoseconds; undefined where the parameter is missing or empty. */
export function time(query: URLSearchParams, name: string): bigint | undefined {
  const text = query.get(name) ?? '';
  return text === '' ? undefined : named(name, () => parseTime(text, Date.now()));
}

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** A span of time such as 30m or 720h, in milliseconds; undefined where the parameter is missing or empty. */
export function duration(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name) ?? '';
  if (text === '') return undefined;
  const nanoseconds = parseDuration(text);
  if (nanoseconds !== undefined && nanoseconds >= 0n) return Number(nanoseconds / NANOSECONDS_PER_MILLISECOND);
  throw new LayerdError(
    'invalid',
    `parameter ${name}: ${quote(text)} is no span of time; expected one such as 30m or 720h`,
  );
}

/** A reference with the tag of a parameter of its own, which goes before the one in the name. */
export function tagged(reference: Reference, query: URLSearchParams): Reference {
  const tag = query.get('tag') ?? '';
  return tag === '' ? reference : named('tag', () => withTag(reference, tag));
}

/** What the body makes of a parameter, or of a field of a body; an error says which one it was. */
export function named<T>(name: string, body: () => T, what: 'parameter' | 'field' = 'parameter'): T {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof LayerdError)) throw error;
    throw new LayerdError(error.kind, `${what} ${name}: ${error.message}`, { cause: error });
  }
}
