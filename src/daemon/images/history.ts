import type { Digest } from '../../protocol/digest.ts';
import type { HistoryItem } from '../../protocol/engine.ts';
import type { Platform } from '../../protocol/oci.ts';
import { repoTags } from './name.ts';
import { readConfig, type ImageStore } from './store.ts';
import { unixSeconds } from '../../protocol/time.ts';

/** What a step is called that is no image of its own. */
const NO_ID = '<missing>';

/** A step of a history. Where the config does not say when it was made, versions of the API differ in how. */
export type HistoryStep = Omit<HistoryItem, 'Created'> & { readonly Created: number | undefined };

/**
 * How an image was made, newest step first, as its config tells: a config without history tells nothing, and a history
 * that names more layers than there are has steps of size 0.
 */
export async function imageHistory(
  store: ImageStore,
  name: string,
  options: { platform?: Platform | undefined } = {},
): Promise<HistoryStep[]> {
  const found = store.resolve(name, options.platform);
  const sizes = store.db
    .all<{ size: number | null }>(
      `SELECT COALESCE(file_bytes, layer.size) AS size FROM manifest_layer LEFT JOIN layer USING (diff_id)
       WHERE manifest = ? AND diff_id IS NOT NULL ORDER BY position`,
      found.manifest,
    )
    .values();
  const { history } = await readConfig(store, found);
  const steps = (history ?? []).map((step) => ({
    Id: NO_ID,
    Created: unixSeconds(step.created),
    CreatedBy: step.created_by ?? '',
    Tags: null,
    Size: step.empty_layer === true ? 0 : (sizes.next().value?.size ?? 0),
    Comment: step.comment ?? '',
  }));
  // Each step of an image that was made step by step is an image of its own, as long as that is stored.
  let id: Digest | undefined = found.id;
  return steps.reverse().map((step) => {
    if (id === undefined) return step;
    const tags = repoTags(store.names(id === found.id ? found.listedId : id));
    const shown = { ...step, Id: id, Tags: tags.length === 0 ? null : tags };
    id = store.parent(id);
    return shown;
  });
}
