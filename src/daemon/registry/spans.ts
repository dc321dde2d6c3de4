import type { Tracer } from '../tracing/tracer.ts';
import { describeUrl, type HttpRequest, type Send } from './http.ts';

/** The parts of a registry's API whose paths end with a name. */
const NAMED: Readonly<Record<string, string>> = {
  manifests: 'manifests/{reference}',
  'blobs/uploads/': 'blobs/uploads/',
  'blobs/uploads': 'blobs/uploads/{session}',
  blobs: 'blobs/{digest}',
  referrers: 'referrers/{digest}',
  'tags/list': 'tags/list',
};

/**
 * Puts each request into a span of its own, until its headers, or the whole document, are here. Attempts at it, redirects
 * among them, are its events.
 *
 * The trace is told to nobody unless the administrator wants it, and then has spans a `traceparent`: to a registry on the Internet it would say
 * which requests of which hosts belong together. Then it is told to the registry alone, never to where that sends us on to.
 */
export function withSpans(send: Send, tracer: Tracer): Send {
  return (request) => {
    const { method, url } = request;
    const template = templateOf(url);
    const attributes = {
      'http.request.method': method,
      'url.full': describeUrl(url),
      'url.template': template,
      'server.address': url.hostname,
      'server.port': Number(url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port),
    };
    const span = tracer.begin(template === undefined ? method : `${method} ${template}`, {
      kind: 'client',
      attributes,
    });
    return span.within(async () => {
      try {
        const { traceparent } = span;
        const response = await send(traceparent === undefined ? request : told(request, traceparent));
        const { status } = response;
        span.set({ 'http.response.status_code': status });
        // A challenge is how a registry asks for a token, and that something is missing may be what was to be found out.
        if (status >= 400 && status !== 401 && status !== 404) span.fail(`status ${status}`, `${status}`);
        return response;
      } catch (error) {
        span.fail(error);
        throw error;
      } finally {
        span.end();
      }
    });
  };
}

function told(request: HttpRequest, traceparent: string): HttpRequest {
  const { host } = request.url;
  const headersFor: HttpRequest['headersFor'] = (url) => ({
    ...request.headersFor?.(url),
    ...(url.host === host ? { traceparent } : {}),
  });
  return { ...request, headersFor };
}

/** The path of a request to a registry's API without the names in it; undefined for other hosts. */
function templateOf({ pathname }: URL): string | undefined {
  if (pathname === '/v2/') return pathname;
  const [, part = ''] =
    /^\/v2\/.+\/(manifests|blobs\/uploads\/$|blobs\/uploads|blobs|referrers|tags\/list)(?:\/[^/]+)?$/.exec(pathname) ??
    [];
  return NAMED[part] === undefined ? undefined : `/v2/{name}/${NAMED[part]}`;
}
