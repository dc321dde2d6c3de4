import { randomInt } from 'node:crypto';
import { LayerdError } from '../../protocol/errors.ts';

/** Inodes and names a layer may have: far beyond any real one, and small enough for the memory they take. */
export const MAX_INODES = 4 * 1024 * 1024;
/** Bytes that all names, link targets and extended attributes of a layer may take together. */
export const MAX_STRING_BYTES = 512 * 1024 * 1024;

/** File types in a mode (inode(7)). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

/** Inode numbers that every tree has. What hangs below SHADOW can be linked to but is not part of the layer. */
export const ROOT = 0;
export const SHADOW = 1;

/** Entries that every directory has, whatever its inode. */
export const DOT = 0;
export const DOT_DOT = 1;

/** The absence of an inode or an entry. */
export const NONE = 0xffffffff;

/** Inode flags. */
export const OPAQUE = 1;
export const WHITEOUT = 2;

const INITIAL_CAPACITY = 1024;

/** Owner, permissions and times of an inode. */
export interface Attributes {
  /** File type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, rounded down, and the nanoseconds to add. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** A string of bytes in the tree's arena. */
export interface Text {
  readonly offset: number;
  readonly length: number;
}

/**
 * A layer's file tree while its tar streams by. It is kept in typed arrays, one per field, about a hundred bytes for a
 * file with its name, because a layer may have a million of them; inodes and entries are numbers. Entries are never
 * removed, only pointed to another inode: an inode that no entry leads to is not part of the tree any more.
 */
export class Tree {
  inodes = 0;
  mode = new Uint16Array(INITIAL_CAPACITY);
  uid = new Uint32Array(INITIAL_CAPACITY);
  gid = new Uint32Array(INITIAL_CAPACITY);
  seconds = new Float64Array(INITIAL_CAPACITY);
  nanoseconds = new Uint32Array(INITIAL_CAPACITY);
  /** Bytes: of a file's content, of a link's target. */
  size = new Float64Array(INITIAL_CAPACITY);
  /** First block of a file's content; device number; arena offset of a link's target; first entry of a directory. */
  data = new Uint32Array(INITIAL_CAPACITY);
  /** Arena offset of the encoded extended attributes, NONE without any. */
  xattrs = new Uint32Array(INITIAL_CAPACITY);
  /** Bytes of the encoded extended attributes. */
  xattrBytes = new Uint32Array(INITIAL_CAPACITY);
  /** The directory that holds a directory. */
  parent = new Uint32Array(INITIAL_CAPACITY);
  flags = new Uint8Array(INITIAL_CAPACITY);

  entries = 0;
  name = new Uint32Array(INITIAL_CAPACITY);
  nameLength = new Uint8Array(INITIAL_CAPACITY);
  inode = new Uint32Array(INITIAL_CAPACITY);
  /** The next entry of the same directory. */
  next = new Uint32Array(INITIAL_CAPACITY);
  #directory = new Uint32Array(INITIAL_CAPACITY);
  #chain = new Uint32Array(INITIAL_CAPACITY);
  #table = new Uint32Array(INITIAL_CAPACITY).fill(NONE);

  /** The arena. */
  bytes = new Uint8Array(64 * 1024);
  #used = 0;
  // An attacker who knew the hash could make every name of a layer collide, and each lookup walk through all of them.
  readonly #seed = randomInt(2 ** 32);

  constructor() {
    this.addInode({ mode: S_IFDIR | 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 }, 0, NONE);
    this.addInode({ mode: S_IFDIR | 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 }, 0, NONE);
    const dots = this.addText(Buffer.from('..'), 0, 2);
    this.#addEntry(NONE, { offset: dots.offset, length: 1 }, NONE);
    this.#addEntry(NONE, dots, NONE);
    this.parent[ROOT] = ROOT;
    this.parent[SHADOW] = SHADOW;
  }

  addInode(attributes: Attributes, size: number, data: number): number {
    if (this.inodes === MAX_INODES) {
      throw new LayerdError('corrupt', `the layer has more than ${MAX_INODES} files, the most layerd accepts`);
    }
    if (this.inodes === this.mode.length) this.#growInodes();
    const inode = this.inodes++;
    this.setAttributes(inode, attributes);
    this.size[inode] = size;
    this.data[inode] = data;
    this.xattrs[inode] = NONE;
    return inode;
  }

  setAttributes(inode: number, attributes: Attributes): void {
    this.mode[inode] = attributes.mode;
    this.uid[inode] = attributes.uid;
    this.gid[inode] = attributes.gid;
    this.seconds[inode] = attributes.seconds;
    this.nanoseconds[inode] = attributes.nanoseconds;
  }

  isDirectory(inode: number): boolean {
    return ((this.mode[inode] ?? 0) & S_IFMT) === S_IFDIR;
  }

  isSymlink(inode: number): boolean {
    return ((this.mode[inode] ?? 0) & S_IFMT) === S_IFLNK;
  }

  hasFlag(inode: number, flag: number): boolean {
    return ((this.flags[inode] ?? 0) & flag) !== 0;
  }

  setFlag(inode: number, flag: number): void {
    this.flags[inode] = (this.flags[inode] ?? 0) | flag;
  }

  /** Keeps a copy of the bytes in the arena. */
  addText(bytes: Uint8Array, start: number, end: number): Text {
    const length = end - start;
    const offset = this.#used;
    if (offset + length > MAX_STRING_BYTES) {
      throw new LayerdError(
        'corrupt',
        `the names and attributes of the layer take more than ${MAX_STRING_BYTES} bytes, the most layerd accepts`,
      );
    }
    if (offset + length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.bytes.length * 2, offset + length));
      grown.set(this.bytes.subarray(0, offset));
      this.bytes = grown;
    }
    for (let from = start, to = offset; from < end; from += 1, to += 1) this.bytes[to] = bytes[from] ?? 0;
    this.#used += length;
    return { offset, length };
  }

  /** The directory's entry of that name, or NONE. */
  find(directory: number, bytes: Uint8Array, start: number, end: number): number {
    const slot = this.#hash(directory, bytes, start, end) & (this.#table.length - 1);
    let entry = this.#table[slot] ?? NONE;
    for (; entry !== NONE; entry = this.#chain[entry] ?? NONE) {
      if (this.#directory[entry] === directory && this.#hasName(entry, bytes, start, end)) break;
    }
    return entry;
  }

  /** Makes a new entry; the directory must not have one of that name. */
  link(directory: number, bytes: Uint8Array, start: number, end: number, inode: number): void {
    const entry = this.#addEntry(directory, this.addText(bytes, start, end), inode);
    this.next[entry] = this.data[directory] ?? NONE;
    this.data[directory] = entry;
    if (this.isDirectory(inode)) this.parent[inode] = directory;
    const slot = this.#hash(directory, bytes, start, end) & (this.#table.length - 1);
    this.#chain[entry] = this.#table[slot] ?? NONE;
    this.#table[slot] = entry;
  }

  /** Points an entry to another inode. */
  replace(directory: number, entry: number, inode: number): void {
    this.inode[entry] = inode;
    if (this.isDirectory(inode)) this.parent[inode] = directory;
  }

  /** Order of two entries' names, byte by byte, as EROFS wants a directory sorted. */
  compareNames(a: number, b: number): number {
    const lengthA = this.nameLength[a] ?? 0;
    const lengthB = this.nameLength[b] ?? 0;
    let atA = this.name[a] ?? 0;
    let atB = this.name[b] ?? 0;
    const { bytes } = this;
    for (let left = Math.min(lengthA, lengthB); left > 0; left -= 1, atA += 1, atB += 1) {
      const difference = (bytes[atA] ?? 0) - (bytes[atB] ?? 0);
      if (difference !== 0) return difference;
    }
    return lengthA - lengthB;
  }

  #addEntry(directory: number, name: Text, inode: number): number {
    if (this.entries === MAX_INODES) {
      throw new LayerdError('corrupt', `the layer has more than ${MAX_INODES} names, the most layerd accepts`);
    }
    if (this.entries === this.name.length) this.#growEntries();
    const entry = this.entries++;
    this.name[entry] = name.offset;
    this.nameLength[entry] = name.length;
    this.inode[entry] = inode;
    this.next[entry] = NONE;
    this.#directory[entry] = directory;
    return entry;
  }

  #hasName(entry: number, bytes: Uint8Array, start: number, end: number): boolean {
    if (this.nameLength[entry] !== end - start) return false;
    const offset = (this.name[entry] ?? 0) - start;
    for (let at = start; at < end; at += 1) if (this.bytes[offset + at] !== bytes[at]) return false;
    return true;
  }

  /** FNV-1a with a final mix. */
  #hash(directory: number, bytes: Uint8Array, start: number, end: number): number {
    let hash = Math.imul(this.#seed ^ directory, 0x01000193) ^ directory;
    for (let at = start; at < end; at += 1) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #growInodes(): void {
    this.mode = grown(this.mode, Uint16Array);
    this.uid = grown(this.uid, Uint32Array);
    this.gid = grown(this.gid, Uint32Array);
    this.seconds = grown(this.seconds, Float64Array);
    this.nanoseconds = grown(this.nanoseconds, Uint32Array);
    this.size = grown(this.size, Float64Array);
    this.data = grown(this.data, Uint32Array);
    this.xattrs = grown(this.xattrs, Uint32Array);
    this.xattrBytes = grown(this.xattrBytes, Uint32Array);
    this.parent = grown(this.parent, Uint32Array);
    this.flags = grown(this.flags, Uint8Array);
  }

  #growEntries(): void {
    this.name = grown(this.name, Uint32Array);
    this.nameLength = grown(this.nameLength, Uint8Array);
    this.inode = grown(this.inode, Uint32Array);
    this.next = grown(this.next, Uint32Array);
    this.#directory = grown(this.#directory, Uint32Array);
    this.#chain = new Uint32Array(this.name.length);
    this.#table = new Uint32Array(this.name.length).fill(NONE);
    // The entries of no directory, `.` and `..`, are never looked up.
    for (let entry = DOT_DOT + 1; entry < this.entries; entry += 1) {
      const start = this.name[entry] ?? 0;
      const hash = this.#hash(this.#directory[entry] ?? NONE, this.bytes, start, start + (this.nameLength[entry] ?? 0));
      const slot = hash & (this.#table.length - 1);
      this.#chain[entry] = this.#table[slot] ?? NONE;
      this.#table[slot] = entry;
    }
  }
}

/** A copy of the array with twice the room. */
function grown<T extends { length: number; set(source: T): void }>(array: T, type: new (length: number) => T): T {
  const copy = new type(array.length * 2);
  copy.set(array);
  return copy;
}
