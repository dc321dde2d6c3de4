import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Extract } from 'tar-stream';
import { LayerdError, messageOf } from '../../../protocol/errors.ts';
import { unusable } from './archive.ts';

/** Files, folders and links of an archive: a hundred images of a hundred layers have less. */
export const MAX_ENTRIES = 50_000;
/** Characters of a path or link target. Tools write less than two hundred; what they mean is kept in memory. */
export const MAX_PATH_LENGTH = 512;

type Entry = Extract extends AsyncIterable<infer E> ? E : never;

/** A file of an archive. */
export interface ArchiveFile {
  readonly kind: 'file';
  /** Relative, without `.` and `..`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** To be read, if at all, before the next entry is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** A symbolic or hard link, by which older archives name a layer that several images share. */
export interface ArchiveLink {
  readonly kind: 'link';
  readonly path: string;
  readonly target: string;
}

/**
 * The files and links of a tar, in their order. Nothing of it ever becomes a path of this host; what leads out of the
 * archive all the same, or is neither file, folder nor link, was not made by an honest tool and is refused, as is a path
 * that comes twice, which would be one file to one reader and another to the next.
 */
export async function* readEntries(source: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveFile | ArchiveLink> {
  const archive = extract();
  const input = Readable.from(source, { objectMode: false });
  let failure: unknown;
  // What fails on the way ends the iteration below, which is told less of it.
  const feeding = pipeline(input, archive).catch((error: unknown) => {
    failure ??= error;
  });
  const entries = archive[Symbol.asyncIterator]();
  const seen = new Set<string>();
  try {
    for (let count = 1; ; count += 1) {
      const next = await readable(entries.next(), () => failure);
      if (next.done === true) return;
      if (count > MAX_ENTRIES) throw unusable(`it has more than ${MAX_ENTRIES} entries`);
      const entry = admit(next.value, () => failure);
      if (entry !== undefined) {
        if (seen.has(entry.path)) throw unusable(`it has ${JSON.stringify(entry.path)} twice`);
        seen.add(entry.path);
        yield entry;
      }
      // What nobody has read is skipped.
      next.value.resume();
    }
  } finally {
    archive.destroy();
    input.destroy();
    await feeding;
  }
}

/** Checks an entry; undefined for a folder. */
function admit(entry: Entry, failure: () => unknown): ArchiveFile | ArchiveLink | undefined {
  const { name, type, size, linkname } = entry.header;
  const path = insidePath(name, name, false);
  switch (type) {
    case 'directory':
      return undefined;
    case 'file':
    case 'contiguous-file':
      if (path === '') throw unusable(`it has a file without a name`);
      return { kind: 'file', path, size, body: bodyOf(entry, failure) };
    case 'symlink':
    case 'link': {
      const target = (linkname as string | null) ?? '';
      // A symbolic link is relative to its folder, a hard link to the archive.
      const base = type === 'link' ? '' : path.slice(0, path.lastIndexOf('/') + 1);
      return { kind: 'link', path, target: insidePath(target.startsWith('/') ? target : base + target, name, true) };
    }
    default:
      throw unusable(`${shown(name)} is a ${(type as string | null) ?? 'thing of an unknown kind'}, not a file`);
  }
}

/** A path relative to the archive's root. A link may go up, but not out; a name must not even go up. */
function insidePath(path: string, name: string, mayGoUp: boolean): string {
  if (path.length > MAX_PATH_LENGTH) {
    throw unusable(`${shown(name)} has a path of more than ${MAX_PATH_LENGTH} characters`);
  }
  const leads = (): LayerdError => unusable(`${shown(name)} leads out of it (${shown(path)})`);
  if (path.startsWith('/') || path.includes('\0')) throw leads();
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (!mayGoUp || parts.pop() === undefined) throw leads();
  }
  return parts.join('/');
}

async function* bodyOf(entry: Entry, failure: () => unknown): AsyncGenerator<Uint8Array> {
  const chunks = (entry as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  for (
    let next = await readable(chunks.next(), failure);
    next.done !== true;
    next = await readable(chunks.next(), failure)
  ) {
    yield next.value;
  }
}

/** Says of what the tar reader, a decompressor or the connection complains of what it means for the archive. */
async function readable<T>(reading: Promise<T>, failure: () => unknown): Promise<T> {
  try {
    return await reading;
  } catch (thrown) {
    // Another turn, in which the pipeline tells of what began it.
    await new Promise(setImmediate);
    const error = failure() ?? thrown;
    if (error instanceof LayerdError) throw error;
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
      throw new LayerdError('cancelled', 'the client stopped sending the archive', { cause: error });
    }
    if (/unexpected end/i.test(messageOf(error))) throw unusable('it is cut off', error);
    throw unusable(`it is no tar, or a damaged one: ${messageOf(error)}`, error);
  }
}

const shown = (path: string): string => JSON.stringify(path.length > 100 ? `${path.slice(0, 100)}…` : path);
