import type { Digest } from '../../protocol/digest.ts';
import { canonicalName, type Reference } from '../../protocol/reference.ts';
import type { Database } from '../metadata/database.ts';

/** The tags that a reference stands for: itself where it is one, all of a repository where it names no more than that. */
export function tagsOf(db: Database, reference: Reference): Reference[] {
  if (reference.digest !== undefined) return [];
  return db
    .all<{ tag: string }>(
      'SELECT tag FROM tag WHERE repository = ?1 AND (?2 IS NULL OR tag = ?2) ORDER BY tag',
      canonicalName(reference),
      reference.tag ?? null,
    )
    .map(({ tag }) => ({ ...reference, tag }));
}

/** Every blob that an image holds. */
export function imageBlobs(db: Database, target: Digest): Digest[] {
  return db
    .all<{ digest: Digest }>('SELECT digest FROM image_blob WHERE target = ? ORDER BY digest', target)
    .map(({ digest }) => digest);
}

/** The layer blobs of a stored manifest, bottom first. */
export function layerBlobs(db: Database, manifest: Digest): Digest[] {
  return db
    .all<{ digest: Digest }>('SELECT digest FROM manifest_layer WHERE manifest = ? ORDER BY position', manifest)
    .map(({ digest }) => digest);
}
