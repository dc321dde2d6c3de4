/** Makes tars by hand, so that a test can have any of their forms, right or wrong. */

export interface Entry {
  name?: string | Buffer;
  type?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  target?: string | Buffer;
  body?: Buffer | string;
  /** What the header says, where it is not the length of the body. */
  size?: number;
  major?: number;
  minor?: number;
  format?: 'ustar' | 'gnu' | 'v7';
  prefix?: string;
  /** Records of a pax header that precedes the entry. */
  pax?: Record<string, string | Buffer>;
  /** Changes the finished header, before its checksum is written. */
  patch?: (header: Buffer) => void;
  /** Added to the checksum. */
  checksumError?: number;
  /** Blocks between the header and the body. */
  afterHeader?: Buffer;
}

export const S_BLOCK = 512;

/** A tar of these entries with its end marker. */
export const tar = (...entries: readonly Entry[]): Buffer =>
  Buffer.concat([...entries.map(entryBytes), Buffer.alloc(2 * S_BLOCK)]);

export function entryBytes(entry: Entry): Buffer {
  const body = Buffer.from(entry.body ?? '');
  const header = Buffer.alloc(S_BLOCK);
  const format = entry.format ?? 'ustar';
  Buffer.from(entry.name ?? '').copy(header, 0, 0, 100);
  writeNumber(header, entry.mode ?? (entry.type === '5' ? 0o755 : 0o644), 100, 8);
  writeNumber(header, entry.uid ?? 0, 108, 8);
  writeNumber(header, entry.gid ?? 0, 116, 8);
  writeNumber(header, entry.size ?? body.length, 124, 12);
  writeNumber(header, entry.mtime ?? 0, 136, 12);
  header.write(entry.type ?? '0', 156, 'latin1');
  Buffer.from(entry.target ?? '').copy(header, 157, 0, 100);
  if (format !== 'v7') {
    header.write(format === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1');
    writeNumber(header, entry.major ?? 0, 329, 8);
    writeNumber(header, entry.minor ?? 0, 337, 8);
    if (entry.prefix !== undefined) header.write(entry.prefix, 345, 'latin1');
  }
  entry.patch?.(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0) + (entry.checksumError ?? 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  const parts = [header, entry.afterHeader ?? Buffer.alloc(0), body, padding(body.length)];
  if (entry.pax !== undefined) {
    parts.unshift(entryBytes({ name: 'PaxHeaders/x', type: 'x', body: paxBody(entry.pax) }));
  }
  return Buffer.concat(parts);
}

/** Records of a pax header. */
export function paxBody(
  records: Record<string, string | Buffer> | readonly (readonly [string, string | Buffer])[],
): Buffer {
  const pairs = Array.isArray(records) ? (records as [string, string | Buffer][]) : Object.entries(records);
  return Buffer.concat(
    pairs.map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), Buffer.from(value), Buffer.from('\n')]);
      let length = rest.length;
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
      return Buffer.concat([Buffer.from(String(length)), rest]);
    }),
  );
}

/** A GNU long name ('L') or long link target ('K') for the entry that follows. */
export const gnuLong = (type: 'L' | 'K', text: string | Buffer): Entry => ({
  name: '././@LongLink',
  type,
  format: 'gnu',
  body: Buffer.concat([Buffer.from(text), Buffer.alloc(1)]),
});

/** A number in a header: octal, or base-256 where that does not fit. */
export function writeNumber(header: Buffer, value: number, offset: number, length: number): void {
  const octal = value < 0 ? '' : value.toString(8);
  if (value >= 0 && octal.length < length) {
    header.write(`${octal.padStart(length - 1, '0')}\0`, offset, 'latin1');
    return;
  }
  let rest = BigInt.asUintN(length * 8, BigInt(value));
  for (let at = offset + length - 1; at >= offset; at -= 1) {
    header[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  header[offset] = (header[offset] ?? 0) | 0x80;
}

const padding = (length: number): Buffer => Buffer.alloc((S_BLOCK - (length % S_BLOCK)) % S_BLOCK);
