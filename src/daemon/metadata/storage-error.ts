import { LayerdError, messageOf } from '../../protocol/errors.ts';

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const READ_ONLY: ReadonlySet<string> = new Set(['EROFS', 'EACCES', 'EPERM']);

/** SQLite's primary result codes (sqlite.org/rescode.html) that say something about the disk. */
const SQLITE_READONLY = 8;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;
/** SQLite says FULL for ENOSPC alone: these are what it says of a quota, and of its shared memory file on a full disk. */
const SQLITE_IOERR_WRITE = 778;
const SQLITE_IOERR_SHMSIZE = 4874;

/** Whether the error, or what caused it, is that there is no space left. */
export function isFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code = '' } = error as NodeJS.ErrnoException;
  return FULL.has(code) || isFullDatabase(error) || isFull(error.cause);
}

function isFullDatabase(error: unknown): boolean {
  const { errcode = 0 } = error as { errcode?: number };
  return primary(errcode) === SQLITE_FULL || errcode === SQLITE_IOERR_WRITE || errcode === SQLITE_IOERR_SHMSIZE;
}

/** The extended result codes of SQLite have the primary one in their low byte. */
const primary = (errcode: number): number => errcode & 0xff;

/**
 * Says what the file system refused, in words that tell the user what to do; other errors stay internal. An error of a file
 * that is open already does not name it, so that the caller has to.
 * @param place What the file belongs to.
 */
export function storageError(error: unknown, doing: string, file?: string, place = 'the data root'): LayerdError {
  if (error instanceof LayerdError) return error;
  const { code = '', path = file } = error as NodeJS.ErrnoException;
  const where = path === undefined ? '' : ` (${path})`;
  if (FULL.has(code)) {
    return new LayerdError(
      'no-space',
      `cannot ${doing}: no space left on the device of ${place}${where}; free some space and try again`,
      { cause: error },
    );
  }
  if (READ_ONLY.has(code)) {
    return new LayerdError(
      'no-space',
      `cannot ${doing}: ${place} is not writable${where}; check its mount and its owner`,
      { cause: error },
    );
  }
  return new LayerdError('internal', `cannot ${doing}: ${messageOf(error)}`, { cause: error });
}

/** Says what the disk refused the database in this file, likewise; errors that do not come from the disk stay as they are. */
export function databaseError(error: unknown, path: string): unknown {
  if (isFullDatabase(error)) {
    return new LayerdError(
      'no-space',
      `cannot write the metadata: no space left on the device of the data root (${path}); free some space and try again`,
      { cause: error },
    );
  }
  const { errcode = 0 } = error as { errcode?: number };
  switch (primary(errcode)) {
    case SQLITE_READONLY:
      return new LayerdError(
        'no-space',
        `cannot write the metadata: the data root is not writable (${path}); check its mount and its owner`,
        { cause: error },
      );
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return damagedMetadata(path, messageOf(error), error);
    default:
      return error;
  }
}

/** The metadata cannot be read any more. */
export function damagedMetadata(path: string, what: string, cause?: unknown): LayerdError {
  return new LayerdError(
    'corrupt',
    `the metadata ${path} is damaged (${what}): restore it from a backup, or stop layerd and run it once with --rebuild-metadata, which makes it again from the images that are on the disk`,
    { cause },
  );
}
