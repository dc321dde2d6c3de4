import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import { createConnection } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import type { Endpoint } from './endpoint.ts';
import { ConnectionError, EngineError, kindOfStatus, TLS_DEMANDED } from './errors.ts';
import { Messages } from './messages.ts';

// An import of these modules would also read their WebSocket, and with it load what fetch is made of: 20 ms of a command
// that takes 60.
const http = process.getBuiltinModule('node:http');

/** How long connecting may take before the daemon counts as unreachable. */
const CONNECT_TIMEOUT_MS = 10_000;
/** What is read of an error's body at most: 64 KiB. */
const MAX_ERROR_BYTES = 64 * 1024;

/** A message of a WebSocket that is larger is refused: 16 MiB. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** What layerd and servers written in Go answer to plain HTTP where they speak TLS. */
const PLAIN_HTTP = 'Client sent an HTTP request to an HTTPS server.';

/** Certificates as PEM text. */
export interface TlsOptions {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** Whether the server's certificate must be valid. Default true. */
  readonly verify?: boolean;
}

/** One request to the daemon. */
export interface Call {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with its version prefix, without the query. */
  readonly path: string;
  readonly query?: URLSearchParams | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Streamed as the daemon takes it. */
  readonly body?: AsyncIterable<Uint8Array> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Speaks HTTP with one daemon over connections that are kept for the next request. */
export class Transport {
  readonly host: string;
  readonly #endpoint: Endpoint;
  readonly #tls: TlsOptions | undefined;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #closing = new AbortController();
  #agent: Agent | undefined;
  #wasAnswered = false;

  constructor(
    host: string,
    endpoint: Endpoint,
    tls: TlsOptions | undefined,
    headers: Readonly<Record<string, string>>,
  ) {
    this.host = host;
    this.#endpoint = endpoint;
    this.#tls = tls;
    this.#headers = headers;
  }

  /**
   * Sends a request and resolves with the answer once its headers are here; the body streams. Rejects with a
   * {@link ConnectionError}, with an {@link EngineError} for a status from 400 up, or with the signal's reason.
   */
  async send(call: Call): Promise<IncomingMessage> {
    const response = await this.#attempt(call, true);
    const status = response.statusCode ?? 0;
    if (status >= 400 && call.method === 'HEAD') {
      // Its answer has no body that could say what is wrong.
      response.destroy();
      return this.send({ ...call, method: 'GET' });
    }
    if (status < 400) return response;
    return this.#fail(call, response);
  }

  /** Makes a WebSocket of a request, a GET. Rejects as {@link send} does. */
  async openSocket(call: Pick<Call, 'path' | 'query' | 'signal'>): Promise<Messages> {
    const { WebSocket } = await import('ws');
    call.signal?.throwIfAborted();
    const endpoint = this.#endpoint;
    const isUnix = endpoint.transport === 'unix';
    // Nobody reads the Host of a request over a unix socket, but HTTP/1.1 demands one.
    const host = isUnix ? 'layerd' : `${bracketed(endpoint.hostname)}:${endpoint.port}`;
    const socket = new WebSocket(`${!isUnix && endpoint.tls ? 'wss' : 'ws'}://${host}${targetOf(call)}`, {
      headers: this.#headers,
      handshakeTimeout: CONNECT_TIMEOUT_MS,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
      ...(isUnix ? { createConnection: () => createConnection(endpoint.socketPath) } : this.#certificates()),
    });
    const messages = new Messages(socket);
    const { promise, resolve, reject } = Promise.withResolvers<Messages>();
    const abort = (): void => socket.terminate();
    call.signal?.addEventListener('abort', abort);
    socket.on('open', () => {
      this.#wasAnswered = true;
      resolve(messages);
    });
    socket.on('unexpected-response', (_request, response) => {
      this.#wasAnswered = true;
      this.#fail({ ...call, method: 'GET' }, response).catch(reject);
    });
    socket.on('error', (error) => reject(new ConnectionError(this.host, error, this.#suspicion())));
    try {
      return await promise;
    } catch (error) {
      messages.cut();
      call.signal?.throwIfAborted();
      throw error;
    } finally {
      call.signal?.removeEventListener('abort', abort);
    }
  }

  /** Rejects with what an answer says that is none of success. */
  async #fail(call: Call, response: IncomingMessage): Promise<never> {
    const status = response.statusCode ?? 0;
    const message = await this.#errorMessage(response, call.signal);
    response.destroy();
    if (message === PLAIN_HTTP) {
      throw new ConnectionError(this.host, Object.assign(new Error(message), { code: TLS_DEMANDED }));
    }
    throw new EngineError(
      kindOfStatus(status),
      message === '' ? `the daemon answered ${call.method} ${call.path} with status ${status}` : message,
      { status },
    );
  }

  /** Gives the body's chunks; a cut connection becomes a {@link ConnectionError}. */
  async *body(response: IncomingMessage, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* response as AsyncIterable<Uint8Array>;
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      throw new ConnectionError(this.host, error);
    }
  }

  /** Aborted, with what to tell whoever waits, when it is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Closes all connections; requests under way fail. */
  close(): void {
    this.#closing.abort(new ConnectionError(this.host, new Error('the client was closed')));
    this.#agent?.destroy();
  }

  async #attempt(call: Call, mayRepeat: boolean): Promise<IncomingMessage> {
    const { host } = this;
    const { agent, send } = this.#connections();
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    call.signal?.throwIfAborted();
    const outgoing = send({
      ...this.#target(),
      agent,
      method: call.method,
      path: targetOf(call),
      headers: { ...this.#headers, ...call.headers },
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    outgoing.on('socket', (socket) => {
      if (!socket.connecting) return;
      const timer = setTimeout(() => {
        outgoing.destroy(Object.assign(new Error('connecting timed out'), { code: 'ETIMEDOUT' }));
      }, CONNECT_TIMEOUT_MS);
      for (const event of ['connect', 'close']) socket.once(event, () => clearTimeout(timer));
    });
    let isAnswered = false;
    outgoing.on('response', (response) => {
      isAnswered = true;
      this.#wasAnswered = true;
      resolve(response);
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      if (call.signal?.aborted === true) {
        reject(call.signal.reason as Error);
        return;
      }
      // A kept connection may be closed by the daemon just as it is used again: the request never got there.
      const isRepeatable = mayRepeat && call.method !== 'POST' && call.body === undefined;
      if (isRepeatable && outgoing.reusedSocket && error.code === 'ECONNRESET') {
        resolve(this.#attempt(call, false));
        return;
      }
      reject(new ConnectionError(host, error, this.#suspicion()));
    });
    if (call.body === undefined) outgoing.end();
    else void sendBody(call.body, outgoing, () => isAnswered).catch(reject);
    return promise;
  }

  /** The agent and the function to request with. HTTPS is loaded only where it is spoken. */
  #connections(): { agent: Agent; send: (options: RequestOptions) => ClientRequest } {
    if (this.#endpoint.transport === 'tcp' && this.#endpoint.tls) {
      const https = process.getBuiltinModule('node:https');
      this.#agent ??= new https.Agent({
        keepAlive: true,
        ...this.#certificates(),
      });
      return { agent: this.#agent, send: (options) => https.request(options) };
    }
    this.#agent ??= new http.Agent({ keepAlive: true });
    return { agent: this.#agent, send: (options) => http.request(options) };
  }

  #certificates(): SecureContextOptions & { rejectUnauthorized: boolean } {
    const { ca, cert, key, verify = true } = this.#tls ?? {};
    return { ca, cert, key, rejectUnauthorized: verify };
  }

  /** What may be wrong with a connection on which nothing ever came. */
  #suspicion(): ConnectionError['suspicion'] {
    if (this.#wasAnswered || this.#endpoint.transport === 'unix') return undefined;
    return this.#endpoint.tls ? 'client-certificate' : 'tls';
  }

  #target(): RequestOptions {
    if (this.#endpoint.transport === 'tcp') return { hostname: this.#endpoint.hostname, port: this.#endpoint.port };
    // Nobody reads the Host of a request over a unix socket, but HTTP/1.1 demands one.
    return { socketPath: this.#endpoint.socketPath, hostname: 'layerd' };
  }

  async #errorMessage(response: IncomingMessage, signal: AbortSignal | undefined): Promise<string> {
    let text = '';
    response.setEncoding('utf8');
    for await (const chunk of this.body(response, signal)) {
      text += String(chunk);
      if (text.length > MAX_ERROR_BYTES) break;
    }
    try {
      const body = JSON.parse(text) as { message?: unknown } | null;
      if (typeof body?.message === 'string') return body.message;
    } catch {
      // Not JSON: a proxy, or something that is no engine, answered. Its text is shown as it is.
    }
    return text.trim();
  }
}

const targetOf = ({ path, query }: Pick<Call, 'path' | 'query'>): string =>
  query === undefined || query.size === 0 ? path : `${path}?${query.toString()}`;

/** A host as it stands in a URL. */
const bracketed = (hostname: string): string => (hostname.includes(':') ? `[${hostname}]` : hostname);

/**
 * Sends a body at the pace at which it is taken. A daemon that refuses it answers before its end, and that answer counts,
 * not the connection that breaks under the rest. Rejects where the body itself fails.
 */
async function sendBody(
  body: AsyncIterable<Uint8Array>,
  outgoing: ClientRequest,
  isAnswered: () => boolean,
): Promise<void> {
  try {
    for await (const chunk of body) {
      if (outgoing.destroyed || isAnswered()) return;
      if (!outgoing.write(chunk)) await drained(outgoing);
    }
    outgoing.end();
  } catch (error) {
    // Half an archive must not look like a whole one.
    outgoing.destroy();
    throw error;
  }
}

/** Resolves when there is room for more, or when nothing is taken any more. */
function drained(outgoing: ClientRequest): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const events = ['drain', 'close', 'response'];
  const done = (): void => {
    for (const event of events) outgoing.off(event, done);
    resolve(undefined);
  };
  for (const event of events) outgoing.on(event, done);
  return promise;
}
