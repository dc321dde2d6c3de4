import { isIP, type Socket } from 'node:net';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { finished } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { LayerdError } from '../../protocol/errors.ts';
import { quote } from './parameters.ts';

/** Body that is read and discarded at most, in bytes. */
const MAX_BODY_BYTES = 1024 * 1024;

/**
 * Refuses what a browser sends over tcp. Whoever can reach the API owns the host, so a page that a user of the host has
 * open must not: not by a cross-site request, which carries an Origin (CSRF), nor by a name of its own that it lets
 * resolve to this host (DNS rebinding), which shows in Host. A Unix socket is out of a browser's reach, and a client of
 * a listener with TLS has verified the name.
 *
 * @throws LayerdError of kind `forbidden`
 */
export function refuseBrowsers(request: IncomingMessage, hostNames: readonly string[]): void {
  const { socket, headers } = request;
  if (!isTcp(socket)) return;
  if (headers.origin !== undefined) {
    throw new LayerdError(
      'forbidden',
      'requests from web pages (with an Origin header) are refused over tcp; use a client',
    );
  }
  if (socket instanceof TLSSocket) return;
  const host = hostOf(headers.host ?? '');
  // A name without a dot is out of the public DNS, so no attacker can own it.
  if (isIP(host) !== 0 || !host.includes('.') || hostNames.includes(host)) return;
  throw new LayerdError(
    'forbidden',
    `host ${quote(host)} is not a name of this daemon, which may be an attack by DNS rebinding: address it by its IP address, by a name that it listens on (--host tcp://NAME:PORT), or use TLS`,
  );
}

/** The operations that read the body of their request themselves. */
const READERS: readonly RegExp[] = [
  /^POST \/images\/load$/,
  /^POST \/images\/create$/,
  /^PUT \/layerd\/manifests\//,
  /^PATCH \/layerd\/(transfers|pulls)\//,
  /^PUT \/layerd\/sets\//,
];

/** Whether the operation reads the body of its request; `path` has neither version nor query. */
export const readsBody = (method: string, path: string): boolean =>
  READERS.some((reader) => reader.test(`${method} ${path}`));

/**
 * Reads and discards the body of a request, which few endpoints take: a client that sends one all the same, such as a
 * build context to an endpoint that is not served, gets to its answer. One that goes on beyond the limit is cut off.
 */
export function discardBody(request: IncomingMessage, response: ServerResponse): void {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers;
  if (length === '0' && encoding === undefined) return;
  let discarded = 0;
  request.on('data', (chunk: Uint8Array) => {
    discarded += chunk.length;
    if (discarded <= MAX_BODY_BYTES) return;
    request.pause();
    finished(response, () => request.destroy());
  });
}

const isTcp = (socket: Socket): boolean => socket.remoteAddress !== undefined;

/** The host of a Host header, without its port and an IPv6 address's brackets. */
function hostOf(header: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(header);
  return (bracketed?.[1] ?? header.replace(/:\d*$/, '')).toLowerCase().replace(/\.$/, '');
}
