import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';

/** Where the daemon listens, as given by `--host`. */
export type Host =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** Sockets that systemd opened: all of them, those of a name, or one by its descriptor number. */
  | { readonly kind: 'fd'; readonly name: string | undefined };

/** Ports of the Docker Engine API as registered with IANA, without and with TLS. */
const DEFAULT_PORT = 2375;
const DEFAULT_TLS_PORT = 2376;
/** Bytes of a path that fit into `sun_path` of sockaddr_un(7) with its final zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Reads an address as `--host` takes it. A bare `host:port`, which dockerd takes for tcp, is refused: the network is
 * opened only by whoever wrote tcp://.
 * @throws Error saying what an address looks like.
 */
export function parseHost(text: string): Host {
  const [, scheme, rest] = /^([a-z]+):\/\/(.*)$/s.exec(text) ?? [];
  switch (scheme) {
    case 'unix':
      return parseUnix(rest ?? '');
    case 'tcp':
      return parseTcp(rest ?? '');
    case 'fd':
      return { kind: 'fd', name: rest === '' || rest === '*' ? undefined : rest };
    default:
      throw new Error('must be unix://PATH, tcp://HOST:PORT or fd://[NAME]');
  }
}

function parseUnix(path: string): Host {
  if (!isAbsolute(path)) throw new Error('unix:// must be followed by an absolute path');
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new Error(`the path of a Unix socket has at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  }
  if (path.includes('\0')) throw new Error('the path must not contain a zero byte');
  return { kind: 'unix', path };
}

function parseTcp(address: string): Host {
  const parts = /^(?:\[([^\]]*)\]|([^:[\]/]*))(?::([0-9]{1,5}))?$/.exec(address);
  const bracketed = parts?.[1];
  const name = bracketed ?? parts?.[2] ?? '';
  const port = parts?.[3] === undefined ? -1 : Number(parts[3]);
  if (!parts || port > 65535 || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new Error('tcp:// must be followed by HOST:PORT, an IPv6 address in brackets');
  }
  if (!/^[A-Za-z0-9.:_-]*$/.test(name)) throw new Error(`${JSON.stringify(name)} is not a host name`);
  return { kind: 'tcp', host: name === '' ? 'localhost' : name, port };
}

/** The port of a tcp host: the one that was given, or the registered one. Port 0 takes any that is free. */
export function portOf(host: Host & { kind: 'tcp' }, tls: boolean): number {
  return host.port >= 0 ? host.port : tls ? DEFAULT_TLS_PORT : DEFAULT_PORT;
}

/** Whether only this machine can reach the address. A name other than localhost may resolve to anything. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** The address in the form that `--host` takes. */
export function formatHost(host: Host): string {
  switch (host.kind) {
    case 'unix':
      return `unix://${host.path}`;
    case 'fd':
      return `fd://${host.name ?? ''}`;
    case 'tcp': {
      const name = isIP(host.host) === 6 ? `[${host.host}]` : host.host;
      return `tcp://${name}${host.port >= 0 ? `:${host.port}` : ''}`;
    }
  }
}
