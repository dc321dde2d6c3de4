import { LayerdError } from '../protocol/errors.ts';

/** Where the daemon listens, taken from a host string. */
export type Endpoint =
  | { readonly transport: 'unix'; readonly socketPath: string }
  | { readonly transport: 'tcp'; readonly hostname: string; readonly port: number; readonly tls: boolean };

/** Ports of the Engine API over TCP, without and with TLS (IANA). */
const PLAIN_PORT = 2375;
const TLS_PORT = 2376;

/** The system daemon's socket. */
export const SYSTEM_HOST = 'unix:///run/layerd/layerd.sock';

/** The host that is meant when none is named: the system daemon's socket for root, the user's own otherwise. */
export function defaultHost(uid: number, env: NodeJS.ProcessEnv): string {
  if (uid === 0) return SYSTEM_HOST;
  return `unix://${env['XDG_RUNTIME_DIR'] ?? `/run/user/${uid}`}/layerd/layerd.sock`;
}

/**
 * Parses `unix:///path`, `tcp://host:port`, `http://host:port` or `https://host:port`. With `tls`, tcp means HTTPS.
 * Throws `invalid` for anything else.
 */
export function parseHost(host: string, tls: boolean): Endpoint {
  if (host.startsWith('unix://')) {
    const socketPath = host.slice('unix://'.length);
    if (!socketPath.startsWith('/')) throw invalid(host, 'the path of a unix socket must be absolute');
    return { transport: 'unix', socketPath };
  }
  const scheme = /^(tcp|https?):\/\//.exec(host)?.[1];
  if (scheme === undefined) throw invalid(host, 'it must begin with unix://, tcp://, http:// or https://');
  const secure = scheme === 'https' || (scheme === 'tcp' && tls);
  // The URL parser drops a port that is its scheme's default, and knows no default for `tcp`.
  const authority = host.slice(scheme.length + '://'.length).replace(/\/$/, '');
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:/?#@]+)(?::(\d{1,5}))?$/.exec(authority);
  if (match === null) throw invalid(host, `it must have the form ${scheme}://HOST:PORT`);
  const port = match[2] === undefined ? (secure ? TLS_PORT : PLAIN_PORT) : Number(match[2]);
  if (port < 1 || port > 65_535) throw invalid(host, 'the port must be from 1 to 65535');
  return { transport: 'tcp', hostname: (match[1] ?? '').replace(/^\[|\]$/g, ''), port, tls: secure };
}

function invalid(host: string, reason: string): LayerdError {
  return new LayerdError('invalid', `invalid daemon host '${host}': ${reason}`);
}
