import { cut, width } from './table.ts';

/** Sizes and durations in the words that docker has for them. */

const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'] as const;
const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** Bytes in powers of 1000, with so many significant digits: `209MB`, and with four `209.1MB`. */
export function humanSize(bytes: number, digits = 3): string {
  return scaled(bytes, 1000, DECIMAL, digits);
}

/** Bytes in powers of 1024: `23.54GiB`. */
export function binarySize(bytes: number): string {
  return scaled(bytes, 1024, BINARY, 4);
}

const SIZE = /^(\d{1,12}(?:\.\d{1,6})?) ?([kmgtp]?)(?:i?b)?$/;

/** Bytes of a size such as `20g`, `1.5GB` or `500MiB`, whose units are of 1024 as where docker takes sizes; undefined where it is none. */
export function parseSize(text: string): number | undefined {
  const [, amount, unit = ''] = SIZE.exec(text.toLowerCase()) ?? [];
  return amount === undefined
    ? undefined
    : Math.floor(Number(amount) * 1024 ** ' kmgtp'.indexOf(unit === '' ? ' ' : unit));
}

function scaled(bytes: number, base: number, units: readonly string[], digits: number): string {
  let value = bytes;
  let unit = 0;
  // What would be rounded up to the base is one of the next unit.
  while (unit < units.length - 1 && Number(value.toPrecision(digits)) >= base) {
    value /= base;
    unit += 1;
  }
  return `${Number(value.toPrecision(digits))}${units[unit] ?? ''}`;
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const WEEK = 7 * DAY;
const MONTH = 30 * DAY;
const YEAR = 365 * DAY;

/** How long a duration is, roughly: `About a minute`, `2 weeks`. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < MINUTE) return `${seconds} seconds`;
  if (seconds < 2 * MINUTE) return 'About a minute';
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} minutes`;
  const hours = Math.floor(seconds / HOUR + 0.5);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  const rounded = hours * HOUR;
  if (rounded < 2 * WEEK) return `${Math.floor(rounded / DAY)} days`;
  if (rounded < 2 * MONTH) return `${Math.floor(rounded / WEEK)} weeks`;
  if (rounded < 2 * YEAR) return `${Math.floor(rounded / MONTH)} months`;
  return `${Math.floor(seconds / YEAR)} years`;
}

/** How long ago Unix seconds are: `2 weeks ago`; `N/A` for a time before 1970, which stands for none. */
export function since(seconds: number, nowMs: number): string {
  return seconds < 0 ? 'N/A' : `${humanDuration(nowMs - seconds * 1000)} ago`;
}

/** The short form of an ID: twelve digits without the algorithm. Anything else stays. */
export function shortenId(id: string): string {
  const hex = id.startsWith('sha256:') ? id.slice('sha256:'.length) : id;
  return /^[0-9a-f]{13,}$/.test(hex) ? hex.slice(0, 12) : hex;
}

/** The text cut to so many characters, the last of them an ellipsis. */
export function ellipsis(text: string, length: number): string {
  return width(text) <= length ? text : `${cut(text, length - 1)}…`;
}
