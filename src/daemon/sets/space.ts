import type { Digest } from '../../protocol/digest.ts';
import type { Survey } from '../images/pull.ts';

/**
 * Bytes of the EROFS image of a layer for each byte of its blob: about the mean of what was measured for programs, libraries
 * and modules (docs/decisions.md). What is known only once it is unpacked is reckoned here.
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
