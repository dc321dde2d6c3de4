import type { Digest } from '../../protocol/digest.ts';

/**
 * A blob: immutable bytes named by their digest, a file `blobs/sha256/<hex>` under the data root and a row in the
 * metadata. Its life:
 *
 * 1. An *ingest* gathers its bytes in `ingest/<hex>`. Until it is committed nothing of it is visible under the digest.
 *    An ingest that stops halfway stays, and the next one of the same digest goes on where it ended.
 * 2. *Commit* checks size and digest, renames the file into place and writes the row, in this order, so that a crash
 *    between any two leaves either an ingest or a file without a row, which the next start sweeps.
 * 3. It stays while an image holds it or a lease names it; *garbage collection* removes the row first, then the file.
 */
export interface Blob {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}
