import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { LayerdError, messageOf } from '../../protocol/errors.ts';

/** The certificates that are set up for a host. */
export interface Certificates {
  /** Changes whenever one of them does. */
  readonly fingerprint: string;
  /** What connections are made with. Throws `invalid` for certificates that cannot be used. */
  context(): SecureContext;
}

/**
 * What `<dir>/<host[:port]>/` holds for a host, as dockerd reads it: authorities in `*.crt`, and client certificates in
 * pairs of `*.cert` and `*.key`. Undefined where there is nothing, so that the host has Node's own shared context.
 * Throws `invalid` for half a pair, and for files that cannot be read.
 */
export async function readCertificates(dirs: readonly string[], url: URL): Promise<Certificates | undefined> {
  const authorities: string[] = [];
  const certificates: string[] = [];
  const keys: string[] = [];
  for (const folder of dirs.flatMap((dir) => hostFolders(url).map((name) => join(dir, name)))) {
    const names = new Set(await list(folder));
    const text = (name: string): Promise<string> => read(join(folder, name));
    for (const name of [...names].sort()) {
      if (name.endsWith('.crt')) authorities.push(await text(name));
      if (name.endsWith('.cert')) {
        const key = name.replace(/\.cert$/, '.key');
        if (!names.has(key)) {
          throw new LayerdError(
            'invalid',
            `missing key ${key} for client certificate ${join(folder, name)}. CA certificates must use the extension .crt`,
          );
        }
        certificates.push(await text(name));
        keys.push(await text(key));
      }
      if (name.endsWith('.key') && !names.has(name.replace(/\.key$/, '.cert'))) {
        throw new LayerdError(
          'invalid',
          `missing client certificate ${name.replace(/\.key$/, '.cert')} for key ${join(folder, name)}`,
        );
      }
    }
  }
  if (authorities.length === 0 && certificates.length === 0) return undefined;
  const hash = createHash('sha256').update(JSON.stringify([authorities, certificates, keys]));
  return {
    fingerprint: hash.digest('hex'),
    context() {
      try {
        return createSecureContext({
          // Authorities are added to those that are trusted anyway; given alone they would replace them.
          ...(authorities.length > 0 ? { ca: [...getCACertificates('default'), ...authorities] } : {}),
          ...(certificates.length > 0 ? { cert: certificates, key: keys } : {}),
        });
      } catch (error) {
        throw new LayerdError('invalid', `the certificates for ${url.host} cannot be used: ${messageOf(error)}`, {
          cause: error,
        });
      }
    },
  };
}

/** The folders' names for a host: with its port, and without when it is the one of https. */
function hostFolders(url: URL): string[] {
  // A host named `..` is a valid URL's; it must not lead out of the folder.
  if (/^\.*$/.test(url.hostname)) return [];
  return url.port === '' ? [url.hostname, `${url.hostname}:443`] : [url.host];
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new LayerdError('invalid', `cannot read ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new LayerdError('invalid', `cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}
