import type { Digest } from '../../protocol/digest.ts';
import type { Reference } from '../../protocol/reference.ts';
import type { ImageHolds } from './holds.ts';

/** What holds images more exactly than as a whole: the name that they go by, and the manifest of one platform. */
export interface ImagePins extends ImageHolds {
  /** Who goes by the name, which has a tag or a digest. */
  holdersOfName(reference: Reference): readonly string[];
  /** Who needs the manifest of a single platform. */
  holdersOfManifest(manifest: Digest): readonly string[];
}
