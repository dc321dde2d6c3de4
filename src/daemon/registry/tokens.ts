import { createHash } from 'node:crypto';
import { LayerdError } from '../../protocol/errors.ts';
import { ExpiringMap } from './expiring-map.ts';
import { describeUrl, readBody, type HttpResponse, type Send } from './http.ts';
import { describeReason, reasonOf } from './reason.ts';
import type { Credentials } from './registry.ts';
import { SingleFlight } from './single-flight.ts';

/** What a token is asked for. */
export interface TokenRequest {
  /** Host of the registry's endpoint that will get the token. */
  readonly endpoint: string;
  readonly realm: URL;
  readonly service: string | undefined;
  /** `repository:library/redis:pull` */
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
  /** Whether the registry may be spoken to over plain HTTP. */
  readonly insecure: boolean;
  /** `public` when the realm was named by a public host. */
  readonly reach: 'anywhere' | 'public';
}

/** Seconds that a token without `expires_in` is good for (distribution token specification). */
const DEFAULT_LIFE = 60;
/** A token is replaced so long before its end, in milliseconds, or at three quarters of a short life. */
const EARLY = 10_000;
const MAX_TOKENS = 1000;
/** Bytes of a token server's answer: 256 KiB. Tokens with many groups or scopes reach tens of kilobytes. */
const MAX_ANSWER_BYTES = 256 * 1024;
/** What we call ourselves in OAuth2. */
const CLIENT_ID = 'layerd';

interface Token {
  readonly value: string;
  /** Milliseconds. */
  readonly life: number;
}

/** Gets bearer tokens from the realms of registries, keeps them while they last, and asks for each one only once. */
export class TokenSource {
  readonly #send: Send;
  readonly #now: () => number;
  readonly #tokens: ExpiringMap<string>;
  readonly #flights = new SingleFlight<string>();

  constructor(options: { send: Send; now: () => number }) {
    this.#send = options.send;
    this.#now = options.now;
    this.#tokens = new ExpiringMap({ limit: MAX_TOKENS, now: options.now });
  }

  /** A token. `rejected`: one that the registry no longer takes, whatever its expiry says. */
  async get(
    request: TokenRequest,
    options: { signal?: AbortSignal | undefined; rejected?: string | undefined },
  ): Promise<string> {
    const key = keyOf(request);
    const known = this.#tokens.get(key);
    if (known !== undefined && known !== options.rejected) return known;
    return this.#flights.join(key, options.signal, async (signal) => {
      const token = await this.#fetch(request, signal);
      this.#tokens.set(key, token.value, token.life - Math.min(EARLY, token.life / 4));
      return token.value;
    });
  }

  async #fetch(request: TokenRequest, signal: AbortSignal): Promise<Token> {
    refuseInsecureRealm(request);
    const { realm, service, scopes, credentials, insecure, reach } = request;
    const parameters: [string, string][] = service === undefined ? [] : [['service', service]];
    const common = { insecure, reach, signal, document: { what: 'a token', limit: MAX_ANSWER_BYTES } };
    let response: HttpResponse;
    if (credentials?.identityToken !== undefined && credentials.identityToken !== '') {
      parameters.push(
        ['grant_type', 'refresh_token'],
        ['refresh_token', credentials.identityToken],
        ['client_id', CLIENT_ID],
        ['scope', scopes.join(' ')],
      );
      response = await this.#send({
        ...common,
        method: 'POST',
        url: realm,
        headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(parameters).toString(),
      });
    } else {
      const username = credentials?.username;
      parameters.push(...scopes.map((scope): [string, string] => ['scope', scope]));
      if (username !== undefined && username !== '') parameters.push(['account', username]);
      const url = new URL(realm);
      for (const [name, value] of parameters) url.searchParams.append(name, value);
      const authorization = basicAuthorization(credentials);
      response = await this.#send({
        ...common,
        method: 'GET',
        url,
        headers: { accept: 'application/json', ...(authorization === undefined ? {} : { authorization }) },
      });
    }
    if (response.status !== 200) throw await tokenRefusal(response, realm);
    return this.#parse(await readBody(response, MAX_ANSWER_BYTES, 'a token'), realm);
  }

  #parse(body: Buffer, realm: URL): Token {
    const answer = parseAnswer(body);
    const value = [answer['token'], answer['access_token']].find((each) => typeof each === 'string' && each !== '');
    // The token becomes a header: a line break in it would add headers of the token server's making.
    if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) {
      throw new LayerdError('unavailable', `${describeUrl(realm)} answered without a usable token`);
    }
    const seconds = answer['expires_in'];
    const life = (typeof seconds === 'number' && seconds > 0 ? seconds : DEFAULT_LIFE) * 1000;
    return { value, life: life - this.#age(answer['issued_at'], life) };
  }

  /** How old a token came. A clock that is so far from ours that the token could not be good is not believed. */
  #age(issuedAt: unknown, life: number): number {
    const age = typeof issuedAt === 'string' ? this.#now() - Date.parse(issuedAt) : 0;
    return age > 0 && age < life ? age : 0;
  }
}

/** The header of Basic authentication; undefined without user name and password. */
export function basicAuthorization(credentials: Credentials | undefined): string | undefined {
  const { username = '', password = '' } = credentials ?? {};
  if (username === '' || password === '') return undefined;
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/**
 * Tokens of one user are never given to another: the credentials are part of what a token is kept under, as a hash, so
 * that they themselves are not held longer than the request they came with.
 */
function keyOf({ endpoint, realm, service, scopes, credentials }: TokenRequest): string {
  const { username, password, identityToken } = credentials ?? {};
  const identity = createHash('sha256')
    .update(JSON.stringify([username, password, identityToken]))
    .digest('base64');
  return JSON.stringify([endpoint, realm.href, service, scopes, identity]);
}

/**
 * Answers eavesdropping: a registry that is spoken to over TLS must not have us send the password, or get the token,
 * over a wire that others read.
 */
function refuseInsecureRealm({ realm, insecure, endpoint }: TokenRequest): void {
  if (realm.protocol === 'https:' || insecure) return;
  throw new LayerdError(
    'forbidden',
    `${endpoint} wants tokens to be fetched over plain HTTP, from ${describeUrl(realm)}; it would have to be in insecure-registries`,
  );
}

async function tokenRefusal(response: HttpResponse, realm: URL): Promise<LayerdError> {
  const reason = await reasonOf(response);
  const { status } = response;
  // OAuth2 says 400 of a refresh token that is no longer good (RFC 6749 section 5.2).
  const kind = status === 401 || status === 400 ? 'unauthorized' : status === 403 ? 'forbidden' : undefined;
  return new LayerdError(
    kind ?? (status === 429 ? 'too-many-requests' : 'unavailable'),
    `Get "${describeUrl(realm)}": ${describeReason(reason)}`,
  );
}

function parseAnswer(body: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(body.toString());
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    // Told by the caller as an answer without a token.
    return {};
  }
}
