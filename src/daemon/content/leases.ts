import type { Digest } from '../../protocol/digest.ts';
import type { Database } from '../metadata/database.ts';

/** How long the content of an interrupted pull is kept for a resume: 24 hours, in milliseconds. */
export const RESUME_WINDOW = 24 * 60 * 60 * 1000;

/** Expiry of a lease whose pull is under way. A start treats it as interrupted, since its pull died with the daemon. */
export const UNDER_WAY = Number.MAX_SAFE_INTEGER;

const PURPOSE = `substr(id, 1, instr(id, '#'))`;
/** The leases of interrupted pulls that are not under way again; `?1` is {@link UNDER_WAY}. */
const KEPT = `(SELECT id FROM lease WHERE expires_at <> ?1
  AND ${PURPOSE} NOT IN (SELECT ${PURPOSE} FROM lease WHERE expires_at = ?1))`;
/** Purposes of what nobody can take up again once the daemon has died: what they name is kept for no resume. */
const ENDED_BY_A_START = ['load', 'import', 'save', 'attestations'] as const;

/**
 * What garbage collection must leave alone though no image holds it yet. A pull *acquires* a lease before it looks at
 * what is stored and *adds* each digest it needs, so that no removal can come in between. When its image is committed
 * it *releases* the lease; when it is interrupted it *keeps* it, by the reference, until the same pull takes it over or
 * the window for a resume has passed.
 */
export class Leases {
  readonly #db: Database;
  readonly #now: () => number;
  #next = 0;

  constructor(options: { db: Database; now?: () => number }) {
    this.#db = options.db;
    this.#now = options.now ?? Date.now;
    this.#db.run('DELETE FROM lease WHERE id NOT IN (SELECT lease FROM lease_content)');
    this.#db.run(
      `DELETE FROM lease WHERE expires_at = ? AND substr(id, 1, instr(id, '#') - 1) IN (?, ?, ?, ?)`,
      UNDER_WAY,
      ...ENDED_BY_A_START,
    );
    this.#db.run('UPDATE lease SET expires_at = ? WHERE expires_at = ?', this.#now() + RESUME_WINDOW, UNDER_WAY);
  }

  /** A lease of something under way. `purpose` names it for a later resume: the reference and platform of a pull. */
  acquire(purpose: string): Lease {
    this.#next += 1;
    const id = `${purpose}#${process.pid}.${this.#next}.${this.#now()}`;
    this.#db.run('INSERT INTO lease (id, expires_at) VALUES (?, ?)', id, UNDER_WAY);
    return new Lease(this.#db, id, purpose, this.#now);
  }

  /** Whether any lease names the digest. */
  holds(digest: Digest): boolean {
    return this.#db.get('SELECT 1 FROM lease_content WHERE digest = ? LIMIT 1', digest) !== undefined;
  }

  /** Whether something that is under way needs the digest. */
  isInUse(digest: Digest): boolean {
    const sql =
      'SELECT 1 FROM lease_content JOIN lease ON lease.id = lease WHERE digest = ? AND expires_at = ? LIMIT 1';
    return this.#db.get(sql, digest, UNDER_WAY) !== undefined;
  }

  /** What interrupted pulls have kept, except where the same pull is under way again and may take it over. */
  kept(): Digest[] {
    return this.#db
      .all<{ digest: Digest }>(`SELECT DISTINCT digest FROM lease_content WHERE lease IN ${KEPT}`, UNDER_WAY)
      .map((row) => row.digest);
  }

  /** Ends what interrupted pulls have {@link kept}, and returns it. Part of the caller's transaction. */
  endKept(): Digest[] {
    return this.#db.transaction(() => {
      const digests = this.kept();
      this.#db.run(`DELETE FROM lease WHERE id IN ${KEPT}`, UNDER_WAY);
      return digests;
    });
  }

  /** Ends the leases whose time has passed; returns what they named. */
  expire(): Digest[] {
    return this.#db.transaction(() => {
      const now = this.#now();
      const digests = this.#db.all<{ digest: Digest }>(
        'SELECT DISTINCT digest FROM lease_content JOIN lease ON lease.id = lease WHERE expires_at <= ?',
        now,
      );
      this.#db.run('DELETE FROM lease WHERE expires_at <= ?', now);
      return digests.map((row) => row.digest);
    });
  }
}

/** One lease under way. */
export class Lease {
  readonly #db: Database;
  readonly #id: string;
  readonly #purpose: string;
  readonly #now: () => number;

  constructor(db: Database, id: string, purpose: string, now: () => number) {
    this.#db = db;
    this.#id = id;
    this.#purpose = purpose;
    this.#now = now;
  }

  /** Whether it names nothing yet. */
  get isEmpty(): boolean {
    return this.#db.get('SELECT 1 FROM lease_content WHERE lease = ? LIMIT 1', this.#id) === undefined;
  }

  add(digests: Iterable<Digest>): void {
    this.#db.transaction(() => {
      for (const digest of digests) {
        this.#db.run('INSERT OR IGNORE INTO lease_content (lease, digest) VALUES (?, ?)', this.#id, digest);
      }
    });
  }

  /**
   * Ends the lease and what earlier interrupted pulls of the same purpose kept. Part of the caller's transaction.
   * Returns what they named, for a collection where it is not wanted after all.
   */
  release(): Digest[] {
    // On a full disk, too: the end of what has failed for lack of space is what frees its space.
    return this.#db.essential(() => {
      this.#takeOver();
      const rows = this.#db.all<{ digest: Digest }>('SELECT digest FROM lease_content WHERE lease = ?', this.#id);
      this.#db.run('DELETE FROM lease WHERE id = ?', this.#id);
      return rows.map((row) => row.digest);
    });
  }

  /**
   * Lets go of the lease but keeps what it names for a resume, together with what earlier tries kept: a pull that fails
   * again and again leaves one lease. One that names nothing leaves none.
   */
  keep(): void {
    this.#db.essential(() => {
      this.#takeOver();
      this.#db.run(
        'DELETE FROM lease WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM lease_content WHERE lease = ?1)',
        this.#id,
      );
      this.#db.run('UPDATE lease SET expires_at = ? WHERE id = ?', this.#now() + RESUME_WINDOW, this.#id);
    });
  }

  /** Makes what earlier interrupted pulls of the same purpose kept this lease's own. */
  #takeOver(): void {
    const kept = '(SELECT id FROM lease WHERE substr(id, 1, length(?2)) = ?2 AND expires_at <> ?3)';
    const values = [this.#id, `${this.#purpose}#`, UNDER_WAY] as const;
    this.#db.run(
      `INSERT OR IGNORE INTO lease_content (lease, digest) SELECT ?1, digest FROM lease_content WHERE lease IN ${kept}`,
      ...values,
    );
    this.#db.run(`DELETE FROM lease WHERE id <> ?1 AND id IN ${kept}`, ...values);
  }
}
