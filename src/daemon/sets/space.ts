import type { Digest } from '../../protocol/digest.ts';
import type { Survey } from '../images/pull.ts';

/**
 * Bytes of the EROFS image of a layer for each byte of its blob. Of the layers of eight images of Docker Hub it was
 * 2.6 on average (docs/decisions.md); a set that is a little short is better told so than left half pulled.
 */
export const UNPACKED = 3;

/** Bytes of the disk that each of some pulls needs; what several bring counts for the first of them. */
export function neededBy(surveys: readonly Survey[]): number[] {
  const counted = new Set<Digest>();
  return surveys.map(({ missing }) =>
    missing.reduce((sum, { digest, size, received, unpacks }) => {
      if (counted.has(digest)) return sum;
      counted.add(digest);
      return sum + (size - received) + (unpacks ? size * UNPACKED : 0);
    }, 0),
  );
}
