import type { SearchResult } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Registries, RequestOptions } from '../registry/registry.ts';
import { booleanFilter, filterValues, type Filters } from './filters.ts';

export const SEARCH_FILTERS: readonly string[] = ['is-automated', 'is-official', 'stars'];

export interface SearchRequest extends RequestOptions {
  readonly registry: string;
  /** What to look for there; empty for all there is. */
  readonly term: string;
  /** Results at most, before they are filtered. */
  readonly limit: number;
  readonly filters: Filters;
}

/** Searches a registry for repositories. */
export async function searchImages(
  registries: Pick<Registries, 'search'>,
  { registry, term, filters, ...options }: SearchRequest,
): Promise<SearchResult[]> {
  const official = booleanFilter(filters, 'is-official');
  const automated = booleanFilter(filters, 'is-automated');
  const stars = Math.max(0, ...filterValues(filters, 'stars').map(starsOf));
  // Docker Hub has stopped saying which are; dockerd calls none so either.
  if (automated === true) return [];
  const found = await registries.search(registry, term, options);
  return found
    .filter((repository) => (official === undefined || repository.official === official) && repository.stars >= stars)
    .map((repository) => ({
      name: repository.name,
      description: repository.description,
      is_official: repository.official,
      is_automated: false,
      star_count: repository.stars,
    }));
}

function starsOf(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new LayerdError('invalid', `invalid filter 'stars=[${text}]': it is a number of stars`);
}
