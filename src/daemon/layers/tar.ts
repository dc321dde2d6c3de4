import { LayerdError } from '../../protocol/errors.ts';
import { quote, readDecimal, readPaxRecords, readTime, xattrsOf, type PaxRecords } from './pax.ts';

/** Unit of a tar: headers and padding. */
const BLOCK = 512;
/** A path or link target longer than Linux's PATH_MAX is refused. */
export const MAX_PATH_BYTES = 4096;
/**
 * A pax header or GNU long name longer than 1 MiB is refused, as by Go's archive/tar. All of them before one entry may not
 * have more together, nor what global headers say: they are kept in memory, and it takes a few bytes to compress many.
 */
export const MAX_EXTENSION_BYTES = 1024 * 1024;
/** Pieces of data in a sparse file. */
export const MAX_SPARSE_EXTENTS = 128 * 1024;
/** User and group IDs are 32-bit; the last one means none. */
const MAX_ID = 0xfffffffe;

export type EntryKind = 'file' | 'directory' | 'symlink' | 'link' | 'character' | 'block' | 'fifo';

/**
 * What a tar's headers say about one file. Paths are bytes in a buffer of which the length gives the used part. The
 * reader has one object that it fills anew for each entry; whoever receives it copies what is to stay.
 */
export interface TarEntry {
  kind: EntryKind;
  readonly path: Uint8Array;
  pathLength: number;
  /** The target of a symbolic or hard link. */
  readonly target: Uint8Array;
  targetLength: number;
  /** Permission bits, with set-uid, set-gid and sticky. */
  mode: number;
  uid: number;
  gid: number;
  /** Modification time: seconds since 1970, rounded down, and the nanoseconds to add. */
  seconds: number;
  nanoseconds: number;
  /** Bytes of content, holes included; 0 for anything but a file. */
  size: number;
  major: number;
  minor: number;
  xattrs: ReadonlyMap<string, Uint8Array> | undefined;
}

/** Who takes the entries of a tar, in their order. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** The next bytes of the last entry's content; they are only valid during the call. */
  data(bytes: Uint8Array): void;
  /** The next `length` bytes of the last entry's content are zeros that the tar does not spell out. */
  hole(length: number): void;
  /** The last entry's content is complete. Comes for files alone. */
  endOfData(): void;
}

type State = 'header' | 'extension' | 'sparse-header' | 'sparse-map' | 'data' | 'padding' | 'end';

/** What the extension headers before an entry say about it. */
class Extensions {
  path: Buffer | undefined;
  target: Buffer | undefined;
  readonly records: PaxRecords = new Map();
  readonly sparsePairs: number[] = [];
  /** What the headers took. */
  bytes = 0;
}

/**
 * Reads a tar that is pushed in pieces, straight from the given buffers: v7, ustar, GNU (long names, base-256 numbers,
 * sparse files) and pax (with GNU's sparse formats 0.0, 0.1 and 1.0, and extended attributes). It reads what Go's
 * archive/tar reads, since that is what writes and reads the layers of this world, and also applies global pax headers.
 * Anything malformed is a LayerdError of kind `corrupt`.
 */
export class TarReader {
  readonly #sink: TarSink;
  readonly #entry: TarEntry = {
    kind: 'file',
    path: new Uint8Array(MAX_PATH_BYTES),
    pathLength: 0,
    target: new Uint8Array(MAX_PATH_BYTES),
    targetLength: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    seconds: 0,
    nanoseconds: 0,
    size: 0,
    major: 0,
    minor: 0,
    xattrs: undefined,
  };
  #state: State = 'header';
  /** A block that came in pieces. */
  readonly #partial = Buffer.alloc(BLOCK);
  #partialLength = 0;
  /** Bytes up to the next state: of an extension, of stored content, of padding. */
  #remaining = 0;
  #padding = 0;
  #sawZeroBlock = false;

  readonly #global: PaxRecords = new Map();
  /** Bytes of its keys and values. */
  #globalBytes = 0;
  #extensions: Extensions | undefined;
  #extensionType = 0;
  #extension = Buffer.alloc(0);
  #extensionLength = 0;

  /** Offsets and lengths of a sparse file's data, in turn; undefined for any other. */
  #sparse: number[] | undefined;
  #sparseIndex = 0;
  #sparsePosition = 0;
  /** Decimal digits of a format 1.0 map that came so far: the number, and how many numbers are wanted. */
  #mapNumber = -1;
  #mapWanted = -1;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes of the tar. */
  write(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      switch (this.#state) {
        case 'header':
        case 'sparse-header':
        case 'sparse-map':
          if (this.#partialLength === 0 && bytes.length - at >= BLOCK) {
            this.#block(bytes, at);
            at += BLOCK;
          } else {
            const length = Math.min(BLOCK - this.#partialLength, bytes.length - at);
            this.#partial.set(bytes.subarray(at, at + length), this.#partialLength);
            this.#partialLength += length;
            at += length;
            if (this.#partialLength === BLOCK) {
              this.#partialLength = 0;
              this.#block(this.#partial, 0);
            }
          }
          break;
        case 'extension': {
          const length = Math.min(this.#remaining, bytes.length - at);
          this.#extension.set(bytes.subarray(at, at + length), this.#extensionLength);
          this.#extensionLength += length;
          this.#remaining -= length;
          at += length;
          if (this.#remaining === 0) this.#endExtension();
          break;
        }
        case 'data': {
          const length = Math.min(this.#remaining, bytes.length - at);
          this.#content(length === bytes.length ? bytes : bytes.subarray(at, at + length));
          this.#remaining -= length;
          at += length;
          if (this.#remaining === 0) this.#endContent();
          break;
        }
        case 'padding': {
          const length = Math.min(this.#remaining, bytes.length - at);
          this.#remaining -= length;
          at += length;
          if (this.#remaining === 0) this.#state = 'header';
          break;
        }
        case 'end':
          // What follows the end marker is the archive's own business; it counts for the diff ID alone.
          return;
      }
    }
  }

  /** Says that all bytes were given. The end marker may be missing, as Go and GNU tar accept it. */
  end(): void {
    const complete = this.#state === 'end' || (this.#state === 'header' && this.#partialLength === 0);
    if (!complete || this.#extensions !== undefined) {
      throw new LayerdError('corrupt', "the layer's tar ends in the middle of an entry");
    }
  }

  #block(bytes: Uint8Array, at: number): void {
    if (this.#state === 'sparse-header') this.#sparseHeader(bytes, at);
    else if (this.#state === 'sparse-map') this.#sparseMap(bytes, at);
    else this.#header(bytes, at);
  }

  #header(bytes: Uint8Array, at: number): void {
    const { isZero, unsigned, signed } = checksums(bytes, at);
    if (isZero) {
      if (this.#sawZeroBlock) this.#state = 'end';
      this.#sawZeroBlock = true;
      return;
    }
    if (this.#sawZeroBlock) throw new LayerdError('corrupt', "the layer's tar goes on after a block of zeros");
    const expected = readNumber(bytes, at + 148, 8);
    if (expected !== unsigned && expected !== signed) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has a header with checksum ${unsigned}, expected ${expected}: it is damaged or not a tar`,
      );
    }
    const size = readNumber(bytes, at + 124, 12);
    if (size < 0) throw new LayerdError('corrupt', "the layer's tar has an entry of negative size");
    const type = bytes[at + 156] ?? 0;
    switch (type) {
      case TYPE.longName:
      case TYPE.longLink:
      case TYPE.pax:
      case TYPE.paxGlobal:
        this.#beginExtension(type, size);
        break;
      default:
        this.#beginEntry(bytes, at, type, size);
    }
  }

  #beginExtension(type: number, size: number): void {
    let bytes = size;
    if (type !== TYPE.paxGlobal) {
      this.#extensions ??= new Extensions();
      bytes = this.#extensions.bytes += size;
    }
    if (bytes > MAX_EXTENSION_BYTES) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has extension headers of ${bytes} bytes before an entry; at most ${MAX_EXTENSION_BYTES} are accepted`,
      );
    }
    this.#extensionType = type;
    // A buffer of its own: values of records are views of it until their entry is done.
    this.#extension = Buffer.allocUnsafe(size);
    this.#extensionLength = 0;
    this.#remaining = size;
    this.#padding = paddingOf(size);
    this.#state = 'extension';
    if (size === 0) this.#endExtension();
  }

  #endExtension(): void {
    const body = this.#extension;
    if (this.#extensionType === TYPE.paxGlobal) this.#keepGlobal(body);
    else {
      const extensions = (this.#extensions ??= new Extensions());
      if (this.#extensionType === TYPE.pax) readPaxRecords(body, extensions.records, extensions.sparsePairs);
      else if (this.#extensionType === TYPE.longName) extensions.path = untilNul(body);
      else extensions.target = untilNul(body);
    }
    this.#skipPadding();
  }

  /** Keeps copies of a global header's records, since a view of one would hold on to the whole header. */
  #keepGlobal(body: Buffer): void {
    const records: PaxRecords = new Map();
    readPaxRecords(body, records, []);
    for (const [key, value] of records) {
      this.#globalBytes += value.length - (this.#global.get(key)?.length ?? -key.length);
      this.#global.set(key, Buffer.from(value));
    }
    if (this.#globalBytes > MAX_EXTENSION_BYTES) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has global pax headers that say ${this.#globalBytes} bytes; at most ${MAX_EXTENSION_BYTES} are accepted`,
      );
    }
  }

  #beginEntry(bytes: Uint8Array, at: number, type: number, storedSize: number): void {
    const entry = this.#entry;
    const isGnu = matches(bytes, at + 257, GNU_MAGIC);
    const isUstar = matches(bytes, at + 257, USTAR_MAGIC);
    entry.kind = this.#kindOf(type, bytes, at);
    entry.mode = readNumber(bytes, at + 100, 8) & 0o7777;
    entry.uid = readNumber(bytes, at + 108, 8);
    entry.gid = readNumber(bytes, at + 116, 8);
    entry.seconds = readNumber(bytes, at + 136, 12);
    entry.nanoseconds = 0;
    entry.xattrs = undefined;
    const isDevice = entry.kind === 'character' || entry.kind === 'block';
    entry.major = isDevice ? readNumber(bytes, at + 329, 8) : 0;
    entry.minor = isDevice ? readNumber(bytes, at + 337, 8) : 0;

    entry.pathLength = 0;
    if (isUstar) {
      // star keeps times at the end of the prefix, and says so in the last four bytes.
      const prefix = stringLength(bytes, at + 345, matches(bytes, at + 508, STAR_TRAILER) ? 131 : 155);
      if (prefix > 0) {
        entry.path.set(bytes.subarray(at + 345, at + 345 + prefix));
        entry.path[prefix] = SLASH;
        entry.pathLength = prefix + 1;
      }
    }
    const nameLength = stringLength(bytes, at, 100);
    entry.path.set(bytes.subarray(at, at + nameLength), entry.pathLength);
    entry.pathLength += nameLength;
    entry.targetLength = stringLength(bytes, at + 157, 100);
    entry.target.set(bytes.subarray(at + 157, at + 157 + entry.targetLength));

    let size = storedSize;
    let sparse: number[] | undefined;
    let realSize = -1;
    let isMapInData = false;
    const extensions = this.#extensions;
    if (extensions !== undefined || this.#global.size > 0) {
      this.#extensions = undefined;
      if (extensions?.path !== undefined) entry.pathLength = assign(entry.path, extensions.path, 'path');
      if (extensions?.target !== undefined) entry.targetLength = assign(entry.target, extensions.target, 'link target');
      const records = this.#merge(extensions);
      for (const [key, value] of records) {
        // An empty value takes back what a global header said.
        if (value.length === 0) continue;
        switch (key) {
          case 'path':
            entry.pathLength = assign(entry.path, value, 'path');
            break;
          case 'linkpath':
            entry.targetLength = assign(entry.target, value, 'link target');
            break;
          case 'size':
            size = readDecimal(value, key);
            break;
          case 'uid':
            entry.uid = readDecimal(value, key);
            break;
          case 'gid':
            entry.gid = readDecimal(value, key);
            break;
          case 'mtime':
            ({ seconds: entry.seconds, nanoseconds: entry.nanoseconds } = readTime(value));
            break;
          case 'GNU.sparse.map':
            sparse = value
              .toString('latin1')
              .split(',')
              .map((number) => readDecimal(Buffer.from(number), key));
            break;
          case 'GNU.sparse.size':
          case 'GNU.sparse.realsize':
            realSize = readDecimal(value, key);
            break;
          case 'GNU.sparse.major':
            isMapInData = value.toString('latin1') === '1';
            break;
        }
      }
      // The path record of a sparse file is made up, for readers that do not know the format.
      const sparseName = records.get('GNU.sparse.name');
      if (sparseName !== undefined) entry.pathLength = assign(entry.path, sparseName, 'path');
      if (extensions !== undefined && extensions.sparsePairs.length > 0) sparse = extensions.sparsePairs;
      entry.xattrs = xattrsOf(records);
    }
    if (type === TYPE.sparse && isGnu) {
      sparse = [];
      readSparseHeader(bytes, at + 386, 4, sparse);
      realSize = readNumber(bytes, at + 483, 12);
    }
    this.#check(entry);

    if (entry.kind !== 'file') {
      // Go ignores the size of anything that is not a file, and takes the next block for a header.
      entry.size = 0;
      this.#sink.entry(entry);
      return;
    }
    this.#remaining = size;
    this.#padding = paddingOf(size);
    this.#sparse = sparse;
    if (sparse === undefined && !isMapInData) {
      entry.size = size;
      this.#beginData();
      return;
    }
    if (realSize < 0) throw new LayerdError('corrupt', `the layer's tar does not say how long ${this.#name()} is`);
    entry.size = realSize;
    if (isMapInData && sparse === undefined) {
      this.#sparse = [];
      this.#mapNumber = -1;
      this.#mapWanted = -1;
      this.#state = 'sparse-map';
    } else if (type === TYPE.sparse && bytes[at + 482] !== 0) this.#state = 'sparse-header';
    else this.#beginData();
  }

  #kindOf(type: number, bytes: Uint8Array, at: number): EntryKind {
    switch (type) {
      case TYPE.v7File: {
        const length = stringLength(bytes, at, 100);
        return bytes[at + length - 1] === SLASH ? 'directory' : 'file';
      }
      case TYPE.file:
      case TYPE.contiguous:
      case TYPE.sparse:
        return 'file';
      case TYPE.link:
        return 'link';
      case TYPE.symlink:
        return 'symlink';
      case TYPE.character:
        return 'character';
      case TYPE.block:
        return 'block';
      case TYPE.directory:
        return 'directory';
      case TYPE.fifo:
        return 'fifo';
      default:
        throw new LayerdError(
          'corrupt',
          `the layer's tar has an entry of type ${JSON.stringify(String.fromCharCode(type))}, which is none of a file, directory, link, device or fifo`,
        );
    }
  }

  #check(entry: TarEntry): void {
    if (entry.uid < 0 || entry.uid > MAX_ID || entry.gid < 0 || entry.gid > MAX_ID) {
      throw new LayerdError('corrupt', `the layer's tar gives ${this.#name()} the owner ${entry.uid}:${entry.gid}`);
    }
  }

  #merge(extensions: Extensions | undefined): PaxRecords {
    if (this.#global.size === 0) return extensions?.records ?? this.#global;
    if (extensions === undefined) return this.#global;
    return new Map([...this.#global, ...extensions.records]);
  }

  /** An old GNU header that goes on with the map of a sparse file. */
  #sparseHeader(bytes: Uint8Array, at: number): void {
    readSparseHeader(bytes, at, 21, this.#sparse ?? []);
    if ((this.#sparse?.length ?? 0) / 2 > MAX_SPARSE_EXTENTS) throw tooManyExtents();
    if (bytes[at + 504] === 0) this.#beginData();
  }

  /** A block of a format 1.0 map: the count, then offsets and lengths, each a decimal number and a newline. */
  #sparseMap(bytes: Uint8Array, at: number): void {
    this.#remaining -= BLOCK;
    if (this.#remaining < 0) throw new LayerdError('corrupt', `the sparse map of ${this.#name()} does not fit into it`);
    const sparse = this.#sparse ?? [];
    for (let index = at; index < at + BLOCK; index += 1) {
      const byte = bytes[index] ?? 0;
      if (byte >= DIGIT_0 && byte <= DIGIT_9) {
        this.#mapNumber = Math.max(this.#mapNumber, 0) * 10 + byte - DIGIT_0;
        continue;
      }
      if (byte !== NEWLINE || this.#mapNumber < 0 || !Number.isSafeInteger(this.#mapNumber)) {
        throw new LayerdError('corrupt', `the sparse map of ${this.#name()} is malformed`);
      }
      if (this.#mapWanted < 0) {
        if (this.#mapNumber > MAX_SPARSE_EXTENTS) throw tooManyExtents();
        this.#mapWanted = this.#mapNumber * 2;
      } else sparse.push(this.#mapNumber);
      this.#mapNumber = -1;
      if (sparse.length === this.#mapWanted) {
        this.#beginData();
        return;
      }
    }
  }

  #beginData(): void {
    const sparse = this.#sparse;
    if (sparse !== undefined) {
      let end = 0;
      let stored = 0;
      for (let index = 0; index < sparse.length; index += 2) {
        const offset = sparse[index] ?? 0;
        const length = sparse[index + 1] ?? -1;
        if (offset < end || length < 0) {
          throw new LayerdError('corrupt', `the sparse map of ${this.#name()} is out of order`);
        }
        end = offset + length;
        stored += length;
      }
      if (end > this.#entry.size || stored !== this.#remaining) {
        throw new LayerdError('corrupt', `the sparse map of ${this.#name()} does not fit its size`);
      }
      this.#sparseIndex = 0;
      this.#sparsePosition = 0;
    }
    this.#state = 'data';
    this.#sink.entry(this.#entry);
    if (this.#remaining === 0) this.#endContent();
  }

  #content(bytes: Uint8Array): void {
    const sparse = this.#sparse;
    if (sparse === undefined) {
      this.#sink.data(bytes);
      return;
    }
    let at = 0;
    while (at < bytes.length) {
      const start = sparse[this.#sparseIndex] ?? 0;
      const end = start + (sparse[this.#sparseIndex + 1] ?? 0);
      if (this.#sparsePosition < start) {
        this.#sink.hole(start - this.#sparsePosition);
        this.#sparsePosition = start;
      }
      const length = Math.min(end - this.#sparsePosition, bytes.length - at);
      if (length > 0) this.#sink.data(bytes.subarray(at, at + length));
      at += length;
      this.#sparsePosition += length;
      if (this.#sparsePosition === end) this.#sparseIndex += 2;
    }
  }

  #endContent(): void {
    if (this.#sparse !== undefined) {
      const rest = this.#entry.size - this.#sparsePosition;
      if (rest > 0) this.#sink.hole(rest);
      this.#sparse = undefined;
    }
    this.#sink.endOfData();
    this.#skipPadding();
  }

  #skipPadding(): void {
    this.#remaining = this.#padding;
    this.#state = this.#padding === 0 ? 'header' : 'padding';
  }

  #name(): string {
    return quote(this.#entry.path.subarray(0, this.#entry.pathLength));
  }
}

const TYPE = {
  v7File: 0,
  file: 0x30,
  link: 0x31,
  symlink: 0x32,
  character: 0x33,
  block: 0x34,
  directory: 0x35,
  fifo: 0x36,
  contiguous: 0x37,
  longLink: 0x4b, // 'K'
  longName: 0x4c, // 'L'
  sparse: 0x53, // 'S'
  paxGlobal: 0x67, // 'g'
  pax: 0x78, // 'x'
} as const;

const SPACE = 0x20;
const SLASH = 0x2f;
const DIGIT_0 = 0x30;
const DIGIT_7 = 0x37;
const DIGIT_9 = 0x39;
const NEWLINE = 0x0a;

const USTAR_MAGIC = Buffer.from('ustar\0');
const GNU_MAGIC = Buffer.from('ustar  \0');
const STAR_TRAILER = Buffer.from('tar\0');

const paddingOf = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

function matches(bytes: Uint8Array, at: number, text: Buffer): boolean {
  for (let index = 0; index < text.length; index += 1) if (bytes[at + index] !== text[index]) return false;
  return true;
}

/** Sums of a header's bytes, its checksum field taken as spaces; some old writers summed signed bytes. */
function checksums(bytes: Uint8Array, at: number): { isZero: boolean; unsigned: number; signed: number } {
  let unsigned = 0;
  let high = 0;
  for (let index = at; index < at + BLOCK; index += 1) {
    const byte = bytes[index] ?? 0;
    unsigned += byte;
    high += byte >> 7;
  }
  if (unsigned === 0) return { isZero: true, unsigned, signed: 0 };
  for (let index = at + 148; index < at + 156; index += 1) {
    const byte = bytes[index] ?? 0;
    unsigned += SPACE - byte;
    high -= byte >> 7;
  }
  return { isZero: false, unsigned, signed: unsigned - high * 256 };
}

/** A numeric field: octal digits, or big-endian two's complement where the first bit is set (GNU's base-256). */
function readNumber(bytes: Uint8Array, at: number, length: number): number {
  const first = bytes[at] ?? 0;
  if ((first & 0x80) !== 0) {
    // The marker bit is not part of the number; the one below it is its sign.
    let value = (first & 0x40) === 0 ? first & 0x3f : (first & 0x3f) - 64;
    for (let index = at + 1; index < at + length; index += 1) value = value * 256 + (bytes[index] ?? 0);
    if (!Number.isSafeInteger(value)) {
      throw new LayerdError('corrupt', "the layer's tar has a header with a number beyond 2^53");
    }
    return value;
  }
  let value = 0;
  let index = at;
  const end = at + length;
  while (index < end && (bytes[index] === SPACE || bytes[index] === 0)) index += 1;
  for (; index < end; index += 1) {
    const byte = bytes[index] ?? 0;
    if (byte === SPACE || byte === 0) break;
    if (byte < DIGIT_0 || byte > DIGIT_7) {
      throw new LayerdError('corrupt', "the layer's tar has a header with a malformed number");
    }
    value = value * 8 + byte - DIGIT_0;
  }
  return value;
}

/** Pairs of offset and length in an old GNU header; a pair without a length ends them. */
function readSparseHeader(bytes: Uint8Array, at: number, count: number, sparse: number[]): void {
  for (let index = 0; index < count; index += 1) {
    const pair = at + index * 24;
    if (bytes[pair + 12] === 0) return;
    sparse.push(readNumber(bytes, pair, 12), readNumber(bytes, pair + 12, 12));
  }
}

function stringLength(bytes: Uint8Array, at: number, max: number): number {
  let length = 0;
  while (length < max && bytes[at + length] !== 0) length += 1;
  return length;
}

function untilNul(body: Buffer): Buffer {
  const end = body.indexOf(0);
  return end < 0 ? body : body.subarray(0, end);
}

/** Copies a path out of an extension; returns its length. */
function assign(into: Uint8Array, value: Buffer, what: string): number {
  if (value.length > MAX_PATH_BYTES) {
    throw new LayerdError(
      'corrupt',
      `the layer's tar has a ${what} of ${value.length} bytes; at most ${MAX_PATH_BYTES} are accepted`,
    );
  }
  // The kernel would end the name there, and what was checked would not be what is used.
  if (value.includes(0)) throw new LayerdError('corrupt', `the layer's tar has a ${what} with a zero byte`);
  into.set(value);
  return value.length;
}

const tooManyExtents = (): LayerdError =>
  new LayerdError('corrupt', `the layer's tar has a sparse file of more than ${MAX_SPARSE_EXTENTS} pieces`);
