import { LayerdError } from '../../protocol/errors.ts';
import type { Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import { describeUrl, readBody, type HttpResponse } from './http.ts';
import { nextQuery, parseObject, type Page } from './pages.ts';
import { refusal } from './reason.ts';
import type { Repository, RequestOptions } from './registry.ts';

/** The query of the first page: tags that are asked for at a time. */
export const FIRST_TAGS = '?n=1000';
/** Pages of one repository. */
export const MAX_TAG_PAGES = 1000;
/** Bytes of a page: 4 MiB. Registries without pages send all tags in one. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** The grammar of distribution/reference. */
const TAG = /^\w[\w.-]{0,127}$/;

/** Gets one page of a repository's tags from one endpoint (OCI distribution spec, "Listing Tags"). */
export async function getTags(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  query: string,
  options: RequestOptions,
): Promise<Page<string>> {
  const call: Call = {
    method: 'GET',
    repository,
    path: `tags/list${query}`,
    headers: { accept: 'application/json' },
    document: { what: 'a list of tags', limit: MAX_PAGE_BYTES },
    credentials: options.credentials,
    signal: options.signal,
  };
  const response = await exchange(endpoint, call);
  if (response.status !== 200) throw await refusal(response, subjectOf(endpoint, call, 'tags', ''));
  const items = parseTags(await readBody(response, MAX_PAGE_BYTES, 'a list of tags'), response);
  return { items, next: nextQuery(response, `/v2/${repository.path}/tags/list`) };
}

function parseTags(bytes: Buffer, response: HttpResponse): string[] {
  const list = parseObject(bytes);
  // Go writes an empty list as null.
  const tags = list === undefined || !('tags' in list) ? undefined : (list['tags'] ?? []);
  if (Array.isArray(tags) && tags.every((tag) => typeof tag === 'string' && TAG.test(tag))) return tags as string[];
  throw new LayerdError('corrupt', `${describeUrl(response.url)} answered without a list of tags`);
}
