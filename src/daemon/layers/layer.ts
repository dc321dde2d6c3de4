import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';

/**
 * A layer's file tree as one EROFS image, `layers/sha256/<hex of the diff ID>.erofs` under the data root, mountable
 * read-only. Its life:
 *
 * 1. *Unpacking*: while the layer blob streams by, its tar is turned into an EROFS image in a temporary file: file data
 *    first, metadata at the end, the superblock last, so that a half-written one can never be mounted.
 * 2. *Commit*: once the diff ID is known and right, the file is renamed into place and its row written.
 * 3. It stays while an image's manifest lists its diff ID or a lease names it, shared by all images that have it.
 */
export interface Layer {
  /** Digest of the uncompressed tar. */
  readonly diffId: Digest;
  /** Bytes of the uncompressed tar. */
  readonly size: number;
  /** Bytes of the EROFS image. */
  readonly imageSize: number;
  /**
   * Bytes of the files in it, each inode once: contents, and targets of symbolic links. It is what `docker history` shows
   * of a layer. Undefined for one that was stored before this was counted.
   */
  readonly fileBytes: number | undefined;
}

/** What one pass over a layer blob learned about it. */
export interface UnpackedLayer extends Layer {
  /** Digest of the blob as transferred. */
  readonly digest: Digest;
  /** Bytes of the blob as transferred. */
  readonly blobSize: number;
}

/** How far an unpacking has come. */
export interface UnpackProgress {
  /** Bytes of the blob that have passed through. */
  readonly consumed: number;
}

/** One pass over a layer blob: bytes in, the blob's file and the EROFS image out, both digests checked on the way. */
export interface Unpacking {
  /**
   * Gives the next bytes of the blob. Resolves when there is room for more, which is how a fast registry is slowed to
   * what the disk and the CPU can take. Rejects when the unpacking has failed.
   */
  write(chunk: Uint8Array): Promise<void>;
  /** Says that all bytes were given, and waits for the result. Neither file is visible yet under its digest. */
  finish(): Promise<UnpackedLayer>;
  /** Gives up. What was written of the blob stays for a later resume; the unfinished EROFS image is removed. */
  abort(): Promise<void>;
}

/** What an unpacking works on. */
export interface UnpackRequest {
  /** The file that gathers the blob's bytes. Its first `resumeAt` bytes are there already and are read again first. */
  readonly blobPath: string;
  readonly resumeAt: number;
  /** Where the EROFS image is written. */
  readonly imagePath: string;
  /** What the blob has to be. What is not known of one that a client sends, or that an archive names otherwise, is found out. */
  readonly expected: { readonly digest?: Digest | undefined; readonly size?: number | undefined };
  onProgress?(progress: UnpackProgress): void;
}

/**
 * What is said of a blob that has the right digest and yet is no layer. Not `corrupt`, which removes the blob: something
 * else may rightly hold the same bytes, and fetching them again is no use.
 */
export const asPublished = (digest: Digest | undefined, reason: string): LayerdError =>
  new LayerdError(
    'invalid',
    digest === undefined ? `what came is no layer: ${reason}` : `blob ${digest} is as it was published, but ${reason}`,
  );

/** What a blob is called of which perhaps not even the digest is known yet. */
export const nameOf = (digest: Digest | undefined): string => digest ?? 'a layer that a client sends';
