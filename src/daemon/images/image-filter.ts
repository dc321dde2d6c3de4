import { parseDate, parseTime } from '../../protocol/time.ts';
import { familiarName, familiarString } from '../../protocol/reference.ts';
import { booleanFilter, filterValues, matchesLabels, type Filters } from './filters.ts';
import { Glob } from './glob.ts';
import type { ListedImage } from './listing.ts';
import type { ImageName } from './name.ts';
import type { ImageStore } from './store.ts';

/** The filters that a list of images knows; the query parameter is parsed with these. */
export const IMAGE_FILTERS: readonly string[] = [
  'dangling',
  'label',
  'label!',
  'before',
  'since',
  'reference',
  'until',
];

/** Those that a prune knows. */
export const PRUNE_FILTERS: readonly string[] = ['dangling', 'label', 'label!', 'until'];

/** Says by which of its names an image is meant; undefined where it is not. */
export type ImageFilter = (image: ListedImage) => readonly ImageName[] | undefined;

/** Compiles filters. Throws `invalid` for a value that makes no sense, `not-found` for an image that there is not. */
export function imageFilter(
  store: ImageStore,
  filters: Filters,
  /** `all`: with images that have no name and are there for those that were made on top of them. */
  { all = false }: { readonly all?: boolean } = {},
): ImageFilter {
  const dangling = booleanFilter(filters, 'dangling');
  const globs = filterValues(filters, 'reference').map((pattern) => new Glob(literalHost(pattern)));
  const hasReference = filters.has('reference');
  // Several values must all hold, so the earliest bound counts above and the latest below.
  const createdOf = (name: string): bigint => timeOf(createdAt(store, name)) ?? 0n;
  const befores = [
    ...filterValues(filters, 'before').map(createdOf),
    ...filterValues(filters, 'until').map((text) => parseTime(text, store.now())),
  ];
  const sinces = filterValues(filters, 'since').map(createdOf);
  return ({ created, labels, names, hasChildren }) => {
    // It is a step of others, and no leftover.
    if (names.length === 0 && hasChildren && (!all || dangling === true)) return undefined;
    if (befores.length > 0 || sinces.length > 0) {
      const time = timeOf(created);
      if (time === undefined) return undefined;
      if (befores.some((before) => time >= before) || sinces.some((since) => time <= since)) return undefined;
    }
    if (!matchesLabels(filters, labels)) return undefined;
    const selected = hasReference ? names.filter((name) => globs.some((glob) => isNamedLike(name, glob))) : names;
    if (hasReference && selected.length === 0) return undefined;
    // An image that only its digest names is dangling, yet is listed among those that are not.
    if (dangling === true && selected.some(({ reference }) => reference.tag !== undefined)) return undefined;
    if (dangling === false && selected.length === 0) return undefined;
    return selected;
  };
}

/** When the image was made by which a filter sets a bound. */
function createdAt(store: ImageStore, name: string): string | undefined {
  const { target, manifest } = store.resolve(name);
  return store.manifests(target).find(({ digest }) => digest === manifest)?.created;
}

const timeOf = (created: string | undefined): bigint | undefined =>
  created === undefined ? undefined : parseDate(created);

/** An IPv6 address in brackets, as the host of a name; a class with a colon in it would stand for no name. */
const IPV6_HOST = /^\[([0-9a-f.]*:[0-9a-f:.]*)\](?=[:/])/i;

/** The pattern with an IPv6 address at its beginning taken as it is, and not as a class of characters. */
const literalHost = (pattern: string): string => pattern.replace(IPV6_HOST, String.raw`\[$1\]`);

/** Whether a pattern stands for a name as people write it, with its tag or digest or without. */
function isNamedLike({ reference }: ImageName, glob: Glob): boolean {
  return glob.matches(familiarString(reference)) || glob.matches(familiarName(reference));
}
