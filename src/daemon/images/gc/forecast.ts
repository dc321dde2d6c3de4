import type { Digest } from '../../../protocol/digest.ts';
import { onDisk } from '../../metadata/blocks.ts';
import type { Database } from '../../metadata/database.ts';
import { imageBlobs } from '../holdings.ts';
import type { SweepParts } from '../sweep.ts';

/**
 * What removals would free, one after the other, without doing any: of blobs and layers that images share, the last of
 * them has the bytes. Of steps below an image that have no name, which would go with it, it does not know.
 */
export class Forecast {
  readonly #parts: Pick<SweepParts, 'content' | 'leases'>;
  readonly #db: Database;
  /** Images that hold a blob, and blobs that unpack to a layer, of those that were looked at. */
  readonly #holders = new Map<Digest, number>();
  readonly #sources = new Map<Digest, number>();

  constructor(parts: SweepParts) {
    this.#parts = parts;
    this.#db = parts.store.db;
  }

  /** The bytes that removing the targets would free. */
  remove(targets: readonly Digest[]): number {
    let bytes = 0;
    for (const digest of targets.flatMap((target) => imageBlobs(this.#db, target))) {
      const left = this.#holdersOf(digest) - 1;
      this.#holders.set(digest, left);
      if (left === 0 && !this.#parts.leases.holds(digest)) bytes += this.#blob(digest);
    }
    return bytes;
  }

  /** The bytes that letting go of what interrupted pulls have kept would free. */
  abandonInterrupted(): number {
    const { content, leases } = this.#parts;
    return leases
      .kept()
      .filter((digest) => this.#holdersOf(digest) === 0 && !leases.isInUse(digest))
      .reduce((sum, digest) => sum + this.#blob(digest) + onDisk(content.ingestSize(digest)), 0);
  }

  #holdersOf(digest: Digest): number {
    return (
      this.#holders.get(digest) ?? this.#count('SELECT count(*) AS count FROM image_blob WHERE digest = ?', digest)
    );
  }

  /** The bytes of a blob, and with the last one that unpacks to its layer, those of the layer. */
  #blob(digest: Digest): number {
    const bytes = onDisk(this.#parts.content.get(digest)?.size ?? 0);
    const layer = this.#db.get<{ diffId: Digest; size: number }>(
      'SELECT diff_id AS diffId, image_size AS size FROM layer_blob JOIN layer USING (diff_id) WHERE digest = ?',
      digest,
    );
    if (layer === undefined) return bytes;
    const known = this.#sources.get(layer.diffId);
    const sources = known ?? this.#count('SELECT count(*) AS count FROM layer_blob WHERE diff_id = ?', layer.diffId);
    this.#sources.set(layer.diffId, sources - 1);
    return sources === 1 ? bytes + layer.size : bytes;
  }

  #count(sql: string, digest: Digest): number {
    return this.#db.get<{ count: number }>(sql, digest)?.count ?? 0;
  }
}
