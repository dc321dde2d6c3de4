import type { LayerReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { ImageStore } from './store.ts';

export function layerReports(_store: ImageStore, _name: string, _platform?: Platform): LayerReport[] {
  throw new LayerdError('not-implemented', 'layerReports');
}
