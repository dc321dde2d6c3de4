import { noTracer, type Span, type Tracer } from '../tracing/tracer.ts';
import type { Call } from './call.ts';

/** What clients and monitoring ask all the time, and nobody looks for in a trace. */
const UNTRACED = /^\/(_ping|metrics|(livez|readyz)(\/.*)?)(\?|$)/;

/** Begins the span of a request, which is part of its client's trace if that sends one. `path`: without a version. */
export function beginSpan({ id, request }: Call, path: string, tracer: Tracer): Span {
  const { method, headers, httpVersion } = request;
  const { traceparent, tracestate } = headers;
  const question = request.originalUrl.indexOf('?');
  return (UNTRACED.test(path) ? noTracer : tracer).begin(method, {
    kind: 'server',
    attributes: {
      'http.request.method': method,
      // Never the query: a URL in it that an import is told to fetch may be signed.
      'url.path': question === -1 ? request.originalUrl : request.originalUrl.slice(0, question),
      'url.scheme': request.secure ? 'https' : 'http',
      'network.protocol.version': httpVersion,
      'user_agent.original': headers['user-agent'],
      'layerd.request': id,
    },
    caller: { traceparent: onlyText(traceparent), tracestate: onlyText(tracestate) },
  });
}

/** Ends it when the answer is complete, or the connection gone. `route`: its template, or `none`. */
export function endSpan(span: Span, { request, response }: Call, route: string): void {
  const { statusCode } = response;
  if (route !== 'none') {
    span.rename(`${request.method} ${route}`);
    span.set({ 'http.route': route });
  }
  span.set({ 'http.response.status_code': statusCode, 'layerd.response.complete': response.writableFinished });
  if (statusCode >= 500) span.fail(`status ${statusCode}`, `${statusCode}`);
  span.end();
}

/** Repeated ones are none: which of them counts would be anybody's guess. */
const onlyText = (value: string | string[] | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;
