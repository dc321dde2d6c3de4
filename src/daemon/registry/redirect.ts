import { LayerdError } from '../../protocol/errors.ts';
import { describeUrl, header, type HttpRequest, type HttpResponse, type Send } from './http.ts';
import type { Logger } from './registry.ts';

/** As many as Go's HTTP client follows. */
export const MAX_REDIRECTS = 10;

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

const READS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * Follows redirects, which registries use to have blobs served from elsewhere. Every hop is chosen by the one before, so
 * each is checked. Only what is read is redirected: what is sent holds credentials, or goes where it was meant to go.
 */
export function withRedirects(send: Send, { logger }: { logger: Logger }): Send {
  return async (request) => {
    let hop = request;
    for (let redirects = 0; ; redirects += 1) {
      const response = await send(hop);
      if (!REDIRECTS.has(response.status) || !READS.has(request.method)) return response;
      await response.discard();
      if (redirects === MAX_REDIRECTS) {
        throw new LayerdError(
          'unavailable',
          `${describeUrl(request.url)} was redirected more than ${MAX_REDIRECTS} times`,
        );
      }
      const target = targetOf(response);
      refuseDowngrade(request, response.url, target);
      logger.debug('following a redirect', { from: describeUrl(response.url), to: describeUrl(target) });
      hop = {
        ...hop,
        url: target,
        alternative: undefined,
        headers: dropCredentials(hop.headers, response.url, target),
        reach: keepOutOfOurNetwork(hop, response),
      };
    }
  };
}

function targetOf(response: HttpResponse): URL {
  const from = describeUrl(response.url);
  const location = header(response, 'location');
  const target = location === undefined ? null : URL.parse(location, response.url);
  if (target === null || (target.protocol !== 'https:' && target.protocol !== 'http:')) {
    throw new LayerdError('unavailable', `${from} redirects to what is no URL of a registry`);
  }
  // User names in a URL are credentials of the redirecting host's choosing.
  target.username = '';
  target.password = '';
  target.hash = '';
  return target;
}

/**
 * Answers the theft of credentials: whoever can make a registry redirect, or serves its blobs, would be handed the
 * user's password or token. What is meant for one origin stays there; once dropped it does not come back either.
 */
function dropCredentials(headers: HttpRequest['headers'], from: URL, to: URL): HttpRequest['headers'] {
  if (from.origin === to.origin) return headers;
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !['authorization', 'cookie'].includes(name.toLowerCase())),
  );
}

/** Answers a downgrade: bytes that were asked for over TLS must not come over a wire that anybody can write to. */
export function refuseDowngrade(request: Pick<HttpRequest, 'insecure'>, from: URL, to: URL): void {
  if (to.protocol === 'https:' || request.insecure) return;
  throw new LayerdError(
    'forbidden',
    `${describeUrl(from)} sends us to plain HTTP on ${to.host}; it would have to be in insecure-registries`,
  );
}

/**
 * Answers server-side request forgery: a public registry, or one that was taken over, redirects to
 * http://169.254.169.254/ or to localhost and has the daemon send what only the inside of a network can reach. What a
 * public host names must be public, for the rest of the way; the transport sees to it when it connects, so that a name
 * which resolves to a private address is caught as well. A registry that is inside itself may name its neighbours.
 */
function keepOutOfOurNetwork(hop: HttpRequest, response: HttpResponse): HttpRequest['reach'] {
  return response.public ? 'public' : hop.reach;
}
