import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import type http from 'node:http';
import type net from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { TlsFiles } from '../config/config.ts';
import { formatHost, isLoopback, portOf, type Host } from '../config/host.ts';
import type { Log } from '../log.ts';
import { addressOf, selectPassed, type PassedSocket } from './activation.ts';
import { wantsWebSocket } from './upgrades.ts';
import { groupId, listenUnix } from './unix-socket.ts';

/** What answers: requests, and connections that become something else (WebSockets, hijacked streams). */
export interface Handler {
  readonly request: http.RequestListener;
  readonly upgrade: (request: http.IncomingMessage, socket: Duplex, head: Buffer) => void;
}

export interface ListenOptions {
  readonly hosts: readonly Host[];
  /** Owner of Unix sockets, by name or number. */
  readonly group: string | undefined;
  /** For tcp; undefined for plain HTTP. */
  readonly tls: TlsFiles | undefined;
  /** Sockets that systemd passed. */
  readonly passed: readonly PassedSocket[];
  readonly handler: Handler;
  readonly log: Log;
}

/** Bytes of all headers: X-Registry-Auth carries tokens of several KiB. */
const MAX_HEADER_BYTES = 64 * 1024;
/** Milliseconds for the headers to arrive, against clients that hold connections open by sending slowly. */
const HEADERS_TIMEOUT = 60_000;
/** No limit on a whole request: an image that is loaded or a context that is built arrives as fast as it does. */
const REQUEST_TIMEOUT = 0;
/** Milliseconds an idle connection stays: longer than Docker's clients keep theirs (30 s), lest one be cut mid-reuse. */
const KEEP_ALIVE_TIMEOUT = 75_000;
/** Milliseconds for a TLS handshake. */
const HANDSHAKE_TIMEOUT = 20_000;
/** Milliseconds between two looks at whether connections have become idle while stopping. */
const DRAIN_INTERVAL = 50;

/** OpenSSL's code for a request in the clear where a handshake was expected. */
const PLAIN_HTTP = 'ERR_SSL_HTTP_REQUEST';
/** In the words of servers written in Go, which clients know. */
const PLAIN_HTTP_ANSWER =
  'HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nClient sent an HTTP request to an HTTPS server.\n';

/** The sockets that the daemon is reached through: opened together, closed together. */
export class Listeners {
  readonly #options: ListenOptions;
  readonly #listeners: Listener[] = [];

  private constructor(options: ListenOptions) {
    this.#options = options;
  }

  /**
   * Opens all of them. If one cannot be opened, those that were are closed again.
   * @throws LayerdError that names the host.
   */
  static async open(options: ListenOptions): Promise<Listeners> {
    const listeners = new Listeners(options);
    try {
      for (const host of options.hosts) await listeners.#open(host);
    } catch (error) {
      await listeners.close(0);
      throw error;
    }
    return listeners;
  }

  /**
   * Checks, without opening anything, what opening would find wrong outside of the options: TLS files, and the group.
   * @throws LayerdError of kind invalid, as {@link open} would.
   */
  static async check({ hosts, group, tls: files }: Pick<ListenOptions, 'hosts' | 'group' | 'tls'>): Promise<void> {
    if (hosts.some(({ kind }) => kind === 'unix')) await groupId(group);
    // Of what systemd passes, nothing is known before.
    if (files !== undefined && hosts.some(({ kind }) => kind !== 'unix')) readTls(files);
  }

  /** The addresses that are listened on, with the ports that were really taken. */
  get addresses(): string[] {
    return this.#listeners.map((listener) => listener.address);
  }

  /**
   * Reads the certificates again, for connections from now on.
   * @throws LayerdError of kind invalid if they cannot be used; the old ones stay in force.
   */
  reloadTls(files: TlsFiles): void {
    const servers = this.#listeners.map(({ server }) => server).filter((server) => server instanceof tls.Server);
    // As at the start, nobody looks at files that no listener needs.
    if (servers.length === 0) return;
    const context = readTls(files);
    for (const server of servers) server.setSecureContext(context);
  }

  /** Takes no more connections, waits up to so many milliseconds for requests under way, and cuts what is left. */
  async close(graceMs: number): Promise<void> {
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close(graceMs)));
  }

  async #open(host: Host): Promise<void> {
    switch (host.kind) {
      case 'unix': {
        const server = createServer(undefined, this.#options.handler);
        await this.#start(server, host, listenUnix(server, host.path, this.#options.group));
        this.#add(server, formatHost(host));
        break;
      }
      case 'tcp': {
        const server = this.#createTcpServer();
        const port = portOf(host, this.#options.tls !== undefined);
        await this.#start(server, host, once(server.listen({ host: host.host, port }), 'listening'));
        this.#addTcp(server, host);
        break;
      }
      case 'fd':
        for (const socket of selectPassed(this.#options.passed, host.name)) {
          const { fd, kind } = socket;
          const server = kind === 'unix' ? createServer(undefined, this.#options.handler) : this.#createTcpServer();
          await this.#start(server, host, once(server.listen({ fd }), 'listening'));
          if (kind === 'tcp') this.#addTcp(server, host);
          else this.#add(server, addressOf(socket));
        }
    }
  }

  async #start(server: http.Server, host: Host, listening: Promise<unknown>): Promise<void> {
    try {
      await listening;
    } catch (error) {
      server.close();
      throw refusal(host, error);
    }
  }

  #add(server: http.Server, address: string): void {
    // Accepting fails when descriptors run out, which passes; without a listener it would end the process.
    server.on('error', (error) =>
      this.#options.log.error('cannot accept a connection', { address, error: error.message }),
    );
    this.#listeners.push(new Listener(server, address));
  }

  #createTcpServer(): http.Server {
    const { tls: files, handler } = this.#options;
    return createServer(files === undefined ? undefined : readTls(files), handler);
  }

  #addTcp(server: http.Server, host: Host): void {
    const { address, port } = server.address() as net.AddressInfo;
    const bound = formatHost({ kind: 'tcp', host: address, port });
    this.#add(server, bound);
    if (this.#options.tls?.clientCa !== undefined) return;
    this.#options.log.warn(
      isLoopback(address)
        ? 'listening on tcp without --tlsverify: every user of this machine, and scripts in their browsers, can act as root through it'
        : 'listening on tcp without --tlsverify: everyone who can reach this port can act as root on this machine',
      { host: formatHost(host), address: bound },
    );
  }
}

/** One server and the connections it has. */
class Listener {
  readonly server: http.Server;
  readonly address: string;
  readonly #sockets = new Set<net.Socket>();

  constructor(server: http.Server, address: string) {
    this.server = server;
    this.address = address;
    server.on('connection', (socket: net.Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: tls.TLSSocket) => {
      if (error.code === PLAIN_HTTP) this.#answerPlainHttp(socket);
    });
  }

  /**
   * Tells a client that speaks plain HTTP to a TLS listener so, instead of hanging up on it. What is written to the
   * socket with the failed handshake goes nowhere, so the connection below it is looked up.
   */
  #answerPlainHttp({ remoteAddress, remotePort }: tls.TLSSocket): void {
    for (const socket of this.#sockets) {
      if (socket.remotePort === remotePort && socket.remoteAddress === remoteAddress) socket.end(PLAIN_HTTP_ANSWER);
    }
  }

  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    const deadline = performance.now() + graceMs;
    // A client that keeps its connections alive must not keep the daemon alive.
    while (this.#sockets.size > 0 && performance.now() < deadline) {
      this.server.closeIdleConnections();
      await delay(DRAIN_INTERVAL);
    }
    // Connections that were upgraded are no longer the HTTP server's to close.
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/**
 * The modules are asked for by name: an import of node:http would also load what it has for clients' WebSockets and fetch,
 * megabytes that are never used here.
 */
function createServer(context: tls.TlsOptions | undefined, handler: Handler): http.Server {
  const limits = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT,
    requestTimeout: REQUEST_TIMEOUT,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
    shouldUpgradeCallback: wantsWebSocket,
  };
  const server =
    context === undefined
      ? process.getBuiltinModule('node:http').createServer(limits)
      : process
          .getBuiltinModule('node:https')
          .createServer({ ...context, ...limits, handshakeTimeout: HANDSHAKE_TIMEOUT });
  server.on('request', handler.request);
  server.on('upgrade', handler.upgrade);
  return server;
}

/** Reads the certificates, and makes sure that they fit together. */
function readTls({ cert, key, clientCa }: TlsFiles): tls.TlsOptions {
  try {
    const options: tls.TlsOptions = {
      cert: readFileSync(cert),
      key: readFileSync(key),
      minVersion: 'TLSv1.2',
      ...(clientCa !== undefined && { ca: readFileSync(clientCa), requestCert: true, rejectUnauthorized: true }),
    };
    tls.createSecureContext(options);
    // The context takes anything for an authority, and then lets nobody in.
    if (options.ca !== undefined) new X509Certificate(options.ca as Buffer);
    return options;
  } catch (error) {
    throw new LayerdError('invalid', `cannot use the TLS certificates: ${messageOf(error)}`, { cause: error });
  }
}

function refusal(host: Host, error: unknown): unknown {
  if (error instanceof LayerdError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const kind = code === 'EADDRINUSE' ? 'conflict' : 'invalid';
  return new LayerdError(kind, `cannot listen on ${formatHost(host)}: ${messageOf(error)}`, { cause: error });
}
