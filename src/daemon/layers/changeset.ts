import { LayerdError } from '../../protocol/errors.ts';
import { BLOCK_BYTES, type ImageFile } from './image-file.ts';
import { quote } from './pax.ts';
import { MAX_PATH_BYTES, type TarEntry, type TarSink } from './tar.ts';
import {
  NONE,
  OPAQUE,
  ROOT,
  SHADOW,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  WHITEOUT,
  type Attributes,
  type Tree,
} from './tree.ts';
import { encodeXattrs, isKeptXattr } from './xattr.ts';

/** Bytes of one name in a path, as Linux has it. */
export const MAX_NAME_BYTES = 255;
/** Bytes of a symbolic link's target: Linux has no way to make a longer one. */
export const MAX_TARGET_BYTES = 4095;
/** Symbolic links followed on the way to one entry, as in Linux. */
const MAX_LINKS = 40;
/** Device numbers: 12 bits and 20 bits. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xfffff;
/** EROFS counts blocks in 32 bits. */
export const MAX_IMAGE_BYTES = 0xffffffff * BLOCK_BYTES;
/** Sets of extended attributes that are remembered to be stored once: labels, which all files of a layer share. */
const MAX_REMEMBERED_SETS = 1024;
const MAX_REMEMBERED_BYTES = 1024;

/** How a removal is said in a layer's tar (OCI image spec, "Whiteouts"; the words are aufs'). */
const WHITEOUT_PREFIX = Buffer.from('.wh.');
const AUFS_PREFIX = Buffer.from('.wh..wh.');
const OPAQUE_NAME = Buffer.from('.wh..wh..opq');

const SLASH = 0x2f;
const DOT = 0x2e;

const IMPLICIT_DIRECTORY: Attributes = { mode: S_IFDIR | 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 };
const WHITEOUT_DEVICE: Attributes = { mode: S_IFCHR, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 };

/**
 * Applies a layer's tar, entry by entry, to a tree, and its file contents to the image. The outcome is what containerd and
 * Docker would have extracted, with removals in the form that overlayfs wants them in a lower layer:
 *
 * - A later entry of the same path replaces an earlier one; a directory over a directory keeps what is in it.
 * - Paths are taken from the layer's root and cannot leave it. `.` and `..` are resolved in the text of the path. A parent
 *   that is a symbolic link of this same layer is followed inside the layer's root. What lower layers have is not known
 *   here: a link of theirs that a path goes through is covered by a directory.
 * - A missing parent becomes a directory 0755 of root.
 * - `.wh.NAME` removes NAME of lower layers: a character device 0:0. An entry of that name in the same layer stays, and
 *   hides what was below, whichever comes first. `.wh..wh..opq` makes its directory opaque. Other names that begin with
 *   `.wh..wh.` are aufs' own; nothing of them shows, but hard links to them work.
 */
export class Changeset implements TarSink {
  readonly #tree: Tree;
  readonly #file: ImageFile;
  readonly #sets = new Map<string, { offset: number; length: number }>();

  /** Offsets of the path's names in its buffer, start and end in turn. */
  readonly #names = new Uint16Array(MAX_PATH_BYTES + 2);
  #nameCount = 0;
  #isShadow = false;

  /** The directory part of the last path, and where it led. Tars have the entries of a directory together. */
  readonly #lastPath = new Uint8Array(MAX_PATH_BYTES);
  #lastLength = -1;
  #lastDirectory = NONE;

  constructor(tree: Tree, file: ImageFile) {
    this.#tree = tree;
    this.#file = file;
  }

  entry(entry: TarEntry): void {
    this.#split(entry.path, entry.pathLength);
    if (this.#nameCount === 0) {
      this.#setRoot(entry);
      return;
    }
    const start = this.#names[this.#nameCount * 2 - 2] ?? 0;
    const end = this.#names[this.#nameCount * 2 - 1] ?? 0;
    const directory = this.#parentOf(entry);
    if (startsWith(entry.path, start, end, WHITEOUT_PREFIX)) this.#applyWhiteout(entry, directory, start, end);
    else this.#put(entry, directory, start, end);
  }

  data(bytes: Uint8Array): void {
    this.#file.append(bytes);
  }

  hole(length: number): void {
    this.#file.skip(length);
  }

  endOfData(): void {
    this.#file.align(BLOCK_BYTES);
  }

  #setRoot(entry: TarEntry): void {
    if (entry.kind !== 'directory') {
      throw new LayerdError('corrupt', `the layer's tar has a ${entry.kind} as its root, ${describe(entry)}`);
    }
    this.#setDirectory(ROOT, entry);
  }

  #setDirectory(inode: number, entry: TarEntry): void {
    this.#tree.setAttributes(inode, attributesOf(entry, S_IFDIR));
    this.#setXattrs(inode, entry);
  }

  #applyWhiteout(entry: TarEntry, directory: number, start: number, end: number): void {
    const tree = this.#tree;
    if (end - start === OPAQUE_NAME.length && startsWith(entry.path, start, end, OPAQUE_NAME)) {
      tree.setFlag(directory, OPAQUE);
      return;
    }
    if (this.#isShadow || startsWith(entry.path, start, end, AUFS_PREFIX)) {
      this.#put(entry, this.#isShadow ? directory : SHADOW, start, end);
      return;
    }
    const from = start + WHITEOUT_PREFIX.length;
    // Without a name, or with the name of the directory or its parent, whole other directories would go.
    if (isDots(entry.path, from, end)) {
      throw new LayerdError('corrupt', `the layer's tar has a whiteout that names no file, ${describe(entry)}`);
    }
    const existing = tree.find(directory, entry.path, from, end);
    if (existing === NONE) {
      const inode = tree.addInode(WHITEOUT_DEVICE, 0, 0);
      tree.setFlag(inode, WHITEOUT);
      tree.link(directory, entry.path, from, end, inode);
    } else {
      const inode = tree.inode[existing] ?? NONE;
      if (tree.isDirectory(inode)) tree.setFlag(inode, OPAQUE);
    }
  }

  #put(entry: TarEntry, directory: number, start: number, end: number): void {
    const tree = this.#tree;
    const existing = tree.find(directory, entry.path, start, end);
    const before = existing === NONE ? NONE : (tree.inode[existing] ?? NONE);
    let inode: number;
    if (entry.kind === 'directory') {
      if (before !== NONE && tree.isDirectory(before)) {
        this.#setDirectory(before, entry);
        return;
      }
      inode = tree.addInode(attributesOf(entry, S_IFDIR), 0, NONE);
      // What lower layers have of that name went with the whiteout or the file that was here.
      if (before !== NONE) tree.setFlag(inode, OPAQUE);
    } else if (entry.kind === 'link') {
      inode = this.#target(entry);
    } else {
      inode = this.#addFile(entry);
    }
    if (entry.kind !== 'link') this.#setXattrs(inode, entry);
    if (existing === NONE) tree.link(directory, entry.path, start, end, inode);
    else {
      tree.replace(directory, existing, inode);
      // The remembered directory may hang below what was replaced.
      this.#lastLength = -1;
    }
  }

  #addFile(entry: TarEntry): number {
    const tree = this.#tree;
    switch (entry.kind) {
      case 'symlink': {
        if (entry.targetLength === 0 || entry.targetLength > MAX_TARGET_BYTES) {
          throw new LayerdError(
            'corrupt',
            `the layer's tar has a symbolic link ${describe(entry)} with a target of ${entry.targetLength} bytes; 1 to ${MAX_TARGET_BYTES} are accepted`,
          );
        }
        const { offset, length } = tree.addText(entry.target, 0, entry.targetLength);
        return tree.addInode(attributesOf(entry, S_IFLNK), length, offset);
      }
      case 'character':
        return tree.addInode(attributesOf(entry, S_IFCHR), 0, deviceOf(entry));
      case 'block':
        return tree.addInode(attributesOf(entry, S_IFBLK), 0, deviceOf(entry));
      case 'fifo':
        return tree.addInode(attributesOf(entry, S_IFIFO), 0, 0);
      default: {
        const { position } = this.#file;
        if (position + entry.size > MAX_IMAGE_BYTES) {
          throw new LayerdError('corrupt', `the layer is larger than ${MAX_IMAGE_BYTES} bytes with ${describe(entry)}`);
        }
        return tree.addInode(attributesOf(entry, S_IFREG), entry.size, entry.size === 0 ? 0 : position / BLOCK_BYTES);
      }
    }
  }

  /** The inode that a hard link leads to. */
  #target(entry: TarEntry): number {
    const tree = this.#tree;
    const [start, end] = this.#lastNameOf(entry.target, entry.targetLength);
    const directory = start === end ? NONE : this.#walk(this.#root(), entry.target, this.#nameCount - 1, false, entry);
    const found = directory === NONE ? NONE : tree.find(directory, entry.target, start, end);
    const inode = found === NONE ? NONE : (tree.inode[found] ?? NONE);
    const target = quote(entry.target.subarray(0, entry.targetLength));
    if (inode === NONE || tree.hasFlag(inode, WHITEOUT)) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has a hard link ${describe(entry)} to ${target}, which is not an earlier entry of the layer`,
      );
    }
    if (tree.isDirectory(inode)) {
      throw new LayerdError('corrupt', `the layer's tar has a hard link ${describe(entry)} to the directory ${target}`);
    }
    return inode;
  }

  #lastNameOf(bytes: Uint8Array, length: number): [start: number, end: number] {
    this.#split(bytes, length);
    if (this.#nameCount === 0) return [0, 0];
    return [this.#names[this.#nameCount * 2 - 2] ?? 0, this.#names[this.#nameCount * 2 - 1] ?? 0];
  }

  #setXattrs(inode: number, entry: TarEntry): void {
    const tree = this.#tree;
    tree.xattrs[inode] = NONE;
    tree.xattrBytes[inode] = 0;
    if (entry.xattrs === undefined) return;
    const encoded = encodeXattrs([...entry.xattrs].filter(([name]) => isKeptXattr(name)));
    if (encoded.length === 0) return;
    const key = encoded.length <= MAX_REMEMBERED_BYTES ? encoded.toString('latin1') : undefined;
    let set = key === undefined ? undefined : this.#sets.get(key);
    if (set === undefined) {
      set = tree.addText(encoded, 0, encoded.length);
      if (key !== undefined && this.#sets.size < MAX_REMEMBERED_SETS) this.#sets.set(key, set);
    }
    tree.xattrs[inode] = set.offset;
    tree.xattrBytes[inode] = set.length;
  }

  /**
   * Finds the names of a path, resolving `.` and `..` in its text; `..` at the root stays there, so that no path leads out
   * of the layer.
   */
  #split(path: Uint8Array, length: number): void {
    let count = 0;
    for (let at = 0; at < length;) {
      if (path[at] === SLASH) {
        at += 1;
        continue;
      }
      const start = at;
      while (at < length && path[at] !== SLASH) at += 1;
      if (at - start === 1 && path[start] === DOT) continue;
      if (at - start === 2 && path[start] === DOT && path[start + 1] === DOT) {
        if (count > 0) count -= 1;
        continue;
      }
      if (at - start > MAX_NAME_BYTES) {
        throw new LayerdError(
          'corrupt',
          `the layer's tar has a name of ${at - start} bytes, ${quote(path.subarray(start, at))}; at most ${MAX_NAME_BYTES} are accepted`,
        );
      }
      this.#names[count * 2] = start;
      this.#names[count * 2 + 1] = at;
      count += 1;
    }
    this.#nameCount = count;
    const start = this.#names[0] ?? 0;
    const end = this.#names[1] ?? 0;
    this.#isShadow = count > 1 && startsWith(path, start, end, AUFS_PREFIX);
  }

  #root(): number {
    return this.#isShadow ? SHADOW : ROOT;
  }

  /** The directory that the entry goes into, made if it is missing. */
  #parentOf(entry: TarEntry): number {
    const length = this.#names[this.#nameCount * 2 - 2] ?? 0;
    if (length === this.#lastLength && isSame(entry.path, this.#lastPath, length)) return this.#lastDirectory;
    const directory = this.#walk(this.#root(), entry.path, this.#nameCount - 1, true, entry);
    this.#lastPath.set(entry.path.subarray(0, length));
    this.#lastLength = length;
    this.#lastDirectory = directory;
    return directory;
  }

  /** Goes down the first `count` names that {@link #split} found. */
  #walk(root: number, path: Uint8Array, count: number, create: boolean, entry: TarEntry): number {
    const links = { left: MAX_LINKS };
    let directory = root;
    for (let index = 0; index < count && directory !== NONE; index += 1) {
      const start = this.#names[index * 2] ?? 0;
      const end = this.#names[index * 2 + 1] ?? 0;
      directory = this.#step(directory, path, start, end, create, entry, links);
    }
    return directory;
  }

  /** The directory of that name in a directory; NONE if there is none and none shall be made. */
  #step(
    directory: number,
    path: Uint8Array,
    start: number,
    end: number,
    create: boolean,
    entry: TarEntry,
    links: { left: number },
  ): number {
    const tree = this.#tree;
    const found = tree.find(directory, path, start, end);
    const inode = found === NONE ? NONE : (tree.inode[found] ?? NONE);
    if (inode !== NONE && tree.isDirectory(inode)) return inode;
    if (inode !== NONE && tree.isSymlink(inode)) return this.#follow(directory, inode, create, entry, links);
    if (!create) return NONE;
    if (inode === NONE) {
      const made = tree.addInode(IMPLICIT_DIRECTORY, 0, NONE);
      tree.link(directory, path, start, end, made);
      return made;
    }
    if (!tree.hasFlag(inode, WHITEOUT)) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has ${describe(entry)} below ${quote(path.subarray(start, end))}, which is not a directory`,
      );
    }
    const made = tree.addInode(IMPLICIT_DIRECTORY, 0, NONE);
    tree.setFlag(made, OPAQUE);
    tree.replace(directory, found, made);
    return made;
  }

  /** Goes where a symbolic link in a directory leads, as the kernel would with the layer's root as its root. */
  #follow(from: number, link: number, create: boolean, entry: TarEntry, links: { left: number }): number {
    const tree = this.#tree;
    links.left -= 1;
    if (links.left < 0) {
      throw new LayerdError('corrupt', `the layer's tar has ${describe(entry)} below too many symbolic links`);
    }
    // A copy, because the arena moves when it grows.
    const offset = tree.data[link] ?? 0;
    const target = tree.bytes.slice(offset, offset + (tree.size[link] ?? 0));
    let directory = target[0] === SLASH ? ROOT : from;
    for (let at = 0; at < target.length && directory !== NONE;) {
      if (target[at] === SLASH) {
        at += 1;
        continue;
      }
      const start = at;
      while (at < target.length && target[at] !== SLASH) at += 1;
      if (at - start > MAX_NAME_BYTES) return this.#tooLong(entry);
      if (at - start === 1 && target[start] === DOT) continue;
      if (at - start === 2 && target[start] === DOT && target[start + 1] === DOT) {
        directory = tree.parent[directory] ?? ROOT;
        continue;
      }
      directory = this.#step(directory, target, start, at, create, entry, links);
    }
    return directory;
  }

  #tooLong(entry: TarEntry): never {
    throw new LayerdError(
      'corrupt',
      `the layer's tar has ${describe(entry)} below a symbolic link whose target has a name of more than ${MAX_NAME_BYTES} bytes`,
    );
  }
}

const attributesOf = (entry: TarEntry, type: number): Attributes => ({
  mode: type | entry.mode,
  uid: entry.uid,
  gid: entry.gid,
  seconds: entry.seconds,
  nanoseconds: entry.nanoseconds,
});

/** A device number as EROFS stores it (kdev_t.h, new_encode_dev). */
function deviceOf(entry: TarEntry): number {
  const { major, minor } = entry;
  if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR) {
    throw new LayerdError('corrupt', `the layer's tar has the device ${major}:${minor} at ${describe(entry)}`);
  }
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

const describe = (entry: TarEntry): string => quote(entry.path.subarray(0, entry.pathLength));

function startsWith(path: Uint8Array, start: number, end: number, prefix: Buffer): boolean {
  if (end - start < prefix.length) return false;
  for (let index = 0; index < prefix.length; index += 1) if (path[start + index] !== prefix[index]) return false;
  return true;
}

/** Whether the name is empty, `.` or `..`. */
function isDots(path: Uint8Array, start: number, end: number): boolean {
  if (end - start > 2) return false;
  for (let at = start; at < end; at += 1) if (path[at] !== DOT) return false;
  return true;
}

function isSame(a: Uint8Array, b: Uint8Array, length: number): boolean {
  for (let at = 0; at < length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}
