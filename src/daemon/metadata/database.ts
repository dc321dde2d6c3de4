import { closeSync, fsyncSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { LayerdError } from '../../protocol/errors.ts';
import { noReserve, type Room } from './reserve.ts';
import { migrations } from './schema.ts';
import { databaseError, storageError } from './storage-error.ts';

/** A row as SQLite gives it. */
type Row = Record<string, unknown>;

/**
 * The metadata database: one SQLite file in WAL mode. Every call is synchronous and takes microseconds, so that a check
 * and the change that depends on it are one step that no other request can come between.
 *
 * A transaction is all or nothing; what was asked for with {@link afterCommit} happens only once it is committed.
 */
export class Database {
  readonly #path: string;
  readonly #room: Room;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #afterCommit: (() => void)[] | undefined;

  /**
   * Opens the database at the path, creating it or bringing its schema forward.
   * @param room What {@link essential} transactions get space from.
   */
  constructor(path: string, room: Room = noReserve) {
    this.#path = path;
    this.#room = room;
    this.#db = room.within(() => this.#open());
  }

  /** All rows of a query. */
  all<T extends object = Row>(sql: string, ...values: SQLInputValue[]): T[] {
    return this.#understood(() => this.#prepare(sql).all(...values)) as T[];
  }

  /** The first row of a query. */
  get<T extends object = Row>(sql: string, ...values: SQLInputValue[]): T | undefined {
    return this.#understood(() => this.#prepare(sql).get(...values)) as T | undefined;
  }

  /** Runs a statement; returns how many rows it changed and the row ID it inserted. */
  run(sql: string, ...values: SQLInputValue[]): { changes: number; lastInsertRowid: number } {
    const { changes, lastInsertRowid } = this.#understood(() => this.#prepare(sql).run(...values));
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
      this.#understood(() => {
        this.#db.exec('BEGIN IMMEDIATE');
      });
      result = body();
      this.#understood(() => {
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

  /**
   * A transaction that must be possible on a full disk, since it frees space or the daemon does not start without it. Where
   * there is no space for it, it gets what the reserve holds back, and the body runs once more.
   */
  essential<T>(body: () => T): T {
    if (this.#afterCommit !== undefined) return body();
    return this.#room.within(() => this.transaction(body));
  }

  /**
   * An essential transaction that no power loss undoes once this returns, nor anything that was committed before it. It
   * waits for the disk, milliseconds; not to be called in a transaction.
   */
  durable<T>(body: () => T): T {
    this.#db.exec('PRAGMA synchronous = FULL');
    try {
      return this.essential(body);
    } finally {
      this.#db.exec('PRAGMA synchronous = NORMAL');
    }
  }

  /** Calls back once the transaction under way is committed, never if it is rolled back; at once outside of one. */
  afterCommit(callback: () => void): void {
    if (this.#afterCommit === undefined) callback();
    else this.#afterCommit.push(callback);
  }

  /** Has the disk hold every transaction that is committed by now: until then a power loss may take the latest of them. */
  async sync(): Promise<void> {
    try {
      await using log = await open(`${this.#path}-wal`, 'r+');
      await log.sync();
    } catch (error) {
      throw storageError(error, `sync the metadata ${this.#path}`);
    }
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

  #open(): DatabaseSync {
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(this.#path);
      db.exec(`
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = NORMAL;
        PRAGMA foreign_keys = ON;
        PRAGMA busy_timeout = 5000;
        PRAGMA cache_size = -2048;
      `);
      this.#migrate(db);
      return db;
    } catch (error) {
      db?.close();
      const understood = databaseError(error, this.#path);
      throw understood instanceof LayerdError ? understood : storageError(error, `open the metadata ${this.#path}`);
    }
  }

  #migrate(db: DatabaseSync): void {
    const { user_version: version } = db.prepare('PRAGMA user_version').get() as { user_version: number };
    if (version > migrations.length) {
      throw new LayerdError(
        'conflict',
        `the metadata ${this.#path} has schema ${version}, written by a newer layerd; this one knows up to ${migrations.length}: upgrade layerd, go back to the copy ${this.#path}.schema-N that the upgrade has kept, or use another --data-root`,
      );
    }
    if (version === migrations.length) return;
    if (version > 0) this.#backUp(db, version);
    migrations.slice(version).forEach((migration, index) => {
      db.exec(`BEGIN IMMEDIATE; ${migration}; PRAGMA user_version = ${version + index + 1}; COMMIT`);
    });
  }

  /**
   * Keeps the database as an older layerd can use it, in place of the copy that an earlier upgrade made. At once whole or not
   * there at all.
   */
  #backUp(db: DatabaseSync, version: number): void {
    const copy = `${this.#path}.schema-${version}`;
    rmSync(`${copy}.new`, { force: true });
    db.prepare('VACUUM INTO ?').run(`${copy}.new`);
    const file = openSync(`${copy}.new`, 'r+');
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(`${copy}.new`, copy);
    const prefix = `${basename(this.#path)}.schema-`;
    for (const name of readdirSync(dirname(this.#path))) {
      if (name.startsWith(prefix) && name !== basename(copy)) rmSync(join(dirname(this.#path), name));
    }
  }

  /** Says what the disk refused, in words that tell the user what to do. */
  #understood<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw databaseError(error, this.#path);
    }
  }
}
