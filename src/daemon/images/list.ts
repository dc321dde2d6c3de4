import type { ImageSummary } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Filters } from './filters.ts';
import type { ImageStore } from './store.ts';

/** The filters of a list; parse the parameter with these. */
export const IMAGE_FILTERS: readonly string[] = [
  'dangling',
  'label',
  'label!',
  'before',
  'since',
  'reference',
  'until',
];

export interface ListOptions {
  readonly all?: boolean;
  readonly filters?: Filters;
  readonly sharedSize?: boolean;
  readonly manifests?: boolean;
}

export function listImages(_store: ImageStore, _options?: ListOptions): Promise<ImageSummary[]> {
  throw new LayerdError('not-implemented', 'listImages');
}
