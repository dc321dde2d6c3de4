import { hexOf, type Digest } from '../../../protocol/digest.ts';
import { LayerdError } from '../../../protocol/errors.ts';

/**
 * An archive: images in one tar, as `docker save` writes it, as an OCI image layout (OCI image layout spec), or as both at
 * once, which is what layerd writes. The life of one that is loaded:
 *
 * 1. Its tar is read as it arrives, once. Each file goes to where it stays, under its digest: layers through an unpacking,
 *    as when they are pulled. Which of them are needed is only known at the end, since either list of contents may come
 *    last. A lease names all of them.
 * 2. The list of contents is read: `index.json`, else `manifest.json`. Every image that it names must be complete, and its
 *    config must list the diff IDs of its layers.
 * 3. One transaction makes all images visible, with their tags and events, and ends the lease. What no image needs goes.
 *
 * Anything wrong before the third step leaves the store as it was.
 */
export const Member = {
  /** Says that the tar is an OCI image layout. */
  layout: 'oci-layout',
  /** The list of contents of an OCI image layout. */
  index: 'index.json',
  /** The list of contents of docker's own format. */
  manifest: 'manifest.json',
  /** Names by repository and tag; the list of contents before docker 1.10. */
  repositories: 'repositories',
} as const;

/** The folder of an OCI image layout that has its blobs, by algorithm. */
export const BLOBS = 'blobs/';
const SHA256 = `${BLOBS}sha256/`;

/** Where an OCI image layout has a blob. */
export const blobPath = (digest: Digest): string => SHA256 + hexOf(digest);

/** The digest that a path in an archive claims for its file; undefined for a file of any other name. */
export function claimedDigest(path: string): Digest | undefined {
  const hex = path.startsWith(SHA256) ? path.slice(SHA256.length) : '';
  return /^[a-f0-9]{64}$/.test(hex) ? `sha256:${hex}` : undefined;
}

/** What is said of an archive that cannot be loaded. */
export function unusable(why: string, cause?: unknown): LayerdError {
  return new LayerdError('invalid', `cannot load the archive: ${why}`, cause === undefined ? undefined : { cause });
}
