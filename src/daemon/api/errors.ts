import { randomBytes } from 'node:crypto';
import type { ErrorRequestHandler } from 'express';
import { LayerdError, messageOf, type ErrorKind } from '../../protocol/errors.ts';
import type { Call } from './call.ts';
import type { Log } from './parts.ts';
import { JSON_ERRORS } from './versions.ts';

/** The status of each class of error: the only place where one becomes the other. */
const STATUS: Readonly<Record<ErrorKind, number>> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  'not-found': 404,
  conflict: 409,
  'too-many-requests': 429,
  // nginx's status of a client that went away; nobody is left to read it.
  cancelled: 499,
  internal: 500,
  corrupt: 500,
  'not-implemented': 501,
  unavailable: 503,
  'no-space': 507,
};

/** What a client is told of an error. */
export interface Failure {
  readonly status: number;
  readonly message: string;
}

/**
 * What a client is told of anything that was thrown. An error without a class is a defect of the daemon: its details go
 * to the log under the request's identifier, which is all that the client learns of it.
 */
export function failureOf(error: unknown, call: Pick<Call, 'id' | 'request' | 'signal'>, log: Log): Failure {
  if (call.signal.aborted) {
    // Whatever stopped for the client's sake says so in its own way; nobody is left to be told.
    log.debug('a client went away', { request: call.id, error: messageOf(error) });
    return { status: STATUS.cancelled, message: messageOf(error) };
  }
  if (error instanceof LayerdError && error.kind !== 'internal') {
    return { status: STATUS[error.kind], message: error.message };
  }
  const status = statusOfExpress(error);
  if (status !== undefined) return { status, message: `malformed request: ${messageOf(error)}` };
  log.error('a request failed for an internal reason', {
    request: call.id,
    method: call.request.method,
    url: call.request.originalUrl,
    error: error instanceof Error ? (error.stack ?? error.message) : String(error),
  });
  return {
    status: 500,
    message: `internal error while serving ${call.request.method} ${call.request.path}: the daemon's log has the details under request ${call.id}`,
  };
}

/** Express and its router mark what is wrong with a request, such as a bad percent-encoding, by a status. */
function statusOfExpress(error: unknown): number | undefined {
  const status = error instanceof Error && 'status' in error ? error.status : undefined;
  return typeof status === 'number' && status >= 400 && status < 500 ? status : undefined;
}

/** Answers a call with an error, in the form that the client's version knows. */
export function answerFailure(call: Pick<Call, 'version' | 'response'>, { status, message }: Failure): void {
  const { response } = call;
  response.statusCode = status;
  if (call.version < JSON_ERRORS) {
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    response.end(`${message}\n`);
  } else {
    response.setHeader('Content-Type', 'application/json');
    response.end(`${JSON.stringify({ message })}\n`);
  }
}

/** Answers whatever a handler has thrown. */
export function errorHandler(log: Log, callOf: (response: Call['response']) => Call): ErrorRequestHandler {
  return (error: unknown, _request, response, _next) => {
    const call = callOf(response);
    const failure = failureOf(error, call, log);
    // What has begun cannot be taken back: cutting it is how the client learns that it is not complete.
    if (response.headersSent) response.destroy();
    else answerFailure(call, failure);
  };
}

/** A new request identifier. */
export const newRequestId = (): string => randomBytes(6).toString('hex');
