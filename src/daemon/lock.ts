import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import { noReserve, type Room } from './metadata/reserve.ts';
import { storageError } from './metadata/storage-error.ts';

/** Who holds a data root. */
export interface Holder {
  readonly pid: number;
  /** Addresses it listens on. */
  readonly hosts: readonly string[];
  /** RFC 3339. */
  readonly since: string;
}

/** SQLite's result code for a lock that somebody else holds. */
const SQLITE_BUSY = 5;

/**
 * The lock on a data root: one daemon at a time. Node cannot lock a file itself, SQLite can: an exclusive transaction on
 * an empty database holds a POSIX record lock on its inode. So it is the same lock through every mount and symbolic link,
 * the kernel releases it when the process dies however it dies, and no child inherits it.
 */
export class Lock {
  readonly #database: DatabaseSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /**
   * Takes the lock of the data root.
   * @param room What gives space on a full disk, to the holder alone: it is asked only once the lock is held.
   * @throws LayerdError of kind conflict that says who holds it.
   */
  static take(dataRoot: string, holder: Holder, room: Room = noReserve): Lock {
    const description = join(dataRoot, 'lock.json');
    const path = join(dataRoot, 'lock');
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(path);
      database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      room.within(() => describe(description, holder));
      return new Lock(database);
    } catch (error) {
      database?.close();
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) {
        throw storageError(error, `take the lock ${path} of the data root`, description);
      }
      throw new LayerdError(
        'conflict',
        `the data root ${dataRoot} is in use by ${described(description)}: stop it first, or give another --data-root`,
        { cause: error },
      );
    }
  }

  release(): void {
    this.#database.close();
  }
}

/** Writes who holds the lock: complete at any moment, for a second daemon may read it at any moment. */
function describe(path: string, holder: Holder): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(holder)}\n`);
  renameSync(`${path}.new`, path);
}

/** The holder in words. It may have taken the lock just now and not written yet who it is. */
function described(path: string): string {
  try {
    const { pid, hosts, since } = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    return `layerd with process ID ${pid}, listening on ${hosts.join(', ')}, since ${since}`;
  } catch (error) {
    return `another layerd (${messageOf(error)})`;
  }
}
