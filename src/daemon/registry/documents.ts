import { ConnectionError } from './connection-error.ts';
import { readBody, type Send } from './http.ts';

/** A document, headers to end, may take this long: 60 s, in milliseconds. A drip that never stalls must end as well. */
export const DOCUMENT_TIMEOUT = 60_000;

/**
 * Reads the body of a request for a document to its end, so that a connection that breaks in the middle is retried like
 * one that breaks before. What is larger than the request's limit is not read at all.
 */
export function withDocuments(send: Send, timeout: number): Send {
  return async (request) => {
    if (request.document === undefined) return send(request);
    const { limit, what } = request.document;
    const deadline = new AbortController();
    const signals = [deadline.signal, ...(request.signal === undefined ? [] : [request.signal])];
    const response = await send({ ...request, signal: AbortSignal.any(signals) });
    if (response.status !== 200) return response;
    const timer = setTimeout(() => {
      const message = `${what} from ${response.url.host} did not come within ${timeout / 1000} s`;
      deadline.abort(new ConnectionError(message, { transient: true }));
    }, timeout);
    try {
      const bytes = await readBody(response, limit, what);
      return { ...response, body: once(bytes), discard: () => Promise.resolve() };
    } finally {
      clearTimeout(timer);
    }
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}
