import { createHash } from 'node:crypto';
import type { Digest } from './digest.ts';

/** The digest of bytes that are at hand whole; of a text, of its UTF-8. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
