import type { Digest } from '../../protocol/digest.ts';
import type { DeleteItem } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { NewEvent } from '../events/event.ts';
import type { ImageStore } from './store.ts';

export interface RemoveOptions {
  readonly force?: boolean;
  /** Removes the manifests of these platforms alone, where others remain. */
  readonly platforms?: readonly Platform[];
}

export class ImageRemover {
  constructor(_options: {
    store: ImageStore;
    events: { append(event: NewEvent): unknown };
    /** Frees what nothing holds any more; part of the transaction. Layers are diff IDs. */
    collect: (candidates: Digest[]) => { blobs: Digest[]; layers: Digest[] };
  }) {
    throw new LayerdError('not-implemented', 'ImageRemover');
  }

  remove(_name: string, _options?: RemoveOptions): DeleteItem[] {
    throw new LayerdError('not-implemented', 'remove');
  }
}
