import { messageOf } from '../../protocol/errors.ts';
import type { Tracer } from '../tracing/tracer.ts';
import { describeUrl, type Send } from './http.ts';
import type { Logger } from './registry.ts';

/** What came of one attempt at a request to a remote host: until its headers, or until it failed. */
export interface Attempt {
  /** Host and port of what was asked. */
  readonly host: string;
  /** Undefined where no answer came. */
  readonly status: number | undefined;
  readonly seconds: number;
}

/** Is told of every attempt. */
export type ObserveAttempt = (attempt: Attempt) => void;

/** Tells of every attempt, the log and the trace in full. Each hop of a redirect and each retry is one of its own. */
export function withAttempts(
  send: Send,
  { logger, observe, tracer }: { logger: Logger; observe: ObserveAttempt; tracer: Tracer },
): Send {
  return async (request) => {
    const { method, url } = request;
    const began = performance.now();
    const tell = (status: number | undefined, reason: string | undefined): void => {
      const milliseconds = performance.now() - began;
      observe({ host: url.host, status, seconds: milliseconds / 1000 });
      tracer.current.event('attempt', {
        'http.request.method': method,
        'url.full': describeUrl(url),
        'http.response.status_code': status,
        'layerd.duration': milliseconds / 1000,
        'exception.message': reason,
      });
      logger.debug('asked a registry', {
        method,
        url: describeUrl(url),
        status,
        milliseconds: Math.round(milliseconds),
        reason,
      });
    };
    try {
      const response = await send(request);
      tell(response.status, undefined);
      return response;
    } catch (error) {
      tell(undefined, messageOf(error));
      throw error;
    }
  };
}
