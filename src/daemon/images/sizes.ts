import type { Digest } from '../../protocol/digest.ts';
import type { Database } from '../metadata/database.ts';
import type { Image } from './image.ts';

/** What sizes are told of: a target, and the image it is to the user. */
export interface SizedTarget extends Pick<Image, 'target' | 'manifest' | 'bytes'> {
  /** The image ID it is listed under. */
  readonly id: Digest;
}

/**
 * The bytes that an image takes on the disk: the index that names it, its manifests, configs and layer blobs, and the
 * EROFS images of its layers, each counted once. (An index within an index, some hundred bytes, is not counted.)
 */
export function imageSize(db: Database, listedId: Digest): number {
  const row = db.get<{ size: number }>(
    `WITH held AS (
       SELECT target, image_manifest.manifest FROM image JOIN image_manifest USING (target) WHERE image_id = ?
     )
     SELECT
       (SELECT TOTAL(size) FROM blob WHERE digest IN (
          SELECT target FROM held
          UNION SELECT manifest FROM held
          UNION SELECT config_digest FROM held JOIN manifest ON manifest.digest = held.manifest
          UNION SELECT digest FROM held JOIN manifest_layer USING (manifest))) +
       (SELECT TOTAL(image_size) FROM layer WHERE diff_id IN (
          SELECT diff_id FROM held JOIN manifest_layer USING (manifest))) AS size`,
    listedId,
  );
  return row?.size ?? 0;
}

/** The same for all images at once: returns what gives the size of one by its targets. */
export function imageSizes(db: Database): (targets: readonly [SizedTarget, ...SizedTarget[]]) => number {
  const rows = db.all<{ target: Digest; size: number; images: number; manifests: number }>(
    `SELECT target, SUM(size + content_size) AS size, SUM(kind <> 'attestation') AS images, COUNT(*) AS manifests
     FROM image_manifest JOIN manifest ON manifest.digest = manifest GROUP BY target`,
  );
  const sums = new Map(rows.map((row) => [row.target, row]));
  return ([first, ...others]) => {
    const sum = sums.get(first.target);
    // An image manifest and its one attestation have no blob in common, so that what their rows say adds up.
    if (others.length > 0 || sum === undefined || sum.images > 1 || sum.manifests > 2) return imageSize(db, first.id);
    return sum.size + (first.manifest === first.target ? 0 : first.bytes);
  };
}

/** The bytes of each image that other images hold too, by the ID it is listed under; those that share none are left out. */
export function sharedSizes(db: Database): Map<Digest, number> {
  const rows = db.all<{ id: Digest; size: number }>(
    `WITH shared_blob AS MATERIALIZED (
       SELECT image_blob.digest FROM image_blob JOIN image USING (target)
       GROUP BY image_blob.digest HAVING MIN(image_id) <> MAX(image_id)
     ), shared_tree AS MATERIALIZED (
       SELECT diff_id FROM manifest_layer
         JOIN image_manifest ON image_manifest.manifest = manifest_layer.manifest JOIN image USING (target)
       WHERE diff_id IS NOT NULL GROUP BY diff_id HAVING MIN(image_id) <> MAX(image_id)
     )
     SELECT id, SUM(size) AS size FROM (
       SELECT DISTINCT image_id AS id, blob.digest, size FROM shared_blob
         JOIN blob USING (digest) JOIN image_blob USING (digest) JOIN image USING (target)
       UNION ALL
       SELECT DISTINCT image_id AS id, diff_id, image_size FROM shared_tree
         JOIN layer USING (diff_id) JOIN manifest_layer USING (diff_id)
         JOIN image_manifest ON image_manifest.manifest = manifest_layer.manifest JOIN image USING (target)
     ) GROUP BY id`,
  );
  return new Map(rows.map(({ id, size }) => [id, size]));
}
