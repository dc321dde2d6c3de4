import { ConnectionError } from './connection-error.ts';
import type { ExpiringMap } from './expiring-map.ts';
import type { HttpRequest, HttpResponse, Send } from './http.ts';
import type { Logger } from './registry.ts';

/**
 * Falls back to a request's alternative, the plain HTTP side of an insecure registry, when its https side does not
 * answer, and remembers which of them did, so that the next request does not pay for a TLS handshake that fails.
 */
export function withSchemeFallback(
  send: Send,
  { working, logger }: { working: ExpiringMap<'https' | 'http'>; logger: Logger },
): Send {
  const sendTo = async (request: HttpRequest, url: URL, scheme: 'https' | 'http'): Promise<HttpResponse> => {
    const { alternative: _, ...rest } = request;
    const response = await send({ ...rest, url });
    working.set(request.url.host, scheme);
    return response;
  };
  return async (request) => {
    const { url, alternative } = request;
    if (alternative === undefined) return send(request);
    const known = working.get(url.host);
    if (known === 'http') {
      try {
        return await sendTo(request, alternative, 'http');
      } catch (error) {
        // Perhaps it has been given a certificate meanwhile: the next try starts at https.
        working.delete(url.host);
        throw error;
      }
    }
    try {
      return await sendTo(request, url, 'https');
    } catch (error) {
      // Where https has just worked, whoever breaks it may want us to fall back: a downgrade attack.
      if (known === 'https' || !(error instanceof ConnectionError)) throw error;
      logger.debug('falling back to plain HTTP', { registry: url.host, reason: error.message });
      return sendTo(request, alternative, 'http');
    }
  };
}
