import type { HistoryItem } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { ImageStore } from './store.ts';

export function imageHistory(
  _store: ImageStore,
  _name: string,
  _options?: { platform?: Platform | undefined },
): Promise<HistoryItem[]> {
  throw new LayerdError('not-implemented', 'imageHistory');
}
