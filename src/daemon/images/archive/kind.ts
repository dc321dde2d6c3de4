import { MAX_DOCUMENT_BYTES } from '../../../protocol/oci.ts';
import { compressionOf } from './decompress.ts';

/** A tar's unit, and with it what has to be seen of a file to tell what it is. */
export const BLOCK_BYTES = 512;
/** Where a tar header has its checksum, and how long that is (POSIX ustar). */
const CHECKSUM_AT = 148;
const CHECKSUM_LENGTH = 8;

/**
 * What a file of an archive seems to be by its first block and its size in bytes: an archive names its layers only after
 * they have passed, if at all. A layer is a tar, compressed or not; a document is JSON.
 */
export function kindOf(head: Uint8Array, size: number): 'layer' | 'document' | 'other' {
  const block = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, BLOCK_BYTES));
  if (isTarHeader(block) || compressionOf(block) !== 'none') return 'layer';
  return size <= MAX_DOCUMENT_BYTES && /^\s*[{[]/.test(block.toString('latin1')) ? 'document' : 'other';
}

/** Whether the block has a header's checksum, or is all zeros, as in a tar of nothing. */
function isTarHeader(block: Buffer): boolean {
  if (block.length < BLOCK_BYTES) return false;
  let sum = 0;
  for (const byte of block) sum += byte;
  if (sum === 0) return true;
  const field = block.subarray(CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_LENGTH);
  // Its own field counts as spaces.
  for (const byte of field) sum += 0x20 - byte;
  return parseInt(field.toString('latin1').replace(/^[\0 ]+/, ''), 8) === sum;
}
