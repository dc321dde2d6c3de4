import type { ImageInspect } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { ImageStore } from './store.ts';

export function inspectImage(
  _store: ImageStore,
  _name: string,
  _options?: { platform?: Platform | undefined; manifests?: boolean },
): Promise<ImageInspect> {
  throw new LayerdError('not-implemented', 'inspectImage');
}
