import { readFileSync, readlinkSync } from 'node:fs';
import { LayerdError } from '../../protocol/errors.ts';

/** A listening socket that systemd opened and passed on (sd_listen_fds(3)). */
export interface PassedSocket {
  readonly fd: number;
  /** From FileDescriptorName= of the socket unit, by default that unit's name; undefined where nobody named it. */
  readonly name: string | undefined;
  readonly kind: 'unix' | 'tcp';
}

/** What systemd says where a socket has no name. */
const NAMELESS = 'unknown';
/** The first descriptor that systemd passes, SD_LISTEN_FDS_START. */
const FIRST_FD = 3;

/**
 * The sockets that systemd passed to this process, which may be none. What says so is taken out of the environment, lest
 * a child take it for its own.
 */
export function takePassedSockets(env: Record<string, string | undefined>): PassedSocket[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = env;
  delete env['LISTEN_PID'];
  delete env['LISTEN_FDS'];
  delete env['LISTEN_FDNAMES'];
  if (pid !== String(process.pid) || count === undefined || !/^[1-9][0-9]{0,3}$/.test(count)) return [];
  const nameOf = names?.split(':') ?? [];
  return Array.from({ length: Number(count) }, (_, index) => {
    const fd = FIRST_FD + index;
    const name = nameOf[index];
    return { fd, name: name === NAMELESS ? undefined : name, kind: kindOf(fd) };
  });
}

/** Unix or network: Node cannot ask the socket, the kernel lists every Unix socket by its inode. */
function kindOf(fd: number): PassedSocket['kind'] {
  const inode = /^socket:\[([0-9]+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  if (inode === undefined) {
    throw new LayerdError(
      'invalid',
      `descriptor ${fd} passed by systemd is not a socket: see ListenStream= of its unit`,
    );
  }
  const unix = readFileSync('/proc/self/net/unix', 'utf8');
  return unix.split('\n').some((line) => line.split(/\s+/)[6] === inode) ? 'unix' : 'tcp';
}

/**
 * Those of the passed sockets that an `fd://` host means.
 * @throws LayerdError of kind invalid if there are none.
 */
export function selectPassed(passed: readonly PassedSocket[], name: string | undefined): readonly PassedSocket[] {
  const chosen = passed.filter((socket) => name === undefined || socket.name === name || String(socket.fd) === name);
  if (chosen.length > 0) return chosen;
  if (passed.length === 0) {
    throw new LayerdError(
      'invalid',
      `no sockets were passed for fd://${name ?? ''}: start layerd through its systemd socket unit, or give --host unix://PATH`,
    );
  }
  throw new LayerdError(
    'invalid',
    `cannot listen on fd://${name ?? ''}: systemd passed no socket of that name, but ${passed.map(described).join(', ')}; see FileDescriptorName= of its unit, or give --host fd:// for all of them`,
  );
}

/** The `fd://` host that means this socket. */
export function addressOf({ name, fd }: PassedSocket): string {
  return `fd://${name ?? fd}`;
}

function described(socket: PassedSocket): string {
  return socket.name === undefined ? `${addressOf(socket)} without a name` : addressOf(socket);
}
