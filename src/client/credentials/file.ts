import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { replaceFile } from '../replace-file.ts';

/** What is kept for a registry in docker's client configuration. */
export interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

/** Docker's client configuration, as far as it is about credentials; what else it holds is kept as it is. */
export interface ConfigFile {
  readonly auths?: Readonly<Record<string, AuthEntry>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}

/** Reads the file; without one there are no credentials. Throws `invalid` if it is no JSON. */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return {};
    throw new LayerdError('unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    // The parser's message quotes the text, which holds secrets.
    throw new LayerdError('invalid', `${path} is not valid JSON; correct it, or move it away and log in again`);
  }
  if (typeof file !== 'object' || file === null) throw new LayerdError('invalid', `${path} must hold a JSON object`);
  return file;
}

/**
 * Changes what the file keeps for registries, as docker writes it: its other keys and their order stay. It is replaced as
 * a whole, so that no reader and no crash meets half of it, and nobody but its owner may read it.
 */
export async function changeAuths(
  path: string,
  change: (auths: Readonly<Record<string, AuthEntry>>) => Readonly<Record<string, AuthEntry>>,
): Promise<void> {
  const file = await readConfigFile(path);
  const text = JSON.stringify({ ...file, auths: change(file.auths ?? {}) }, undefined, '\t');
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await replaceFile(path, text);
  } catch (cause) {
    throw new LayerdError('unavailable', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}
