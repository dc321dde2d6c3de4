import type { ImageIdentity } from '../../protocol/engine.ts';
import { canonicalName } from '../../protocol/reference.ts';
import type { ImageName } from './name.ts';

/**
 * Where an image came from, as far as the daemon saw it itself: the repositories in which it is known by its digest. A tag
 * that somebody gave it says nothing about its origin. Undefined when nothing is known.
 */
export function imageIdentity(names: readonly ImageName[]): ImageIdentity | undefined {
  const origins = names.filter(({ reference }) => reference.digest !== undefined);
  const repositories = new Set(origins.map(({ reference }) => canonicalName(reference)));
  return repositories.size === 0 ? undefined : { Pull: [...repositories].map((Repository) => ({ Repository })) };
}
