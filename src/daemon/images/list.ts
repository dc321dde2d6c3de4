import type { ImageSummary } from '../../protocol/engine.ts';
import { booleanFilter, filterValues, matchesLabels, type Filters } from './filters.ts';
import { Glob } from './glob.ts';
import { imageIdentity } from './identity.ts';
import { manifestSummaries } from './manifest-summary.ts';
import { familiarName, familiarString } from '../../protocol/reference.ts';
import type { ListedImage } from './listing.ts';
import { sharedSizes } from './sizes.ts';
import { repoDigests, repoTags, type ImageName } from './name.ts';
import type { ImageStore } from './store.ts';
import { parseDate, parseTime, unixSeconds } from '../../protocol/time.ts';

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

export interface ListOptions {
  /** Whether to list images too that have no name and are there for those that were made on top of them. */
  readonly all?: boolean;
  readonly filters?: Filters | undefined;
  /** Whether to count what other images hold too. */
  readonly sharedSize?: boolean;
  /** Whether to list the manifests of each image's index. */
  readonly manifests?: boolean;
  /** Whether to say of each of those manifests where the image came from. */
  readonly identity?: boolean;
}

/** An image as it is listed. Where its config does not say when it was made, versions of the API differ in how. */
export type ListedSummary = Omit<ImageSummary, 'Created'> & { readonly Created: number | undefined };

/** Images, newest first, those without a name too. Throws `invalid` for a filter's value that makes no sense. */
export async function listImages(store: ImageStore, options: ListOptions = {}): Promise<ListedSummary[]> {
  const { filters = new Map<string, string[]>() } = options;
  const select = selection(store, filters, options.all === true);
  const shared = options.sharedSize === true ? sharedSizes(store.db) : undefined;
  const listed: { readonly summary: ListedSummary; readonly image: ListedImage }[] = [];
  for (const image of store.listing()) {
    const names = select(image);
    if (names === undefined) continue;
    const summary: ListedSummary = {
      Id: image.id,
      ParentId: image.parent ?? '',
      RepoTags: repoTags(names),
      RepoDigests: repoDigests(names),
      Created: unixSeconds(image.created),
      Size: image.size,
      SharedSize: shared === undefined ? -1 : (shared.get(image.id) ?? 0),
      Labels: image.labels,
      Containers: -1,
      Descriptor: { mediaType: image.mediaType, digest: image.target, size: image.bytes },
    };
    listed.push({ summary, image });
  }
  if (options.manifests === true) {
    for (const { summary, image } of listed) {
      const identity = options.identity === true ? imageIdentity(image.names) : undefined;
      summary.Manifests = await manifestSummaries(store, { ...image, listedId: image.id }, identity);
    }
  }
  return listed.map(({ summary }) => summary).sort((one, other) => (other.Created ?? 0) - (one.Created ?? 0));
}

/** Compiles filters into what says whether an image is listed, and by which of its names; undefined where it is not. */
function selection(
  store: ImageStore,
  filters: Filters,
  all: boolean,
): (image: ListedImage) => readonly ImageName[] | undefined {
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
