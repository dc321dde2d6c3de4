import type { Digest } from '../../protocol/digest.ts';
import { canonicalString, familiarString, splitCanonicalName, type Reference } from '../../protocol/reference.ts';

/** A name of an image: a tag, or its digest in a repository. */
export interface ImageName {
  readonly reference: Reference;
  readonly target: Digest;
  /** Unix milliseconds; for tags. */
  readonly taggedAt: number | undefined;
}

/** A name as the metadata has it. */
export interface NameRow {
  readonly repository: string;
  readonly tag: string | null;
  readonly target: Digest;
  readonly tagged_at: number | null;
}

/** In the order of the full references, which is dockerd's. */
export function toNames(rows: readonly NameRow[]): ImageName[] {
  return rows
    .map((row) => {
      const { registry, path } = splitCanonicalName(row.repository);
      const reference =
        row.tag === null
          ? { registry, path, tag: undefined, digest: row.target }
          : { registry, path, tag: row.tag, digest: undefined };
      const name = { reference, target: row.target, taggedAt: row.tagged_at ?? undefined };
      return { key: canonicalString(reference), name };
    })
    .toSorted((one, other) => (one.key < other.key ? -1 : one.key > other.key ? 1 : 0))
    .map(({ name }) => name);
}

/** The tags among the names, as people write them (`RepoTags`). */
export function repoTags(names: readonly ImageName[]): string[] {
  return names.flatMap(({ reference }) => (reference.tag === undefined ? [] : [familiarString(reference)]));
}

/** The digests among the names, as people write them (`RepoDigests`). */
export function repoDigests(names: readonly ImageName[]): string[] {
  return names.flatMap(({ reference }) => (reference.digest === undefined ? [] : [familiarString(reference)]));
}
