import { readFile, stat } from 'node:fs/promises';
import { CERTIFICATE_DEMANDED, NOT_TLS, UNKNOWN_AUTHORITY } from '../protocol/tls.ts';
import { SYSTEM_HOST } from './endpoint.ts';
import { TLS_DEMANDED, type ConnectionError } from './errors.ts';

/** Codes that say that nobody is there, rather than that the connection broke. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ECONNREFUSED']);

/** What a connection's failure means to a person, and what to do about it, in one line. */
export async function explain(error: ConnectionError): Promise<string> {
  const { host, code, message } = error;
  const socketPath = host.startsWith('unix://') ? host.slice('unix://'.length) : undefined;
  if (error.kind === 'forbidden' && socketPath !== undefined) {
    return `permission denied on ${host}: ${await whoMay(socketPath)}`;
  }
  if (!ABSENT.has(code)) return `cannot talk to the daemon at ${message}${aboutTls(error)}`;
  const another = 'or name another daemon with --host or LAYERD_HOST';
  if (socketPath === undefined) return `cannot reach the daemon at ${message}; check that it runs there, ${another}`;
  const start = host === SYSTEM_HOST ? "start it with 'systemctl start layerd'" : "start it with 'layerd'";
  return `cannot reach the daemon at ${message}; ${start}, ${another}`;
}

/** What to do where TLS is, or may be, what failed. */
function aboutTls({ code, suspicion }: ConnectionError): string {
  if (UNKNOWN_AUTHORITY.has(code)) {
    return '; name the authority with --tlscacert, or put it into DOCKER_CERT_PATH as ca.pem';
  }
  const yours = 'name yours with --tlscert and --tlskey, or put it into DOCKER_CERT_PATH as cert.pem and key.pem';
  if (CERTIFICATE_DEMANDED.has(code)) return `; ${yours}`;
  if (NOT_TLS.has(code)) return '; leave out --tls and --tlsverify if that is as it should be';
  if (code === TLS_DEMANDED) return '; add --tlsverify';
  // Not every server says why it closes a connection; one that is made with Node does not for a certificate.
  if (suspicion === 'client-certificate') return `; it may demand a client certificate that it trusts: ${yours}`;
  return suspicion === 'tls' ? '; it may demand TLS: add --tlsverify' : '';
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
