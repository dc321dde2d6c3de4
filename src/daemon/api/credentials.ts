import type { IncomingMessage } from 'node:http';
import type { Credentials } from '../registry/registry.ts';

/**
 * The credentials of X-Registry-Auth: base64url (or, from some clients, plain base64) of a JSON object. Clients send
 * the header empty, as `{}` or malformed when they have none, and dockerd takes all of those for anonymous; so do we.
 */
export function credentialsOf(request: IncomingMessage): Credentials | undefined {
  const header = request.headers['x-registry-auth'];
  if (typeof header !== 'string' || header === '') return undefined;
  const fields = decode(header);
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
