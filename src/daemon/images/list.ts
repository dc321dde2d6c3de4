import type { ImageSummary } from '../../protocol/engine.ts';
import type { Filters } from './filters.ts';
import { imageIdentity } from './identity.ts';
import { imageFilter } from './image-filter.ts';
import { manifestSummaries } from './manifest-summary.ts';
import type { ListedImage } from './listing.ts';
import { repoDigests, repoTags } from './name.ts';
import type { ImageStore } from './store.ts';

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
  const select = imageFilter(store, filters, options);
  const shared = options.sharedSize === true ? store.sharedSizes() : undefined;
  const listed: { readonly summary: ListedSummary; readonly image: ListedImage }[] = [];
  for (const image of store.listing()) {
    const names = select(image);
    if (names === undefined) continue;
    const summary: ListedSummary = {
      Id: image.id,
      ParentId: image.parent ?? '',
      RepoTags: names === image.names ? [...image.tags] : repoTags(names),
      RepoDigests: names === image.names ? [...image.digests] : repoDigests(names),
      Created: image.createdSeconds,
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
  return listed.map(({ summary }) => summary);
}
