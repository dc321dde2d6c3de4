/**
 * A content identifier, `sha256:<64 lowercase hex digits>` (OCI image spec, "Digests"). The store speaks SHA-256 alone;
 * a digest in another algorithm is refused where it enters.
 */
export type Digest = `sha256:${string}`;

const DIGEST = /^sha256:[a-f0-9]{64}$/;

/** Whether the text is a complete SHA-256 digest. */
export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && DIGEST.test(text);
}

/** The hex digits of a digest, which are also the name of its file. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** The first twelve hex digits, as clients show an identifier. */
export function shortId(digest: Digest): string {
  return hexOf(digest).slice(0, 12);
}
