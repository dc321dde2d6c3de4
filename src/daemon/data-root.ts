import { accessSync, constants, existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import type { Config } from './config/config.ts';
import { formatHost } from './config/host.ts';
import { makeDirectory } from './directory.ts';
import { Lock } from './lock.ts';
import { Reserve, type ReserveLog } from './metadata/reserve.ts';
import { damagedMetadata } from './metadata/storage-error.ts';

/** As dockerd's: root's group may pass through to what is mounted below, nobody else gets in. */
const DATA_ROOT_MODE = 0o710;
/** Without root everything is the user's own. */
const PRIVATE_MODE = 0o700;

/** A data root that this process holds. */
export interface LockedDataRoot {
  /** Without symbolic links. */
  readonly dataRoot: string;
  readonly reserve: Reserve;
}

/**
 * Creates the data root where there is none, and takes its lock; `undo` gives it back.
 * @throws LayerdError of kind conflict that says who holds it.
 */
export function lockDataRoot(config: Config, log: ReserveLog, undo: AsyncDisposableStack): LockedDataRoot {
  const dataRoot = prepareDirectory('data root', config.dataRoot, DATA_ROOT_MODE);
  const reserve = new Reserve(join(dataRoot, 'reserve'), log);
  const hosts = config.hosts.map(formatHost);
  const lock = Lock.take(dataRoot, { pid: process.pid, hosts, since: new Date().toISOString() }, reserve);
  undo.defer(() => lock.release());
  undo.defer(() => reserve.close());
  return { dataRoot, reserve };
}

/**
 * Refuses metadata that are gone, or were truncated to nothing, where there are blobs. SQLite would begin a new database, so
 * that the store would seem empty, and every blob in it would be swept.
 * @throws LayerdError of kind corrupt.
 */
export function refuseEmptied(metadata: string, dataRoot: string): void {
  const size = statSync(metadata, { throwIfNoEntry: false })?.size;
  if (size !== undefined && size > 0) return;
  const blobs = join(dataRoot, 'blobs', 'sha256');
  if (existsSync(blobs) && readdirSync(blobs).length > 0) {
    throw damagedMetadata(metadata, `the file is ${size === undefined ? 'not there' : 'empty'}, and there are blobs`);
  }
}

/** Creates a directory where there is none, and returns its path without symbolic links. */
export function prepareDirectory(what: string, path: string, mode: number): string {
  try {
    makeDirectory(path, process.geteuid?.() === 0 ? mode : PRIVATE_MODE);
    // access(2) would say of a file that permission is denied.
    if (!statSync(path).isDirectory()) throw new Error('it is not a directory');
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return realpathSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const kind = code === 'ENOSPC' || code === 'EROFS' ? 'no-space' : 'invalid';
    throw new LayerdError(kind, `cannot use the ${what} ${path}: ${messageOf(error)}`, { cause: error });
  }
}
