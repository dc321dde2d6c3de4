import { Router, type Request, type RequestHandler, type Response } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import type { ApiVersion } from './versions.ts';

/**
 * One request and its answer, as the handlers of all routers see it. Its life: it is given an identifier and the version
 * that the client speaks; a handler reads its parameters and answers with one JSON body, or opens a stream; when the
 * client goes away first, {@link signal} is aborted and whatever works for it stops.
 */
export class Call {
  /** Names the request in the log, and in the message of an internal error. */
  readonly id: string;
  readonly version: ApiVersion;
  readonly request: Request;
  readonly response: Response;
  readonly query: URLSearchParams;
  /** Throws where the client may not have done what its route does. */
  readonly authorize: (call: Call) => void;
  #abort: AbortController | undefined;

  constructor(call: Pick<Call, 'id' | 'version' | 'request' | 'response' | 'query' | 'authorize'>) {
    this.id = call.id;
    this.version = call.version;
    this.request = call.request;
    this.response = call.response;
    this.query = call.query;
    this.authorize = call.authorize;
  }

  /** Aborted when the connection closes before the answer is complete. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      const abort = new AbortController();
      this.#abort = abort;
      const { response } = this;
      const closed = (): void => {
        if (!response.writableFinished) abort.abort(new LayerdError('cancelled', 'the client went away'));
      };
      if (response.closed) closed();
      else response.once('close', closed);
    }
    return this.#abort.signal;
  }

  /** Answers with a JSON body, ended by a newline as the Engine does. */
  json(body: unknown, status = 200): void {
    this.response.statusCode = status;
    this.response.setHeader('Content-Type', 'application/json');
    this.response.end(`${JSON.stringify(body)}\n`);
  }
}

/** A router that takes paths to the letter, as the Engine does. */
export const newRouter = (): Router => Router({ caseSensitive: true, strict: true });

/** Makes a route of a handler, for whom may use it; what it throws is answered by the error handler. */
export function serve(handler: (call: Call) => void | Promise<void>): RequestHandler {
  return (_request, response) => {
    const call = callOf(response);
    // Here, where no route can be without it, and nothing has been done yet.
    call.authorize(call);
    return handler(call);
  };
}

/** The call that a response belongs to. */
export function callOf(response: Response): Call {
  return response.locals['call'] as Call;
}
