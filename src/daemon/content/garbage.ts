import type { Digest } from '../../protocol/digest.ts';
import type { Database } from '../metadata/database.ts';
import type { ContentStore } from './store.ts';

/** What a collection freed. */
export interface Freed {
  readonly blobs: Digest[];
  /** Diff IDs. */
  readonly layers: Digest[];
  /** Bytes of the disk. */
  readonly bytes: number;
}

/** Deletes the EROFS images of layers, by diff ID, in the caller's transaction; returns the bytes that they took. */
type RemoveLayers = (diffIds: readonly Digest[]) => number;

/**
 * Removes what nothing holds: a blob that no image and no lease names, and a layer that no remaining blob unpacks to.
 * The check and the removal of the rows are one transaction, and a pull names what it needs in a lease before it looks
 * whether it is there; so whatever a pull has seen is never taken from under it.
 */
export class GarbageCollector {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #removeLayers: RemoveLayers;
  readonly #onFreed: (freed: Freed) => void;

  /** `onFreed` is told of what was freed once that is certain. */
  constructor(options: {
    db: Database;
    content: ContentStore;
    removeLayers: RemoveLayers;
    onFreed?: (freed: Freed) => void;
  }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#removeLayers = options.removeLayers;
    this.#onFreed = options.onFreed ?? (() => undefined);
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
      const bytes = this.#content.remove(blobs) + this.#removeLayers(layers);
      const freed = { blobs, layers, bytes };
      this.#db.afterCommit(() => this.#onFreed(freed));
      return freed;
    });
  }

  /**
   * Collects what a lease has named that nobody will come back for, together with what ingests have gathered of it. May be
   * part of the caller's transaction.
   */
  abandon(digests: readonly Digest[]): Freed {
    return this.#db.essential(() => {
      const freed = this.collect(digests);
      const partial = freed.blobs
        .map((digest) => this.#content.discardIngest(digest))
        .reduce((sum, bytes) => sum + bytes, 0);
      this.#db.afterCommit(() => this.#onFreed({ blobs: [], layers: [], bytes: partial }));
      return { ...freed, bytes: freed.bytes + partial };
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
