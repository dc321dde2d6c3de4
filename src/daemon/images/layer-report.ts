import type { Digest } from '../../protocol/digest.ts';
import type { LayerReport } from '../../protocol/engine.ts';
import type { Platform } from '../../protocol/oci.ts';
import { repoTags } from './name.ts';
import type { ImageStore } from './store.ts';

/** The layers of an image with their three identities, bottom first, and the other images that share each of them. */
export function layerReports(store: ImageStore, name: string, platform?: Platform): LayerReport[] {
  const { manifest, listedId } = store.resolve(name, platform);
  const rows = store.db.all<Omit<LayerReport, 'sharedWith'>>(
    `SELECT diff_id AS diffId, digest AS layerDigest, chain_id AS chainId, media_type AS mediaType, bytes AS blobSize,
       size, image_size AS imageSize
     FROM manifest_layer JOIN layer USING (diff_id) WHERE manifest = ? ORDER BY position`,
    manifest,
  );
  const names = new Map<Digest, string>();
  const nameOf = (id: Digest): string => {
    const known = names.get(id) ?? repoTags(store.names(id))[0] ?? id;
    names.set(id, known);
    return known;
  };
  return rows.map((row) => ({
    ...row,
    sharedWith: store.db
      .all<{ image_id: Digest }>(
        `SELECT DISTINCT image_id FROM manifest_layer
           JOIN image_manifest ON image_manifest.manifest = manifest_layer.manifest
           JOIN image USING (target)
         WHERE diff_id = ? AND image_id <> ?`,
        row.diffId,
        listedId,
      )
      .map(({ image_id }) => nameOf(image_id))
      .toSorted(),
  }));
}
