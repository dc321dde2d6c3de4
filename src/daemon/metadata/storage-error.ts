import { LayerdError } from '../../protocol/errors.ts';

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const READ_ONLY: ReadonlySet<string> = new Set(['EROFS', 'EACCES', 'EPERM']);

/**
 * Says what the file system refused, in words that tell the user what to do; other errors stay internal. An error of a file
 * that is open already does not name it, so that the caller has to.
 */
export function storageError(error: unknown, doing: string, file?: string): LayerdError {
  if (error instanceof LayerdError) return error;
  const { code = '', path = file } = error as NodeJS.ErrnoException;
  const where = path === undefined ? '' : ` (${path})`;
  if (FULL.has(code)) {
    return new LayerdError(
      'no-space',
      `cannot ${doing}: no space left on the device of the data root${where}; free some space and try again`,
      { cause: error },
    );
  }
  if (READ_ONLY.has(code)) {
    return new LayerdError(
      'no-space',
      `cannot ${doing}: the data root is not writable${where}; check its mount and its owner`,
      { cause: error },
    );
  }
  return new LayerdError('internal', `cannot ${doing}: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  });
}
