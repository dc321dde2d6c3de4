import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LayerdError, messageOf } from '../protocol/errors.ts';

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
   * @throws LayerdError of kind conflict that says who holds it.
   */
  static take(dataRoot: string, holder: Holder): Lock {
    const description = join(dataRoot, 'lock.json');
    const database = new DatabaseSync(join(dataRoot, 'lock'));
    try {
      database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      // Complete at any moment, for a second daemon may read it at any moment.
      writeFileSync(`${description}.new`, `${JSON.stringify(holder)}\n`);
      renameSync(`${description}.new`, description);
    } catch (error) {
      database.close();
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw error;
      throw new LayerdError(
        'conflict',
        `the data root ${dataRoot} is in use by ${describe(description)}: stop it first, or give another --data-root`,
        { cause: error },
      );
    }
    return new Lock(database);
  }

  release(): void {
    this.#database.close();
  }
}

/** The holder in words. It may have taken the lock just now and not written yet who it is. */
function describe(path: string): string {
  try {
    const { pid, hosts, since } = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    return `layerd with process ID ${pid}, listening on ${hosts.join(', ')}, since ${since}`;
  } catch (error) {
    return `another layerd (${messageOf(error)})`;
  }
}
