import type { Digest } from '../../protocol/digest.ts';
import type { Platform } from '../../protocol/oci.ts';

/**
 * An image: a target (an index or a manifest) with at least one manifest completely stored. Its life:
 *
 * 1. A pull holds a lease on all it needs, fetches what is missing, and when every blob and layer is committed writes
 *    the image, its tag and the event in one transaction. Before that it is not listed at all.
 * 2. *Names* (tags and digests in repositories) point to it. A tag that moves on leaves it *dangling*: still there.
 * 3. Removal takes names away; with the last one goes the image, and with it whatever no other image or lease holds.
 */
export interface Image {
  /** Digest of the index or manifest that names point to. */
  readonly target: Digest;
  readonly mediaType: string;
  /** Bytes of the target itself. */
  readonly bytes: number;
  /** Digest of the config of the manifest chosen for this host: the image ID. */
  readonly id: Digest;
  /** That manifest. */
  readonly manifest: Digest;
}

/** A manifest of an image that is completely stored. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly kind: 'image' | 'attestation' | 'artifact';
  readonly configDigest: Digest;
  /** Bytes of its layers' EROFS images on the disk, each counted once. */
  readonly size: number;
  /** Bytes of the manifest, its config and its layer blobs, each counted once. */
  readonly contentSize: number;
  readonly platform: Platform | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** RFC 3339, from the config. */
  readonly created: string | undefined;
  readonly layers: readonly StoredLayer[];
}

/** A layer of a stored manifest, bottom first; diff ID and chain ID are unset for blobs that are not file trees. */
export interface StoredLayer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly diffId: Digest | undefined;
  readonly chainId: Digest | undefined;
}
