import type { Digest } from '../../protocol/digest.ts';
import type { Database } from '../metadata/database.ts';
import type { ContentStore } from './store.ts';

/** What a collection freed. */
export interface Freed {
  readonly blobs: Digest[];
  /** Diff IDs. */
  readonly layers: Digest[];
}

/**
 * Removes what nothing holds: a blob that no image and no lease names, and a layer that no remaining blob unpacks to.
 * The check and the removal of the rows are one transaction, and a pull names what it needs in a lease before it looks
 * whether it is there; so whatever a pull has seen is never taken from under it.
 */
export class GarbageCollector {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #removeLayers: (diffIds: readonly Digest[]) => void;

  constructor(options: { db: Database; content: ContentStore; removeLayers: (diffIds: readonly Digest[]) => void }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#removeLayers = options.removeLayers;
  }

  /** Collects among the candidates, which the caller has just let go of. May be part of the caller's transaction. */
  collect(candidates: Iterable<Digest>): Freed {
    return this.#db.essential(() => {
      const blobs = [...new Set(candidates)].filter((digest) => !this.#isHeld(digest));
      const diffIds = new Set<Digest>();
      for (const digest of blobs) {
        const row = this.#db.get<{ diff_id: Digest }>(
          'DELETE FROM layer_blob WHERE digest = ? RETURNING diff_id',
          digest,
        );
        if (row !== undefined) diffIds.add(row.diff_id);
        this.#db.run('DELETE FROM blob_source WHERE digest = ?', digest);
      }
      const layers = [...diffIds].filter(
        (diffId) => this.#db.get('SELECT 1 FROM layer_blob WHERE diff_id = ? LIMIT 1', diffId) === undefined,
      );
      this.#content.remove(blobs);
      this.#removeLayers(layers);
      return { blobs, layers };
    });
  }

  /** Collects among everything that is stored: at a start, and when leases have expired. */
  collectAll(): Freed {
    const rows = this.#db.all<{ digest: Digest }>(
      `SELECT digest FROM blob
       WHERE digest NOT IN (SELECT digest FROM image_blob) AND digest NOT IN (SELECT digest FROM lease_content)
       UNION
       SELECT digest FROM layer_blob
       WHERE digest NOT IN (SELECT digest FROM image_blob) AND digest NOT IN (SELECT digest FROM lease_content)`,
    );
    return this.collect(rows.map((row) => row.digest));
  }

  #isHeld(digest: Digest): boolean {
    return (
      this.#db.get('SELECT 1 FROM image_blob WHERE digest = ? LIMIT 1', digest) !== undefined ||
      this.#db.get('SELECT 1 FROM lease_content WHERE digest = ? LIMIT 1', digest) !== undefined
    );
  }
}
