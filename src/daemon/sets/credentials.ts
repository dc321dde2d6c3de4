import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Credentials } from '../registry/registry.ts';

/** Bytes of a file of credentials: 64 KiB. */
const MAX_BYTES = 64 * 1024;
/** Permissions of the group and of all others. */
const OTHERS = 0o077;

const FIELDS = ['username', 'password', 'identitytoken', 'registry'] as const;

/**
 * Reads the credentials of a name, from the file of that name. They are read at each use, so that a renewed file counts at
 * once, and kept no longer than it. No message has any of what is in the file.
 * @param directory `credentials-dir`.
 * @param registry Whom they are for; a file that names another one is refused, so that a set cannot have them sent anywhere.
 * @throws LayerdError of kind unauthorized or forbidden, saying what is wrong with the file.
 */
export async function readCredentials(directory: string, name: string, registry: string): Promise<Credentials> {
  const path = join(directory, `${name}.json`);
  const fields = fieldsOf(await readPrivate(path), path);
  const { username, password, identitytoken, registry: owner } = fields;
  if (owner !== undefined && owner !== registry) {
    throw new LayerdError('forbidden', `the credentials ${path} are for ${owner}, not for ${registry}`);
  }
  if (identitytoken !== undefined)
    return { ...(username === undefined ? {} : { username }), identityToken: identitytoken };
  if (username !== undefined && password !== undefined) return { username, password };
  throw unusable(path, 'expected "username" and "password", or "identitytoken"');
}

/** Reads a file that nobody but its owner can read, who is this process's user or root. */
async function readPrivate(path: string): Promise<string> {
  try {
    await using file = await open(path);
    // Of the file that is open: by its name it could be another one by now.
    const { mode, uid, size } = await file.stat();
    if ((mode & OTHERS) !== 0) throw new Error('others than its owner may read it: chmod 600 it');
    if (uid !== 0 && uid !== process.geteuid?.()) throw new Error('it belongs to another user');
    if (size > MAX_BYTES) throw new Error(`it is larger than ${MAX_BYTES} bytes`);
    return await file.readFile('utf8');
  } catch (error) {
    throw unusable(path, messageOf(error));
  }
}

function fieldsOf(text: string, path: string): Partial<Record<(typeof FIELDS)[number], string>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message would quote what is there.
    throw unusable(path, 'it is not JSON');
  }
  const fields: Partial<Record<(typeof FIELDS)[number], string>> = {};
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw unusable(path, 'expected a JSON object');
  for (const [key, field] of Object.entries(value) as [string, unknown][]) {
    const known = FIELDS.find((each) => each === key);
    if (known === undefined) throw unusable(path, `expected no fields but ${FIELDS.join(', ')}`);
    if (typeof field !== 'string') throw unusable(path, `field ${key}: expected a text`);
    fields[known] = field;
  }
  return fields;
}

const unusable = (path: string, reason: string): LayerdError =>
  new LayerdError('unauthorized', `the credentials ${path} cannot be used: ${reason}`);
