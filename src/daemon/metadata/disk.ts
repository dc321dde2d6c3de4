import { statfsSync } from 'node:fs';
import { storageError } from './storage-error.ts';

/** A file system, in bytes. */
export interface Disk {
  readonly capacity: number;
  /** What users other than root may still take. */
  readonly available: number;
}

/** The file system that has the path. */
export function diskOf(path: string): Disk {
  try {
    const { bsize, blocks, bavail } = statfsSync(path);
    return { capacity: bsize * blocks, available: bsize * bavail };
  } catch (error) {
    throw storageError(error, `ask how full the disk of ${path} is`);
  }
}
