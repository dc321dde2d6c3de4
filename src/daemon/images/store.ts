import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, Platform } from '../../protocol/oci.ts';
import type { Database } from '../metadata/database.ts';
import type { Image, StoredManifest } from './image.ts';

/** An image to be written, all of whose blobs and layers are committed. */
export interface NewImage {
  readonly target: Descriptor;
  readonly manifests: readonly StoredManifest[];
  /** Every blob the image holds: indexes, manifests, configs, layers. */
  readonly blobs: readonly Digest[];
  /** Canonical: `docker.io/library/redis`. */
  readonly repository: string;
  readonly tag?: string | undefined;
  /** Whether the repository is known to have the target under its digest: true for pulls. */
  readonly byDigest: boolean;
  /** Digest of the preferred manifest's config. */
  readonly imageId: Digest;
  /** The manifest preferred for this host. */
  readonly manifest: Digest;
}

/** An image as a name found it: `id` and `manifest` are those of the manifest that was asked for. */
export interface FoundImage extends Image {
  /** Whether the name was an identifier, or its start, rather than a reference. */
  readonly byId: boolean;
}

export class ImageStore {
  constructor(_options: {
    db: Database;
    readBlob: (digest: Digest) => Promise<Buffer>;
    host: Platform;
    now?: () => number;
    layerPath?: (diffId: Digest) => string;
  }) {
    throw new LayerdError('not-implemented', 'ImageStore');
  }

  put(_image: NewImage): { previous: Digest | undefined; changed: boolean } {
    throw new LayerdError('not-implemented', 'put');
  }

  resolve(_name: string, _platform?: Platform): FoundImage {
    throw new LayerdError('not-implemented', 'resolve');
  }
}
