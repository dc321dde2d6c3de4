import { LayerdError } from '../protocol/errors.ts';

/**
 * Reads a point in time as docker's `--since` and `--until` take it: Unix seconds with a fraction, RFC 3339 (date and
 * time may be cut short, without a zone they are local) or a Go duration before now, `1h30m`. Returns what the Engine
 * API wants: Unix seconds with up to nine digits of fraction. `now` is Unix milliseconds. Throws `invalid`.
 */
export function toEngineTime(text: string, now: number): string {
  if (/^\d+(?:\.\d{1,9})?$/.test(text)) return text;
  const nanos = durationNanos(text);
  if (nanos !== undefined) return secondsOf(BigInt(now) * 1_000_000n - nanos);
  const match = DATE_TIME.exec(text);
  if (match !== null) {
    const [, day = '', hours = '00', minutes = '00', seconds = '00', fraction = '', zone = ''] = match;
    const date = new Date(`${day}T${hours}:${minutes}:${seconds}${zone}`);
    if (!Number.isNaN(date.getTime())) return `${date.getTime() / 1000}${fraction === '' ? '' : `.${fraction}`}`;
  }
  throw new LayerdError(
    'invalid',
    `'${text}' is no point in time: give Unix seconds, a date or time as 2026-01-31T12:00:00Z, or a duration as 10m`,
  );
}

const DATE_TIME = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?(Z|[+-]\d\d:\d\d)?$/;

const DURATION = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/;
const TERM = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g;
const NANOS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Nanoseconds of a Go duration (`time.ParseDuration`); undefined if it is none. */
function durationNanos(text: string): bigint | undefined {
  const match = DURATION.exec(text);
  if (match === null) return undefined;
  let total = 0;
  for (const [, value = '0', unit = 's'] of (match[2] ?? '').matchAll(TERM)) {
    total += Number(value) * (NANOS[unit] ?? 0);
  }
  return BigInt(Math.round(match[1] === '-' ? -total : total));
}

function secondsOf(nanos: bigint): string {
  const text = (nanos < 0n ? 0n : nanos).toString().padStart(10, '0');
  return `${text.slice(0, -9)}.${text.slice(-9)}`;
}
