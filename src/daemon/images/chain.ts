import type { Digest } from '../../protocol/digest.ts';
import { digestOf } from '../../protocol/sha256.ts';

/**
 * The chain IDs of a stack of layers, bottom first: the first is its diff ID, each further one the digest of
 * `<chain ID below> <diff ID>` (OCI image config spec, "Layer ChainID").
 */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}
