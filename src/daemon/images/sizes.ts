import type { Digest } from '../../protocol/digest.ts';
import { sqlOnDisk } from '../metadata/blocks.ts';
import type { Database } from '../metadata/database.ts';
import type { Image } from './image.ts';

/** What sizes are told of: a target, and the image it is to the user. */
export interface SizedTarget extends Pick<Image, 'target'> {
  /** The image ID it is listed under. */
  readonly id: Digest;
}

/** What a blob takes on the disk; an EROFS image consists of whole blocks. */
const BLOB_BYTES = sqlOnDisk('blob.size');

/**
 * The bytes that an image takes on the disk: the indexes that name it, its manifests, configs and layer blobs, and the
 * EROFS images of its layers, each counted once.
 */
export function imageSize(db: Database, listedId: Digest): number {
  const row = db.get<{ size: number }>(
    `SELECT
       (SELECT TOTAL(${BLOB_BYTES}) FROM blob WHERE digest IN (
          SELECT digest FROM image JOIN image_blob USING (target) WHERE image_id = ?1)) +
       (SELECT TOTAL(image_size) FROM layer WHERE diff_id IN (
          SELECT diff_id FROM image JOIN image_manifest USING (target)
            JOIN manifest_layer ON manifest_layer.manifest = image_manifest.manifest WHERE image_id = ?1)) AS size`,
    listedId,
  );
  return row?.size ?? 0;
}

/** The same for all images at once: returns what gives the size of one by its targets. */
export function imageSizes(db: Database): (targets: readonly [SizedTarget, ...SizedTarget[]]) => number {
  const blobs = sumsOf(
    db.all<SumRow>(
      `SELECT target, SUM(${BLOB_BYTES}) AS size, 1 AS parts FROM image_blob JOIN blob USING (digest) GROUP BY target`,
    ),
  );
  const layers = sumsOf(
    db.all<SumRow>(
      `SELECT target, SUM(size) AS size, SUM(kind <> 'attestation') AS parts
       FROM image_manifest JOIN manifest ON manifest.digest = manifest GROUP BY target`,
    ),
  );
  return ([first, ...others]) => {
    const layer = layers.get(first.target);
    // Layers that several manifests have, and blobs that several targets have, would be counted more than once.
    if (others.length > 0 || layer === undefined || layer.parts > 1) return imageSize(db, first.id);
    return layer.size + (blobs.get(first.target)?.size ?? 0);
  };
}

interface SumRow {
  readonly target: Digest;
  readonly size: number;
  /** How many things are summed that may have something in common. */
  readonly parts: number;
}

const sumsOf = (rows: readonly SumRow[]): ReadonlyMap<Digest, SumRow> => new Map(rows.map((row) => [row.target, row]));

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
       SELECT DISTINCT image_id AS id, blob.digest, ${BLOB_BYTES} AS size FROM shared_blob
         JOIN blob USING (digest) JOIN image_blob USING (digest) JOIN image USING (target)
       UNION ALL
       SELECT DISTINCT image_id AS id, diff_id, image_size FROM shared_tree
         JOIN layer USING (diff_id) JOIN manifest_layer USING (diff_id)
         JOIN image_manifest ON image_manifest.manifest = manifest_layer.manifest JOIN image USING (target)
     ) GROUP BY id`,
  );
  return new Map(rows.map(({ id, size }) => [id, size]));
}
