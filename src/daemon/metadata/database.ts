import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { LayerdError } from '../../protocol/errors.ts';
import { migrations } from './schema.ts';

/** A row as SQLite gives it. */
type Row = Record<string, unknown>;

/**
 * The metadata database: one SQLite file in WAL mode. Every call is synchronous and takes microseconds, so that a check
 * and the change that depends on it are one step that no other request can come between.
 *
 * A transaction is all or nothing; what was asked for with {@link afterCommit} happens only once it is committed.
 */
export class Database {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #afterCommit: (() => void)[] | undefined;

  /** Opens the database at the path, creating it or bringing its schema forward. */
  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    this.#db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA foreign_keys = ON;
      PRAGMA busy_timeout = 5000;
      PRAGMA cache_size = -2048;
    `);
    this.#migrate(path);
  }

  /** All rows of a query. */
  all<T extends object = Row>(sql: string, ...values: SQLInputValue[]): T[] {
    return understood(() => this.#prepare(sql).all(...values)) as T[];
  }

  /** The first row of a query. */
  get<T extends object = Row>(sql: string, ...values: SQLInputValue[]): T | undefined {
    return understood(() => this.#prepare(sql).get(...values)) as T | undefined;
  }

  /** Runs a statement; returns how many rows it changed and the row ID it inserted. */
  run(sql: string, ...values: SQLInputValue[]): { changes: number; lastInsertRowid: number } {
    const { changes, lastInsertRowid } = understood(() => this.#prepare(sql).run(...values));
    return { changes: Number(changes), lastInsertRowid: Number(lastInsertRowid) };
  }

  /**
   * Runs the body in one transaction: all of its changes are kept, or, if it throws, none. The body must be
   * synchronous. A transaction inside a transaction is part of the outer one.
   */
  transaction<T>(body: () => T): T {
    if (this.#afterCommit !== undefined) return body();
    const callbacks: (() => void)[] = [];
    this.#afterCommit = callbacks;
    let result: T;
    try {
      understood(() => {
        this.#db.exec('BEGIN IMMEDIATE');
      });
      result = body();
      understood(() => {
        this.#db.exec('COMMIT');
      });
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    } finally {
      this.#afterCommit = undefined;
    }
    for (const callback of callbacks) callback();
    return result;
  }

  /** Calls back once the transaction under way is committed, never if it is rolled back; at once outside of one. */
  afterCommit(callback: () => void): void {
    if (this.#afterCommit === undefined) callback();
    else this.#afterCommit.push(callback);
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #migrate(path: string): void {
    const { user_version: version } = this.#db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > migrations.length) {
      throw new LayerdError(
        'conflict',
        `the store's metadata ${path} has schema ${version}, written by a newer layerd; this one knows up to ${migrations.length}: upgrade layerd or use another --data-root`,
      );
    }
    migrations.slice(version).forEach((migration, index) => {
      this.#db.exec(`BEGIN IMMEDIATE; ${migration}; PRAGMA user_version = ${version + index + 1}; COMMIT`);
    });
  }
}

/** SQLite's primary result codes (sqlite.org/rescode.html) that say something about the disk. */
const SQLITE_READONLY = 8;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;

/** Says what the disk refused the database, in words that tell the user what to do. */
function understood<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { errcode = 0 } = error as { errcode?: number };
    // The extended codes have the primary one in their low byte.
    switch (errcode & 0xff) {
      case SQLITE_FULL:
        throw new LayerdError(
          'no-space',
          'cannot write the metadata: no space left on the device of the data root; free some space and try again',
          { cause: error },
        );
      case SQLITE_READONLY:
        throw new LayerdError(
          'no-space',
          'cannot write the metadata: the data root is not writable; check its mount and its owner',
          {
            cause: error,
          },
        );
      case SQLITE_CORRUPT:
        throw new LayerdError(
          'corrupt',
          'the metadata database of the data root is damaged; restore it from a backup',
          { cause: error },
        );
      default:
        throw error;
    }
  }
}
