import { createRequire } from 'node:module';
import type { IncomingMessage } from 'node:http';
import { Server, type Socket } from 'node:net';
import { TLSSocket, type PeerCertificate } from 'node:tls';
import { LayerdError, messageOf } from '../../../protocol/errors.ts';
import { tokenName, type Client, type Policy } from './policy.ts';

/** socket(7), and struct ucred: pid, uid and gid, four bytes each. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const UCRED_BYTES = 12;

type GetSockOpt = (file: number, level: number, name: number, value: Buffer, length: Int32Array) => number;

/** Tells who is at the other end of connections. */
export class Clients {
  readonly #getsockopt: GetSockOpt;
  /** Of each connection, what it proves: it does not change. */
  readonly #known = new WeakMap<Socket, Client>();

  /** @throws LayerdError of kind unavailable where the system cannot be asked, since a policy could not be kept then. */
  constructor() {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as {
        load(path: string): { func(prototype: string): GetSockOpt };
      };
      this.#getsockopt = koffi
        .load('libc.so.6')
        .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ int32_t *length)');
    } catch (error) {
      throw new LayerdError(
        'unavailable',
        `an authorization policy needs koffi, to ask the system who is behind a socket, which cannot be loaded: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /**
   * Who sends the request: what its connection proves, and the token that it carries.
   * @throws LayerdError of kind unauthorized for a token that is none.
   */
  of(request: IncomingMessage, policy: Policy): Client {
    const { socket } = request;
    let client = this.#known.get(socket);
    if (client === undefined) {
      client = socket.remoteAddress === undefined ? this.#local(socket) : certified(socket);
      this.#known.set(socket, client);
    }
    const [, sent] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (sent === undefined) return client;
    const token = tokenName(policy, sent);
    if (token !== undefined) return { token, ...client };
    throw new LayerdError('unauthorized', `the token in the Authorization header is none of ${policy.path}`);
  }

  /** The process that has connected, as the kernel noted it then. */
  #local(socket: Socket): Client {
    const { fd } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
    const credentials = Buffer.alloc(UCRED_BYTES);
    const length = new Int32Array([UCRED_BYTES]);
    // Without an answer nothing is proved, and nothing is allowed to whom nobody knows.
    if (fd === undefined || this.#getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) return {};
    const path = pathOf(socket);
    return {
      uid: `${credentials.readUInt32LE(4)}`,
      gid: `${credentials.readUInt32LE(8)}`,
      ...(path === undefined ? {} : { socket: path }),
    };
  }
}

/** Whom a verified certificate names. */
function certified(socket: Socket): Client {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return {};
  const { subject } = socket.getPeerCertificate() as Partial<PeerCertificate>;
  const name = subject?.CN;
  return typeof name === 'string' ? { certificate: name } : {};
}

/** The path of the Unix socket that a connection came through. */
function pathOf(socket: Socket): string | undefined {
  const { server } = socket as { server?: unknown };
  const address = server instanceof Server ? server.address() : undefined;
  return typeof address === 'string' ? address : undefined;
}
