import type { IncomingMessage, RequestListener } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { LayerdError } from '../../protocol/errors.ts';
import type { Call } from './call.ts';

/** Bytes of a client's message: it has little to say. */
const MAX_MESSAGE_BYTES = 64 * 1024;

/** A connection that was a request and is a WebSocket now. */
export interface Upgraded {
  readonly socket: WebSocket;
  readonly connection: Socket;
}

/** Whether a request asks for a WebSocket. All other upgrades are answered as if they had not been asked for. */
export const wantsWebSocket = ({ headers, method }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket';

/**
 * Makes WebSockets of requests. One that asks for it passes the same guards and routes as any other; the route accepts the
 * upgrade, or answers, an error as well as anything else, after which the connection ends.
 */
export class Upgrades {
  readonly #asked = new WeakMap<IncomingMessage, { readonly connection: Socket; readonly head: Buffer }>();

  /** What a server's `upgrade` event is given to. */
  listener(handle: RequestListener): (request: IncomingMessage, connection: Duplex, head: Buffer) => void {
    const { ServerResponse } = process.getBuiltinModule('node:http');
    return (request, connection, head) => {
      // A server on sockets gives sockets.
      if (!(connection instanceof Socket)) throw new TypeError('an upgrade of something that is no socket');
      this.#asked.set(request, { connection, head });
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(connection);
      response.once('finish', () => connection.end());
      connection.on('error', () => connection.destroy());
      handle(request, response);
    };
  }

  /** Whether the request asks to be upgraded. */
  asks(request: IncomingMessage): boolean {
    return this.#asked.has(request);
  }

  /** Makes a WebSocket of the call's connection. Throws `invalid` where the client's handshake is none. */
  async accept({ request, response }: Pick<Call, 'request' | 'response'>): Promise<Upgraded> {
    const asked = this.#asked.get(request);
    if (asked === undefined) throw new LayerdError('invalid', 'the request does not ask to become a WebSocket');
    const { connection, head } = asked;
    // Memory that a daemon without subscribers does not need.
    const { WebSocketServer } = await import('ws');
    // Without compression, which would cost each subscriber a copy of every message.
    const server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
    });
    let refusal = '';
    let socket: WebSocket | undefined;
    server.once('wsClientError', (error: Error) => (refusal = error.message));
    server.handleUpgrade(request, connection, head, (upgraded) => (socket = upgraded));
    if (socket === undefined) throw new LayerdError('invalid', `malformed WebSocket handshake: ${refusal}`);
    response.detachSocket(connection);
    response.statusCode = 101;
    // Without its socket the response would not hear of the end.
    connection.once('close', () => response.emit('close'));
    return { socket, connection };
  }
}
