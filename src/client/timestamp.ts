import { parseTime } from '../protocol/time.ts';

const NANOSECONDS = 1_000_000_000n;

/**
 * A point in time as `--since` and `--until` take it, in the form the Engine API wants: Unix seconds with nine digits of
 * fraction. Durations and times without a zone are the user's, so they are understood here. `now` is Unix milliseconds.
 * Throws `invalid`.
 */
export function toEngineTime(text: string, now: number): string {
  const nanos = parseTime(text, now);
  // Before 1970 nothing happened either.
  const positive = nanos < 0n ? 0n : nanos;
  return `${positive / NANOSECONDS}.${(positive % NANOSECONDS).toString().padStart(9, '0')}`;
}
