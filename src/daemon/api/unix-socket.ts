import { execFile } from 'node:child_process';
import { chmodSync, chownSync, lstatSync, readFileSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import net from 'node:net';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { makeDirectory } from '../directory.ts';

/** Owner and group may connect, nobody else. */
const SOCKET_MODE = 0o660;
/** Its directory can be passed through but not listed by others. */
const DIRECTORY_MODE = 0o711;
/** The group that owns the socket where none is named and this one exists. */
const DEFAULT_GROUP = 'layerd';
/** Exit status of getent(1) for a key that no database has. */
const GETENT_NOT_FOUND = 2;
/** Milliseconds that a socket found in the way is given to take a connection. */
const PROBE_TIMEOUT = 2000;

/**
 * Makes the server listen on a Unix socket that nobody could connect to before its mode and group were right. Node
 * removes the socket when the server is closed.
 * @param group Name or number of the group that owns it; undefined for `layerd` where that exists.
 */
export async function listenUnix(server: net.Server, path: string, group: string | undefined): Promise<void> {
  const gid = await groupId(group);
  makeDirectory(dirname(path), DIRECTORY_MODE);
  await removeStale(path);

  const listening = once(server, 'listening');
  // A socket can be connected to from the moment it is bound. Node binds within this call, so that the mask, which holds
  // for the whole process, is in force for nothing else; until chmod the socket is the owner's alone.
  const mask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(mask);
  }
  await listening;
  if (gid !== undefined) chownSync(path, -1, gid);
  chmodSync(path, SOCKET_MODE);
}

/** Clears a socket out of the way that a dead process left, and refuses to touch anything else. */
async function removeStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new LayerdError('conflict', `cannot listen on unix://${path}: there is something there that is not a socket`);
  }
  if (await answers(path)) {
    throw new LayerdError(
      'conflict',
      `cannot listen on unix://${path}: another process is listening there; stop it, or give another --host`,
    );
  }
  rmSync(path, { force: true });
}

/** Whether somebody listens. Only a refused connection proves that nobody does. */
async function answers(path: string): Promise<boolean> {
  const socket = net.connect(path);
  return new Promise<boolean>((resolve) => {
    socket.setTimeout(PROBE_TIMEOUT, () => resolve(true));
    socket.once('connect', () => resolve(true));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  }).finally(() => socket.destroy());
}

/**
 * The number of the group that a Unix socket is given to; undefined where it stays with the daemon's own.
 * @throws LayerdError of kind invalid if a group was named that does not exist.
 */
export async function groupId(group: string | undefined): Promise<number | undefined> {
  const name = group ?? DEFAULT_GROUP;
  // Without root a socket cannot be given to a group that one is not in, so only a group that was named is tried.
  if (group === undefined && process.getuid?.() !== 0) return undefined;
  const local = gidIn(readFileSync('/etc/group', 'utf8'), name) ?? (/^[0-9]+$/.test(name) ? Number(name) : undefined);
  if (local !== undefined || group === undefined) return local;
  // Groups of a directory service are known to the name service switch alone.
  const listed = await promisify(execFile)('getent', ['group', '--', name]).catch((error: unknown) => {
    const reason =
      (error as { code?: unknown }).code === GETENT_NOT_FOUND
        ? 'there is no such group'
        : `it is not in /etc/group, and getent cannot be asked for it (${messageOf(error).split('\n', 1).join('')})`;
    throw new LayerdError(
      'invalid',
      `cannot give the socket to group ${name}: ${reason}; create it, or give another --group`,
      { cause: error },
    );
  });
  return gidIn(listed.stdout, name);
}

/** The number of a group in the format of group(5). */
function gidIn(table: string, name: string): number | undefined {
  const entry = table.split('\n').find((line) => line.startsWith(`${name}:`));
  return entry === undefined ? undefined : Number(entry.split(':')[2]);
}
