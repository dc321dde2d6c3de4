import { LayerdError } from '../../protocol/errors.ts';
import { familiarName, isDockerHub, type Endpoint } from './endpoints.ts';
import type { Exchange, RegistryCall } from './exchange.ts';
import { describeUrl, readBody, type HttpResponse } from './http.ts';
import { itemsOf, nextQuery, parseObject, type Page } from './pages.ts';
import { describeReason, reasonOf } from './reason.ts';
import { isRepositoryPath, type FoundRepository, type Logger, type RequestOptions } from './registry.ts';

/** Bytes of an answer: 4 MiB. */
const MAX_BYTES = 4 * 1024 * 1024;
/** Repositories of a catalog that are asked for at a time; registries may refuse to give more. */
const CATALOG_PAGE = 100;
/** Pages of a catalog that are looked through. */
const MAX_CATALOG_PAGES = 100;
const CATALOG = '/v2/_catalog';

export interface SearchOptions extends RequestOptions {
  readonly registry: string;
  /** What to look for; empty for all there is. */
  readonly term: string;
  /** Results at most. */
  readonly limit: number;
  readonly logger: Logger;
}

/**
 * Searches a registry: by the search of the first version of the API, which Docker Hub still has and answers by its own
 * notion of what fits, else through the catalog of repositories (distribution project, "Listing Repositories") for those
 * that have the term in their path.
 */
export async function search(
  exchange: Exchange,
  endpoint: Endpoint,
  options: SearchOptions,
): Promise<FoundRepository[]> {
  const response = await exchange(endpoint, {
    ...callFor(options),
    path: `/v1/search?${new URLSearchParams({ q: options.term, n: String(options.limit) }).toString()}`,
    scopes: ['registry:catalog:search'],
  });
  const found = response.status === 200 ? parseResults(await read(response), options) : undefined;
  if (found !== undefined) return found.slice(0, options.limit);
  if (isDockerHub(options.registry) || response.status === 429) throw await searchRefusal(response, options);
  await response.discard();
  return searchCatalog(exchange, endpoint, options);
}

async function searchCatalog(
  exchange: Exchange,
  endpoint: Endpoint,
  options: SearchOptions,
): Promise<FoundRepository[]> {
  const { registry, term, limit, logger } = options;
  const get = async (query: string): Promise<Page<string>> => {
    const call: RegistryCall = { ...callFor(options), path: CATALOG + query, scopes: ['registry:catalog:*'] };
    const response = await exchange(endpoint, call);
    if (response.status !== 200) throw await searchRefusal(response, options);
    const repositories = parseObject(await read(response))?.['repositories'] ?? [];
    if (!Array.isArray(repositories)) {
      throw new LayerdError('corrupt', `${describeUrl(response.url)} answered without a list of repositories`);
    }
    return { items: repositories.filter(isName), next: nextQuery(response, CATALOG) };
  };
  const onLimit = (): void =>
    logger.warn('a catalog was searched in part', { registry, repositories: CATALOG_PAGE * MAX_CATALOG_PAGES });
  const found: FoundRepository[] = [];
  const first = await get(`?n=${CATALOG_PAGE}`);
  for await (const path of itemsOf(first, get, { limit: MAX_CATALOG_PAGES, onLimit })) {
    if (!path.includes(term.toLowerCase())) continue;
    found.push({ name: familiarName({ registry, path }), description: '', official: false, stars: 0 });
    if (found.length === limit) break;
  }
  return found;
}

function callFor({ credentials, signal }: SearchOptions): Omit<RegistryCall, 'path' | 'scopes'> {
  return {
    method: 'GET',
    headers: { accept: 'application/json' },
    document: { what: 'a search', limit: MAX_BYTES },
    credentials,
    signal,
  };
}

const isName = (value: unknown): value is string => typeof value === 'string' && isRepositoryPath(value);

const read = (response: HttpResponse): Promise<Buffer> => readBody(response, MAX_BYTES, 'a search');

/** The results of an answer; undefined where it has none, such as a page for browsers. */
function parseResults(bytes: Buffer, { registry }: SearchOptions): FoundRepository[] | undefined {
  const results = parseObject(bytes)?.['results'];
  if (!Array.isArray(results)) return undefined;
  return results.flatMap((result: unknown) => {
    if (typeof result !== 'object' || result === null) return [];
    const { name, description, is_official: official, star_count: stars } = result as Record<string, unknown>;
    if (typeof name !== 'string' || name === '') return [];
    return {
      name: isDockerHub(registry) || name.startsWith(`${registry}/`) ? name : `${registry}/${name}`,
      description: typeof description === 'string' ? description : '',
      official: official === true,
      stars: typeof stars === 'number' && Number.isSafeInteger(stars) ? stars : 0,
    };
  });
}

async function searchRefusal(response: HttpResponse, { registry }: SearchOptions): Promise<LayerdError> {
  const { status } = response;
  const text = describeReason(await reasonOf(response));
  const said = `${registry} cannot be searched: ${describeUrl(response.url)} answered with status ${status}: ${text}`;
  if (status === 401) return new LayerdError('unauthorized', `${said}; see 'docker login'`);
  if (status === 403) return new LayerdError('forbidden', said);
  if (status === 429) return new LayerdError('too-many-requests', said);
  if (status === 404) return new LayerdError('not-found', `${said}; it has neither a search nor a catalog`);
  return new LayerdError('unavailable', said);
}
