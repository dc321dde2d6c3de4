import { LayerdError } from '../../protocol/errors.ts';

/** Namespaces of extended attributes that EROFS has a number for (erofs_fs.h, EROFS_XATTR_INDEX_*). */
const NAMESPACES: readonly (readonly [prefix: string, index: number])[] = [
  ['user.', 1],
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['trusted.', 4],
  ['security.', 6],
];

/** Bytes of erofs_xattr_ibody_header and of erofs_xattr_entry without name and value. */
const HEADER_BYTES = 12;
const ENTRY_BYTES = 4;
/** A name of 255 bytes and a value of 64 KiB are what Linux takes; EROFS counts one byte less of the value. */
const MAX_NAME_BYTES = 255;
const MAX_VALUE_BYTES = 65535;
/** An inode counts its attributes in units of four bytes, in 16 bits. */
const MAX_SET_BYTES = 65535 * 4;

/** Marks a directory that hides what lower layers have in it (overlayfs documentation, "whiteouts and opaque directories"). */
export const OPAQUE_XATTR: ReadonlyMap<string, Uint8Array> = new Map([['trusted.overlay.opaque', Buffer.from('y')]]);

/**
 * Attributes that overlayfs writes for itself. A layer that brings them could have a name lead elsewhere in the image
 * (`redirect`) or borrow another file's data (`metacopy`); whiteouts are said by name in a tar, so none is needed.
 */
const OVERLAY_PREFIXES = ['trusted.overlay.', 'user.overlay.'];

/** Whether an attribute that a tar brings is kept: it has a namespace that EROFS knows, and is not overlayfs' own. */
export function isKeptXattr(name: string): boolean {
  return namespaceOf(name) !== undefined && !OVERLAY_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/** The attributes in the form in which they follow an EROFS inode; empty without any. Names have one byte per character. */
export function encodeXattrs(xattrs: Iterable<readonly [string, Uint8Array]>): Buffer {
  const parts: Buffer[] = [Buffer.alloc(HEADER_BYTES)];
  let length = HEADER_BYTES;
  for (const [name, value] of xattrs) {
    const namespace = namespaceOf(name);
    if (namespace === undefined) continue;
    const [prefix, index] = namespace;
    const suffix = Buffer.from(name.slice(prefix.length), 'latin1');
    if (name.length > MAX_NAME_BYTES || value.length > MAX_VALUE_BYTES) {
      throw new LayerdError(
        'corrupt',
        `the layer's tar has an extended attribute with ${name.length} bytes of name and ${value.length} of value; at most ${MAX_NAME_BYTES} and ${MAX_VALUE_BYTES} are accepted`,
      );
    }
    const entry = Buffer.alloc(align4(ENTRY_BYTES + suffix.length + value.length));
    entry[0] = suffix.length;
    entry[1] = index;
    entry.writeUInt16LE(value.length, 2);
    entry.set(suffix, ENTRY_BYTES);
    entry.set(value, ENTRY_BYTES + suffix.length);
    parts.push(entry);
    length += entry.length;
  }
  if (length > MAX_SET_BYTES) {
    throw new LayerdError(
      'corrupt',
      `the layer's tar has a file with ${length} bytes of extended attributes; at most ${MAX_SET_BYTES} are accepted`,
    );
  }
  return parts.length === 1 ? Buffer.alloc(0) : Buffer.concat(parts, length);
}

/** What an inode's `i_xattr_icount` says of attributes that take so many bytes. */
export const xattrCount = (bytes: number): number => (bytes === 0 ? 0 : (bytes - HEADER_BYTES) / 4 + 1);

/** Bytes of two encoded sets joined. */
export const joinedBytes = (a: number, b: number): number => (a === 0 || b === 0 ? a + b : a + b - HEADER_BYTES);

/** Joins two encoded sets that have no name in common. */
export function joinXattrs(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0 || b.length === 0) return a.length === 0 ? b : a;
  return Buffer.concat([a, b.subarray(HEADER_BYTES)]);
}

const namespaceOf = (name: string): readonly [string, number] | undefined =>
  NAMESPACES.find(([prefix]) => (prefix.endsWith('.') ? name.startsWith(prefix) && name !== prefix : name === prefix));

const align4 = (length: number): number => (length + 3) & ~3;
