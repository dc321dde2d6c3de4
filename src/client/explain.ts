import { readFile, stat } from 'node:fs/promises';
import { SYSTEM_HOST } from './endpoint.ts';
import type { ConnectionError } from './errors.ts';

/** Codes that say that nobody is there, rather than that the connection broke. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ECONNREFUSED']);

/** What a connection's failure means to a person, and what to do about it, in one line. */
export async function explain(error: ConnectionError): Promise<string> {
  const { host, code, message } = error;
  const socketPath = host.startsWith('unix://') ? host.slice('unix://'.length) : undefined;
  if (error.kind === 'forbidden' && socketPath !== undefined) {
    return `permission denied on ${host}: ${await whoMay(socketPath)}`;
  }
  if (!ABSENT.has(code)) return `cannot talk to the daemon at ${message}`;
  const another = 'or name another daemon with --host or LAYERD_HOST';
  if (socketPath === undefined) return `cannot reach the daemon at ${message}; check that it runs there, ${another}`;
  const start = host === SYSTEM_HOST ? "start it with 'systemctl start layerd'" : "start it with 'layerd'";
  return `cannot reach the daemon at ${message}; ${start}, ${another}`;
}

async function whoMay(socketPath: string): Promise<string> {
  const group = await groupOf(socketPath);
  // Without the socket's owner in sight, its directory is what is closed.
  if (group === undefined) return 'run the command as its owner or with sudo';
  if (group === 'root')
    return 'only root may use it; run the command with sudo, or give the daemon a group with --group';
  return `its group is '${group}'; run 'sudo usermod -aG ${group} $USER' and log in again, or run the command with sudo`;
}

/** Name of the group that owns the socket; undefined when it cannot be seen. */
async function groupOf(path: string): Promise<string | undefined> {
  try {
    const { gid } = await stat(path);
    const groups = await readFile('/etc/group', 'utf8');
    const line = groups.split('\n').find((entry) => entry.split(':')[2] === String(gid));
    return line?.split(':')[0] ?? String(gid);
  } catch {
    return undefined;
  }
}
