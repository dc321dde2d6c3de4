import { BLOCK_BYTES, type ImageFile } from './image-file.ts';
import {
  DOT,
  DOT_DOT,
  NONE,
  OPAQUE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type Tree,
} from './tree.ts';
import { encodeXattrs, joinedBytes, joinXattrs, OPAQUE_XATTR, xattrCount } from './xattr.ts';

/*
 * The on-disk format is that of Linux 5.4 (fs/erofs/erofs_fs.h), the first kernel that has EROFS: uncompressed, 4 KiB
 * blocks, extended inodes, no incompatible feature. The image is laid out as it is written: block 0 with the superblock
 * (written last), file contents, blocks of large directories, and the inodes, each followed by its extended attributes and
 * by the end of its directory or link target.
 */

const SUPERBLOCK_OFFSET = 1024;
const MAGIC = 0xe0f5e1e2;
const FEATURE_COMPAT_CHECKSUM = 0x1;
const FEATURE_COMPAT_MTIME = 0x2;
const BLOCK_BITS = 12;

/** Inode numbers count units of 32 bytes from the start of the metadata. */
const SLOT_BYTES = 32;
/** readdir(3) leaves out an entry whose inode number is 0, so that the first inode is not the first slot. */
const FIRST_SLOT = 2;
const INODE_BYTES = 64;
const DIRENT_BYTES = 12;

/** i_format: bit 0 says extended, the bits above how the data is laid out. */
const EXTENDED = 1;
const FLAT_PLAIN = 0 << 1;
const FLAT_INLINE = 2 << 1;

/** File types in directory entries. */
const DIRENT_TYPE = new Map([
  [S_IFREG, 1],
  [S_IFDIR, 2],
  [S_IFCHR, 3],
  [S_IFBLK, 4],
  [S_IFIFO, 5],
  [S_IFSOCK, 6],
  [S_IFLNK, 7],
]);

/** Crc32c, reflected. */
const CASTAGNOLI = 0x82f63b78;

/**
 * Writes the metadata of a tree whose file contents are in the image already, then the superblock. The same tree gives
 * the same bytes. The tree is used up: directories trade their list of entries for the place of their blocks.
 */
export class ErofsWriter {
  readonly #tree: Tree;
  readonly #file: ImageFile;
  /** Per inode: where it goes, and its number of links; both 0 for one that no entry leads to. */
  readonly #slot: Uint32Array;
  readonly #links: Uint32Array;
  /** Inodes in the order in which they are written. */
  readonly #order: Uint32Array;
  #ordered = 0;
  /** Directories in that order; their entries, sorted, one directory after the other; where the last block begins. */
  readonly #directories: Uint32Array;
  #directoryCount = 0;
  readonly #entries: Uint32Array;
  readonly #firstEntry: Uint32Array;
  readonly #lastBlock: Uint32Array;
  readonly #opaque = encodeXattrs(OPAQUE_XATTR);
  #nextByte = FIRST_SLOT * SLOT_BYTES;
  #fileBytes = 0;

  constructor(tree: Tree, file: ImageFile) {
    this.#tree = tree;
    this.#file = file;
    this.#slot = new Uint32Array(tree.inodes);
    this.#links = new Uint32Array(tree.inodes);
    this.#order = new Uint32Array(tree.inodes);
    let directories = 0;
    for (let inode = 0; inode < tree.inodes; inode += 1) if (tree.isDirectory(inode)) directories += 1;
    this.#directories = new Uint32Array(directories);
    this.#firstEntry = new Uint32Array(directories + 1);
    this.#lastBlock = new Uint32Array(directories);
    this.#entries = new Uint32Array(tree.entries + 2 * directories);
  }

  /** Writes everything that is left; returns the bytes of the files. The UUID tells images apart for tools. */
  finish(uuid: Uint8Array): number {
    this.#place();
    // All plain data precedes the inodes, so that each inode can say where its own is.
    for (let index = 0; index < this.#directoryCount; index += 1) this.#writeDirectoryBlocks(index);
    for (let index = 0; index < this.#ordered; index += 1) this.#writeLongTarget(this.#order[index] ?? 0);
    const metadataBlock = this.#file.position / BLOCK_BYTES;
    let directory = 0;
    for (let index = 0; index < this.#ordered; index += 1) {
      const inode = this.#order[index] ?? 0;
      this.#file.skip(metadataBlock * BLOCK_BYTES + (this.#slot[inode] ?? 0) * SLOT_BYTES - this.#file.position);
      this.#writeInode(inode, index + 1, this.#tree.isDirectory(inode) ? directory++ : NONE);
    }
    this.#file.align(BLOCK_BYTES);
    this.#file.finish(this.#firstBlock(metadataBlock, this.#file.position / BLOCK_BYTES, uuid));
    return this.#fileBytes;
  }

  /** Walks the tree from its root; sorts its directories and gives every inode its place and its number of links. */
  #place(): void {
    const tree = this.#tree;
    let queued = 0;
    this.#directories[queued++] = ROOT;
    while (this.#directoryCount < queued) {
      const index = this.#directoryCount++;
      const directory = this.#directories[index] ?? ROOT;
      this.#sortDirectory(index, directory);
      this.#links[directory] = 2;
      this.#allocate(directory);
      const end = this.#firstEntry[index + 1] ?? 0;
      for (let at = this.#firstEntry[index] ?? 0; at < end; at += 1) {
        const entry = this.#entries[at] ?? DOT;
        if (entry === DOT || entry === DOT_DOT) continue;
        const inode = tree.inode[entry] ?? NONE;
        if (tree.isDirectory(inode)) {
          this.#links[directory] = (this.#links[directory] ?? 0) + 1;
          this.#directories[queued++] = inode;
        } else {
          const links = this.#links[inode] ?? 0;
          this.#links[inode] = links + 1;
          if (links === 0) {
            this.#allocate(inode);
            this.#fileBytes += tree.size[inode] ?? 0;
          }
        }
      }
    }
  }

  #sortDirectory(index: number, directory: number): void {
    const tree = this.#tree;
    const start = this.#firstEntry[index] ?? 0;
    let end = start;
    this.#entries[end++] = DOT;
    this.#entries[end++] = DOT_DOT;
    for (let entry = tree.data[directory] ?? NONE; entry !== NONE; entry = tree.next[entry] ?? NONE) {
      this.#entries[end++] = entry;
    }
    this.#firstEntry[index + 1] = end;
    this.#entries.subarray(start, end).sort((a, b) => tree.compareNames(a, b));

    let blocks = 0;
    let used = 0;
    for (let at = start; at < end; at += 1) {
      const length = DIRENT_BYTES + (tree.nameLength[this.#entries[at] ?? DOT] ?? 0);
      if (at === start || used + length > BLOCK_BYTES) {
        blocks += 1;
        used = 0;
        this.#lastBlock[index] = at;
      }
      used += length;
    }
    tree.size[directory] = (blocks - 1) * BLOCK_BYTES + used;
  }

  #allocate(inode: number): void {
    const length = INODE_BYTES + this.#xattrBytes(inode) + this.#inlineBytes(inode);
    // Early kernels read an inode, and any kernel what is inline in it, from one block.
    const together = length <= BLOCK_BYTES ? length : INODE_BYTES;
    const room = BLOCK_BYTES - (this.#nextByte % BLOCK_BYTES);
    if (room < together) this.#nextByte += room;
    this.#slot[inode] = this.#nextByte / SLOT_BYTES;
    this.#nextByte += Math.ceil(length / SLOT_BYTES) * SLOT_BYTES;
    this.#order[this.#ordered++] = inode;
  }

  #xattrBytes(inode: number): number {
    const own = this.#tree.xattrBytes[inode] ?? 0;
    return this.#tree.hasFlag(inode, OPAQUE) ? joinedBytes(own, this.#opaque.length) : own;
  }

  /** Bytes of a directory's last block, or of a link's target, that follow the inode; 0 if they go elsewhere. */
  #inlineBytes(inode: number): number {
    const size = this.#tree.size[inode] ?? 0;
    let tail: number;
    if (this.#tree.isDirectory(inode)) tail = ((size - 1) % BLOCK_BYTES) + 1;
    else if (this.#tree.isSymlink(inode)) tail = size;
    else return 0;
    return INODE_BYTES + this.#xattrBytes(inode) + tail <= BLOCK_BYTES ? tail : 0;
  }

  /** The blocks of a directory that are not inline. */
  #writeDirectoryBlocks(index: number): void {
    const tree = this.#tree;
    const directory = this.#directories[index] ?? ROOT;
    tree.data[directory] = this.#file.position / BLOCK_BYTES;
    const end = this.#inlineBytes(directory) > 0 ? (this.#lastBlock[index] ?? 0) : (this.#firstEntry[index + 1] ?? 0);
    let from = this.#firstEntry[index] ?? 0;
    let used = 0;
    for (let at = from; at < end; at += 1) {
      const length = DIRENT_BYTES + (tree.nameLength[this.#entries[at] ?? DOT] ?? 0);
      if (used + length > BLOCK_BYTES) {
        this.#writeEntries(directory, from, at, BLOCK_BYTES);
        from = at;
        used = 0;
      }
      used += length;
    }
    if (from < end) this.#writeEntries(directory, from, end, BLOCK_BYTES);
  }

  /** One block of directory entries: all fixed parts, then all names. */
  #writeEntries(directory: number, from: number, to: number, length: number): void {
    const tree = this.#tree;
    const { buffer, offset } = this.#file.claim(length);
    let nameOffset = (to - from) * DIRENT_BYTES;
    for (let at = from; at < to; at += 1) {
      const entry = this.#entries[at] ?? DOT;
      const inode =
        entry === DOT ? directory : ((entry === DOT_DOT ? tree.parent[directory] : tree.inode[entry]) ?? NONE);
      const dirent = offset + (at - from) * DIRENT_BYTES;
      // The upper half of the 64 bits stays 0.
      buffer.writeUInt32LE(this.#slot[inode] ?? 0, dirent);
      buffer.writeUInt16LE(nameOffset, dirent + 8);
      buffer[dirent + 10] = DIRENT_TYPE.get((tree.mode[inode] ?? 0) & S_IFMT) ?? 0;
      const name = tree.name[entry] ?? 0;
      const nameLength = tree.nameLength[entry] ?? 0;
      for (let byte = 0; byte < nameLength; byte += 1) {
        buffer[offset + nameOffset + byte] = tree.bytes[name + byte] ?? 0;
      }
      nameOffset += nameLength;
    }
  }

  /** The target of a symbolic link that does not fit beside its inode. */
  #writeLongTarget(inode: number): void {
    const tree = this.#tree;
    if (!tree.isSymlink(inode) || this.#inlineBytes(inode) > 0) return;
    const target = tree.data[inode] ?? 0;
    tree.data[inode] = this.#file.position / BLOCK_BYTES;
    this.#file.append(tree.bytes.subarray(target, target + (tree.size[inode] ?? 0)));
    this.#file.align(BLOCK_BYTES);
  }

  #writeInode(inode: number, number: number, directoryIndex: number): void {
    const tree = this.#tree;
    const inline = this.#inlineBytes(inode);
    const xattrBytes = this.#xattrBytes(inode);
    const seconds = tree.seconds[inode] ?? 0;
    const data = tree.data[inode] ?? 0;
    const { buffer, offset } = this.#file.claim(INODE_BYTES);
    buffer.writeUInt16LE(EXTENDED | (inline > 0 ? FLAT_INLINE : FLAT_PLAIN), offset);
    buffer.writeUInt16LE(xattrCount(xattrBytes), offset + 2);
    buffer.writeUInt16LE(tree.mode[inode] ?? 0, offset + 4);
    writeUInt64LE(buffer, tree.size[inode] ?? 0, offset + 8);
    // First block, or device number. A link beside its inode has neither.
    buffer.writeUInt32LE(tree.isSymlink(inode) && inline > 0 ? 0 : data, offset + 16);
    buffer.writeUInt32LE(number, offset + 20);
    buffer.writeUInt32LE(tree.uid[inode] ?? 0, offset + 24);
    buffer.writeUInt32LE(tree.gid[inode] ?? 0, offset + 28);
    writeUInt64LE(buffer, seconds, offset + 32);
    buffer.writeUInt32LE(tree.nanoseconds[inode] ?? 0, offset + 40);
    buffer.writeUInt32LE(this.#links[inode] ?? 0, offset + 44);

    if (xattrBytes > 0) {
      const own = tree.xattrs[inode] ?? NONE;
      const encoded = own === NONE ? NO_BYTES : tree.bytes.subarray(own, own + (tree.xattrBytes[inode] ?? 0));
      this.#file.append(tree.hasFlag(inode, OPAQUE) ? joinXattrs(encoded, this.#opaque) : encoded);
    }
    if (inline === 0) return;
    if (directoryIndex === NONE) this.#file.append(tree.bytes.subarray(data, data + inline));
    else {
      const end = this.#firstEntry[directoryIndex + 1] ?? 0;
      this.#writeEntries(inode, this.#lastBlock[directoryIndex] ?? 0, end, inline);
    }
  }

  #firstBlock(metadataBlock: number, blocks: number, uuid: Uint8Array): Buffer {
    const block = Buffer.alloc(BLOCK_BYTES);
    const superblock = block.subarray(SUPERBLOCK_OFFSET);
    superblock.writeUInt32LE(MAGIC, 0);
    superblock.writeUInt32LE(FEATURE_COMPAT_CHECKSUM | FEATURE_COMPAT_MTIME, 8);
    superblock[12] = BLOCK_BITS;
    superblock.writeUInt16LE(this.#slot[ROOT] ?? 0, 14);
    writeUInt64LE(superblock, this.#ordered, 16);
    superblock.writeUInt32LE(blocks, 36);
    superblock.writeUInt32LE(metadataBlock, 40);
    superblock.set(uuid.subarray(0, 16), 48);
    superblock.writeUInt32LE(crc32c(superblock), 4);
    return block;
  }
}

const NO_BYTES = new Uint8Array(0);

/** A whole number of up to 53 bits in 64, negative ones in two's complement. */
function writeUInt64LE(buffer: Buffer, value: number, offset: number): void {
  const high = Math.floor(value / 2 ** 32);
  buffer.writeUInt32LE(value - high * 2 ** 32, offset);
  buffer.writeInt32LE(high, offset + 4);
}

/** The checksum of a superblock whose checksum field is 0, without the final inversion, as the kernel computes it. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (CASTAGNOLI & -(crc & 1));
  }
  return crc >>> 0;
}
