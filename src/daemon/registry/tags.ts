import { LayerdError } from '../../protocol/errors.ts';
import type { Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import { describeUrl, header, readBody, type HttpResponse } from './http.ts';
import { nextLink } from './link.ts';
import { refusal } from './reason.ts';
import type { Repository, RequestOptions } from './registry.ts';

/** Tags that are asked for at a time. */
const PAGE_SIZE = 1000;
/** Pages of one repository: an endless chain of links must end. */
export const MAX_TAG_PAGES = 1000;
/** Bytes of a page: 4 MiB. Registries without pages send all tags in one. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** The grammar of distribution/reference. */
const TAG = /^\w[\w.-]{0,127}$/;

/** One page of tags, and where the next one is. */
export interface TagPage {
  readonly tags: readonly string[];
  /** Below `/v2/<repository>/`; undefined on the last page. */
  readonly next: string | undefined;
}

/** The path of the first page. */
export const FIRST_PAGE = `tags/list?n=${PAGE_SIZE}`;

/** Gets one page of a repository's tags from one endpoint (OCI distribution spec, "Listing Tags"). */
export async function getTagPage(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  path: string,
  options: RequestOptions,
): Promise<TagPage> {
  const call: Call = {
    method: 'GET',
    repository,
    path,
    headers: { accept: 'application/json' },
    document: { what: 'a list of tags', limit: MAX_PAGE_BYTES },
    credentials: options.credentials,
    signal: options.signal,
  };
  const response = await exchange(endpoint, call);
  if (response.status !== 200) throw await refusal(response, subjectOf(endpoint, call, 'tags', ''));
  const tags = parseTags(await readBody(response, MAX_PAGE_BYTES, 'a list of tags'), response);
  return { tags, next: nextPath(response, repository) };
}

/**
 * Where the next page is. Only the query of the link is taken: a link to another host, or to another repository, would
 * have us send the user's credentials there, or fetch what only the inside of our network can reach.
 */
function nextPath(response: HttpResponse, repository: Repository): string | undefined {
  const target = nextLink(header(response, 'link'));
  if (target === undefined) return undefined;
  const url = URL.parse(target, response.url);
  if (url === null || url.host !== response.url.host || !url.pathname.endsWith(`/v2/${repository.path}/tags/list`)) {
    throw new LayerdError('forbidden', `${describeUrl(response.url)} links to a next page outside of itself`);
  }
  return `tags/list${url.search}`;
}

function parseTags(bytes: Buffer, response: HttpResponse): string[] {
  const malformed = (): LayerdError =>
    new LayerdError('corrupt', `${describeUrl(response.url)} answered without a list of tags`);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch {
    throw malformed();
  }
  if (typeof value !== 'object' || value === null || !('tags' in value)) throw malformed();
  // Go writes an empty list as null.
  const tags = value.tags ?? [];
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === 'string' && TAG.test(tag))) throw malformed();
  return tags as string[];
}
