import { LayerdError } from '../../protocol/errors.ts';

/**
 * Parses a point in time as the Engine API's `since` and `until` have it: Unix seconds with a fraction, a date or time
 * of RFC 3339, or a Go duration (`1h30m`) before now. Returns Unix nanoseconds. `now` is Unix milliseconds.
 */
export function parseTime(_text: string, _now: number): bigint {
  throw new LayerdError('not-implemented', 'parseTime');
}
