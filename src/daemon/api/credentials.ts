import type { IncomingMessage } from 'node:http';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { parseServerAddress } from '../../protocol/reference.ts';
import type { Credentials } from '../registry/registry.ts';
import { parseFields, readBody } from './body.ts';

/** Credentials in a body, in bytes: 64 KiB. */
const MAX_BODY_BYTES = 64 * 1024;

/**
 * The credentials of X-Registry-Auth, or of another header of its form: base64url (or, from some clients, plain base64) of a
 * JSON object. Clients send the header empty, as `{}` or malformed when they have none, and dockerd takes all of those for
 * anonymous; so do we.
 */
export function credentialsOf(request: IncomingMessage, name = 'x-registry-auth'): Credentials | undefined {
  const header = request.headers[name];
  if (typeof header !== 'string' || header === '') return undefined;
  return credentialsIn(decode(header));
}

/**
 * The credentials of X-Registry-Config, in the form of a build's: base64url of a JSON object of accounts by the addresses of
 * their registries. What is malformed in it is taken for no account, as in X-Registry-Auth. Throws `invalid` for an account
 * at what is no address.
 */
export function credentialsByRegistry(request: IncomingMessage): (registry: string) => Credentials | undefined {
  const header = request.headers['x-registry-config'];
  const accounts = new Map<string, Credentials>();
  for (const [address, fields] of Object.entries(typeof header === 'string' ? decode(header) : {})) {
    const credentials =
      typeof fields === 'object' && fields !== null ? credentialsIn(fields as Record<string, unknown>) : undefined;
    if (credentials !== undefined) accounts.set(parseServerAddress(address), credentials);
  }
  return (registry) => accounts.get(registry);
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

/** What a login asks for: an account at a registry. */
export interface Login {
  readonly registry: string;
  readonly credentials: Credentials;
}

const LOGIN_FIELDS: readonly string[] = [
  'username',
  'password',
  'auth',
  'serveraddress',
  'identitytoken',
  'registrytoken',
];

/** The login in a body (`AuthConfig`). Throws `invalid`, naming the field that is wrong. */
export async function loginOf(request: IncomingMessage): Promise<Login> {
  const fields = parseFields((await readBody(request, MAX_BODY_BYTES))?.toString() ?? '');
  if (fields === undefined) {
    throw new LayerdError('invalid', 'the body is not an account: expected a JSON object with username and password');
  }
  for (const name of LOGIN_FIELDS) {
    const value = fields[name] ?? '';
    if (typeof value !== 'string') throw new LayerdError('invalid', `field ${name}: expected a string`);
  }
  const credentials = credentialsIn(fields) ?? {};
  const { username, password, identityToken, registryToken } = credentials;
  if (identityToken === undefined && registryToken === undefined) {
    const missing = username === undefined ? 'username' : password === undefined ? 'password' : undefined;
    if (missing !== undefined) {
      throw new LayerdError(
        'invalid',
        `field ${missing}: missing; expected username and password, or an identitytoken`,
      );
    }
  }
  try {
    return { registry: parseServerAddress(text(fields['serveraddress']) ?? ''), credentials };
  } catch (error) {
    throw new LayerdError('invalid', `field serveraddress: ${messageOf(error)}`, { cause: error });
  }
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
  // Node's decoder of base64 takes both alphabets.
  return parseFields(Buffer.from(header, 'base64').toString()) ?? {};
}

/** `auth` holds base64 of `username:password`, as in the client's config file. */
function splitBasic(auth: unknown): [string?, string?] {
  if (typeof auth !== 'string') return [];
  const pair = Buffer.from(auth, 'base64').toString();
  const colon = pair.indexOf(':');
  return colon === -1 ? [] : [pair.slice(0, colon), pair.slice(colon + 1)];
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
