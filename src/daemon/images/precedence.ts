/**
 * How statements order rows of `image` that are one image to the user, so that the target which stands for it comes
 * first: one that a tag points to, then one that is known by a digest. What has lost its last name is no longer what
 * anybody asked for, however late it was stored.
 */
export const BEST_NAMED_FIRST = `EXISTS (SELECT 1 FROM tag WHERE tag.target = image.target) DESC,
  EXISTS (SELECT 1 FROM repo_digest WHERE repo_digest.target = image.target) DESC, image.stored_at DESC, image.target`;
