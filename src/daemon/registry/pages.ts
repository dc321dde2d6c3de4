import { LayerdError } from '../../protocol/errors.ts';
import { describeUrl, header, type HttpResponse } from './http.ts';
import { nextLink } from './link.ts';

/** One page of a list, and where the next one is. */
export interface Page<T> {
  readonly items: readonly T[];
  /** The query of the next page, with its `?`; undefined on the last one. */
  readonly next: string | undefined;
}

/**
 * The query of the next page of a list, whose path is given from the root. Only the query of the link is taken: a link to
 * another host, or to another path, would have us send the user's credentials there, or fetch what only the inside of our
 * network can reach.
 */
export function nextQuery(response: HttpResponse, path: string): string | undefined {
  const target = nextLink(header(response, 'link'));
  if (target === undefined) return undefined;
  const url = URL.parse(target, response.url);
  if (url === null || url.host !== response.url.host || !url.pathname.endsWith(path)) {
    throw new LayerdError('forbidden', `${describeUrl(response.url)} links to a next page outside of itself`);
  }
  return url.search;
}

/**
 * The items of a list, page by page as they are wanted. An endless chain of links must end: `onLimit` is told when there
 * are more than `limit` pages, and throws or leaves it at those.
 */
export async function* itemsOf<T>(
  first: Page<T>,
  get: (query: string) => Promise<Page<T>>,
  { limit, onLimit }: { limit: number; onLimit: () => void },
): AsyncGenerator<T, void, undefined> {
  let page = first;
  for (let count = 1; ; count += 1) {
    yield* page.items;
    if (page.next === undefined) return;
    if (count === limit) {
      onLimit();
      return;
    }
    page = await get(page.next);
  }
}

/** A JSON document as the object that it must be; undefined where it is none. */
export function parseObject(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
