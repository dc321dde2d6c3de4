/** Times in the local zone, in the forms that docker prints. */

const NANOSECONDS = 1_000_000_000n;

/** Unix nanoseconds as RFC 3339 with nine digits: `2026-11-23T22:21:10.827216021Z`. */
export function formatNanos(nanos: bigint): string {
  const fraction = ((nanos % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
  const date = new Date(Number((nanos - fraction) / 1_000_000n));
  return `${localTime(date, 'T')}.${fraction.toString().padStart(9, '0')}${zone(date, ':')}`;
}

/** Unix seconds as RFC 3339: `2026-11-23T21:50:41Z`. */
export function formatSeconds(seconds: number): string {
  const date = new Date(seconds * 1000);
  return localTime(date, 'T') + zone(date, ':');
}

/** Unix seconds as docker's `CreatedAt`: `2026-11-23 21:50:41 +0000 UTC`. */
export function formatCreatedAt(seconds: number): string {
  const date = new Date(seconds * 1000);
  const offset = date.getTimezoneOffset() === 0 ? '+0000' : zone(date, '');
  return `${localTime(date, ' ')} ${offset} ${zoneName(date)}`;
}

function localTime(date: Date, separator: string): string {
  const day = [String(date.getFullYear()).padStart(4, '0'), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return day + separator + [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
}

function zone(date: Date, colon: string): string {
  const west = date.getTimezoneOffset();
  if (west === 0) return 'Z';
  const minutes = Math.abs(west);
  return `${west < 0 ? '+' : '-'}${two(Math.floor(minutes / 60))}${colon}${two(minutes % 60)}`;
}

function zoneName(date: Date): string {
  const parts = new Intl.DateTimeFormat('en-US', { timeZoneName: 'short' }).formatToParts(date);
  return parts.find(({ type }) => type === 'timeZoneName')?.value ?? 'UTC';
}

const two = (value: number): string => String(value).padStart(2, '0');
