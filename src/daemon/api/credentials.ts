import type { IncomingMessage } from 'node:http';
import { LayerdError } from '../../protocol/errors.ts';
import type { Credentials } from '../registry/registry.ts';
import { readBody } from './body.ts';

/** Credentials in a body, in bytes: 64 KiB. */
const MAX_BODY_BYTES = 64 * 1024;

/**
 * The credentials of X-Registry-Auth, or of another header of its form: base64url (or, from some clients, plain base64) of a JSON object. Clients send
 * the header empty, as `{}` or malformed when they have none, and dockerd takes all of those for anonymous; so do we.
 */
export function credentialsOf(request: IncomingMessage, name = 'x-registry-auth'): Credentials | undefined {
  const header = request.headers[name];
  if (typeof header !== 'string' || header === '') return undefined;
  return credentialsIn(decode(header));
}

/**
 * The credentials of a push, which has to say whose it is, if only with an empty header's worth: in X-Registry-Auth, or in
 * the body as JSON, where some clients put it still. Throws `invalid` where there is neither, as dockerd does.
 */
export async function pushCredentials(request: IncomingMessage): Promise<Credentials | undefined> {
  if (request.headers['x-registry-auth'] !== undefined) return credentialsOf(request);
  const body = (await readBody(request, MAX_BODY_BYTES))?.toString() ?? '';
  let fields: unknown;
  try {
    fields = JSON.parse(body);
  } catch (error) {
    throw new LayerdError(
      'invalid',
      `bad parameters and missing X-Registry-Auth: send the header, as base64url of a JSON object; {} for no account`,
      { cause: error },
    );
  }
  return credentialsIn(typeof fields === 'object' && fields !== null ? (fields as Record<string, unknown>) : {});
}

function credentialsIn(fields: Record<string, unknown>): Credentials | undefined {
  const [user, secret] = splitBasic(fields['auth']);
  const known = {
    username: text(fields['username']) ?? user,
    password: text(fields['password']) ?? secret,
    identityToken: text(fields['identitytoken']),
    registryToken: text(fields['registrytoken']),
  };
  const given = Object.entries(known).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

function decode(header: string): Record<string, unknown> {
  try {
    // Node's decoder of base64 takes both alphabets.
    const value: unknown = JSON.parse(Buffer.from(header, 'base64').toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** `auth` holds base64 of `username:password`, as in the client's config file. */
function splitBasic(auth: unknown): [string?, string?] {
  if (typeof auth !== 'string') return [];
  const pair = Buffer.from(auth, 'base64').toString();
  const colon = pair.indexOf(':');
  return colon === -1 ? [] : [pair.slice(0, colon), pair.slice(colon + 1)];
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
