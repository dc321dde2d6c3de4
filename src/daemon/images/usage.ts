import type { Amount, UsageReport } from '../../protocol/engine.ts';
import { UNDER_WAY, type Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import { sqlOnDisk } from '../metadata/blocks.ts';
import type { Database } from '../metadata/database.ts';
import { listImages, type ListedSummary } from './list.ts';
import type { ImageStore } from './store.ts';

/** What usage is told from. */
export interface UsageParts {
  readonly store: ImageStore;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly leases: Pick<Leases, 'isInUse'>;
}

/** Whatever is stored takes bytes in one of three ways: an image holds it, a pull has left it, or somebody is at it. */
export interface Usage extends UsageReport {
  /** The images with what they share, where they were asked for. */
  readonly items: readonly ListedSummary[] | undefined;
}

/** Tells what takes space, from the metadata, and of what is unfinished from its files. */
export async function diskUsage(
  { store, content, layers, leases }: UsageParts,
  { items }: { readonly items: boolean },
): Promise<Usage> {
  if (items) {
    // Both take some time after a change when images are many, so each has a turn of the event loop of its own.
    store.listing();
    await new Promise(setImmediate);
    store.sharedSizes();
  }
  const { ingests, staged } = await content.unfinished();
  const unpacking = await layers.unpackingBytes();
  const listed = items ? await listImages(store, { sharedSize: true }) : undefined;
  const { interrupted, underWay } = heldByLeases(store.db);
  const images = { count: store.count(), size: storedBytes(store.db) - interrupted.size - underWay.size };
  underWay.size += staged + unpacking;
  for (const [digest, bytes] of ingests) (leases.isInUse(digest) ? underWay : interrupted).size += bytes;
  return { images, interrupted, underWay, items: listed };
}

const BLOB_BYTES = sqlOnDisk('blob.size');

function storedBytes(db: Database): number {
  const sql = `SELECT (SELECT TOTAL(${BLOB_BYTES}) FROM blob) + (SELECT TOTAL(image_size) FROM layer) AS bytes`;
  return db.get<{ bytes: number }>(sql)?.bytes ?? 0;
}

/** What no image holds: it is named by leases, or by none for the moment until it is collected. */
function heldByLeases(db: Database): Pick<UsageReport, 'interrupted' | 'underWay'> {
  const counts = db.get<{ kept: number; current: number }>(
    'SELECT TOTAL(expires_at <> ?1) AS kept, TOTAL(expires_at = ?1) AS current FROM lease',
    UNDER_WAY,
  );
  const sizes = db.all<{ current: 0 | 1; size: number }>(
    `WITH named AS MATERIALIZED (
       SELECT digest, MAX(expires_at = ?) AS current FROM lease_content JOIN lease ON lease.id = lease GROUP BY digest
     )
     SELECT current, TOTAL(size) AS size FROM (
       SELECT current, ${BLOB_BYTES} AS size FROM named JOIN blob USING (digest)
         WHERE NOT EXISTS (SELECT 1 FROM image_blob WHERE image_blob.digest = blob.digest)
       UNION ALL
       SELECT MAX(current), image_size FROM named JOIN layer_blob USING (digest) JOIN layer USING (diff_id)
         WHERE NOT EXISTS (SELECT 1 FROM manifest_layer WHERE manifest_layer.diff_id = layer.diff_id) GROUP BY diff_id
     ) GROUP BY current`,
    UNDER_WAY,
  );
  const amount = (count: number | undefined, current: 0 | 1): Amount => ({
    count: count ?? 0,
    size: sizes.find((row) => row.current === current)?.size ?? 0,
  });
  return { interrupted: amount(counts?.kept, 0), underWay: amount(counts?.current, 1) };
}
