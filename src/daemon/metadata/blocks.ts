import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { storageError } from './storage-error.ts';

/** Bytes that file systems give to files at a time, nearly everywhere: ext4, XFS and btrfs have blocks of 4 KiB. */
const BLOCK = 4096;
/** st_blocks counts in these, whatever the file system's blocks are. */
export const STAT_BLOCK = 512;

/** Bytes that a file of so many bytes takes on the disk. */
export const onDisk = (bytes: number): number => Math.ceil(bytes / BLOCK) * BLOCK;

/** The same in a statement, of a column with the bytes of files. */
export const sqlOnDisk = (column: string): string => `((${column} + ${BLOCK - 1}) / ${BLOCK} * ${BLOCK})`;

/** What the files of a folder take on the disk now, by name: of files that are still being written, which no row tells of. */
export async function filesOnDisk(folder: string): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  try {
    for (const name of await readdir(folder)) {
      const { blocks } = await stat(join(folder, name)).catch(absent);
      sizes.set(name, blocks * STAT_BLOCK);
    }
  } catch (error) {
    throw storageError(error, `look at what is in ${folder}`);
  }
  return sizes;
}

/** A file that was finished or given up since the folder was read takes nothing. */
function absent(error: unknown): { readonly blocks: number } {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { blocks: 0 };
  throw error;
}
