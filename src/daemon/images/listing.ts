import type { Digest } from '../../protocol/digest.ts';
import { unixSeconds } from '../../protocol/time.ts';
import type { Database } from '../metadata/database.ts';
import { repoDigests, repoTags, type ImageName } from './name.ts';
import { BEST_NAMED_FIRST } from './precedence.ts';
import { imageSizes, type SizedTarget } from './sizes.ts';

/** An image as lists show it, before filters: one for all targets that are the same image to the user. */
export interface ListedImage {
  /** The image ID it is listed under. */
  readonly id: Digest;
  /** Of its targets the one that stands for it. */
  readonly target: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  /** RFC 3339, from the config. */
  readonly created: string | undefined;
  readonly labels: Record<string, string>;
  readonly names: readonly ImageName[];
  /** The names as people write them, and Unix seconds of {@link created}: made once for all lists. */
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  readonly createdSeconds: number | undefined;
  /** Bytes on the disk. */
  readonly size: number;
  /** The image ID of the stored image that it was made on top of. */
  readonly parent: Digest | undefined;
  /** Whether a stored image was made on top of it. */
  readonly hasChildren: boolean;
}

interface TargetRow extends SizedTarget {
  readonly mediaType: string;
  readonly bytes: number;
  readonly labels: string | null;
  readonly created: string | null;
}

/** Reads all images from the metadata, the newest first, in a few statements however many there are. `namesOf` gives the names of targets. */
export function readListing(db: Database, namesOf: (targets: readonly Digest[]) => ImageName[]): ListedImage[] {
  const rows = db.all<TargetRow>(
    `SELECT image_id AS id, target, image.media_type AS mediaType, image.bytes, labels, created
     FROM image JOIN manifest ON manifest.digest = image.manifest ORDER BY ${BEST_NAMED_FIRST}`,
  );
  const byId = new Map<Digest, [TargetRow, ...TargetRow[]]>();
  for (const row of rows) {
    const targets = byId.get(row.id);
    if (targets === undefined) byId.set(row.id, [row]);
    else targets.push(row);
  }
  const sizeOf = imageSizes(db);
  const parents = new Map(
    db
      .all<{ id: Digest; parent: Digest }>('SELECT image_id AS id, parent FROM parent')
      .filter(({ id, parent }) => byId.has(id) && byId.has(parent))
      .map(({ id, parent }) => [id, parent]),
  );
  const withChildren = new Set(parents.values());
  const images = [...byId.values()].map((targets) => {
    const [{ id, target, mediaType, bytes, created, labels }] = targets;
    const names = namesOf(targets.map((row) => row.target));
    return {
      id,
      target,
      mediaType,
      bytes,
      created: created ?? undefined,
      labels: JSON.parse(labels ?? '{}') as Record<string, string>,
      names,
      tags: repoTags(names),
      digests: repoDigests(names),
      createdSeconds: unixSeconds(created ?? undefined),
      size: sizeOf(targets),
      parent: parents.get(id),
      hasChildren: withChildren.has(id),
    };
  });
  return images.sort((one, other) => (other.createdSeconds ?? 0) - (one.createdSeconds ?? 0));
}
