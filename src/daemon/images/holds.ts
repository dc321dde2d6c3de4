import type { Digest } from '../../protocol/digest.ts';

/** What keeps an image from being removed unless somebody insists: a pinned image set, say. */
export interface ImageHolds {
  /** Who holds the image, in words that a message can name, such as `image set base`; empty where nobody does. */
  holders(listedId: Digest): readonly string[];
}
