import { LayerdError } from '../../protocol/errors.ts';

/** The records of a pax extended header by key; both as bytes, the key as one character per byte. */
export type PaxRecords = Map<string, Buffer>;

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
/** Digits that the length of a record may have. */
const MAX_LENGTH_DIGITS = 10;

const SCHILY_XATTR = 'SCHILY.xattr.';
const LIBARCHIVE_XATTR = 'LIBARCHIVE.xattr.';

/**
 * Reads a pax extended header: records of the form `<length> <key>=<value>\n` (POSIX pax, "pax Extended Header"). A record
 * without a value takes back what an earlier header said. `sparse` gathers the pairs of GNU's sparse format 0.0, the only
 * keys that repeat.
 */
export function readPaxRecords(body: Buffer, records: PaxRecords, sparse: number[]): void {
  let at = 0;
  while (at < body.length) {
    let length = 0;
    let digits = 0;
    while (isDigit(body[at + digits]) && digits < MAX_LENGTH_DIGITS) {
      length = length * 10 + (body[at + digits] ?? 0) - DIGIT_0;
      digits += 1;
    }
    const end = at + length;
    const keyStart = at + digits + 1;
    if (digits === 0 || body[keyStart - 1] !== SPACE || end > body.length || body[end - 1] !== NEWLINE) {
      throw new LayerdError('corrupt', `the layer's tar has a malformed pax record at byte ${at} of a pax header`);
    }
    const equals = body.indexOf(EQUALS, keyStart);
    if (equals < keyStart + 1 || equals >= end - 1) {
      throw new LayerdError('corrupt', `the layer's tar has a pax record without a key at byte ${at} of a pax header`);
    }
    const key = body.toString('latin1', keyStart, equals);
    const value = body.subarray(equals + 1, end - 1);
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      // A map in which a key comes twice in a row is refused here, since the pairs would shift.
      if ((sparse.length % 2 === 0) !== (key === 'GNU.sparse.offset')) {
        throw new LayerdError('corrupt', "the layer's tar has a sparse file whose map is out of order");
      }
      sparse.push(readDecimal(value, key));
    } else records.set(key, value);
    at = end;
  }
}

/** A non-negative decimal number. */
export function readDecimal(value: Buffer, key: string): number {
  const text = value.toString('latin1');
  const number = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) {
    throw new LayerdError('corrupt', `the layer's tar has a pax record ${key} that is not a number: ${quote(value)}`);
  }
  return number;
}

/** A time: seconds, rounded down, and nanoseconds. */
export function readTime(value: Buffer): { seconds: number; nanoseconds: number } {
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value.toString('latin1'));
  if (match === null) {
    throw new LayerdError('corrupt', `the layer's tar has a pax time that is not a number: ${quote(value)}`);
  }
  const [, sign, whole = '0', fraction = ''] = match;
  const seconds = Number(whole);
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign !== '-') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: 0 - seconds, nanoseconds }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

/**
 * The extended attributes among the records, by name. `SCHILY.xattr.` (star, GNU tar, Go) has raw values;
 * `LIBARCHIVE.xattr.` (bsdtar, often beside the other) has percent-encoded names and base64 values.
 */
export function xattrsOf(records: PaxRecords): Map<string, Buffer> | undefined {
  let xattrs: Map<string, Buffer> | undefined;
  for (const [key, value] of records) {
    if (key.startsWith(LIBARCHIVE_XATTR)) {
      xattrs ??= new Map();
      const name = decodePercents(key.slice(LIBARCHIVE_XATTR.length));
      if (!records.has(SCHILY_XATTR + name)) xattrs.set(name, Buffer.from(value.toString('latin1'), 'base64'));
    } else if (key.startsWith(SCHILY_XATTR)) {
      xattrs ??= new Map();
      xattrs.set(key.slice(SCHILY_XATTR.length), value);
    }
  }
  return xattrs;
}

/** Bytes of an archive in an error message: printable ones as they are, no more than a few. */
export function quote(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 200)).toString('utf8');
  return JSON.stringify(bytes.length > 200 ? `${text}…` : text);
}

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= DIGIT_0 && byte <= DIGIT_9;

const decodePercents = (name: string): string =>
  name.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
