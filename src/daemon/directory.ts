import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Of directories that have to be made on the way. */
const PARENT_MODE = 0o755;

/**
 * Makes a directory where there is none. Node's own recursive mkdir gives every parent the same mode, and never returns
 * where the kernel refuses a directory with ENOENT, as it does in /proc.
 * @param mode Of this directory, if it is made; one that is there stays as it is.
 */
export function makeDirectory(path: string, mode: number): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectory(parent, PARENT_MODE);
  try {
    mkdirSync(path, mode);
  } catch (error) {
    // Somebody else was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
