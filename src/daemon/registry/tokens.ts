import { createHash } from 'node:crypto';
import { LayerdError } from '../../protocol/errors.ts';
import { ExpiringMap } from './expiring-map.ts';
import { describeUrl, readBody, type HttpResponse, type Send } from './http.ts';
import { parseObject } from './pages.ts';
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
  /** The refresh token that came along. */
  readonly refresh: string | undefined;
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

  /**
   * A token got with the credentials as they are now, and the identity token by which later ones are to be got instead of
   * the password, where the token server gives one.
   */
  async logIn(
    request: TokenRequest,
    signal: AbortSignal | undefined,
  ): Promise<{ token: string; identityToken: string | undefined }> {
    const given = nonEmpty(request.credentials?.identityToken);
    const granted = given === undefined ? await this.#grantForPassword(request, signal) : undefined;
    const { value, refresh } = granted ?? (await this.#fetch(request, signal, 'offline'));
    return { token: value, identityToken: refresh ?? given };
  }

  /**
   * A token and a refresh token for user name and password (OAuth2, RFC 6749 section 4.3). Undefined where the server does
   * not give both: many know GET alone, and say so by all kinds of statuses, or do not look at what is posted and answer
   * with what they would give to anybody, which must not be taken for a login.
   */
  async #grantForPassword(request: TokenRequest, signal: AbortSignal | undefined): Promise<Token | undefined> {
    const { username = '', password = '' } = request.credentials ?? {};
    if (username === '' || password === '') return undefined;
    const response = await this.#post(request, signal, {
      grant_type: 'password',
      access_type: 'offline',
      username,
      password,
    });
    if (response.status !== 200) {
      await response.discard();
      return undefined;
    }
    const answer = await answerOf(response);
    return usableToken(answer['refresh_token']) === undefined ? undefined : this.#tokenOf(answer, request.realm);
  }

  /** `offline`: with a refresh token where the server gives one. */
  async #fetch(request: TokenRequest, signal: AbortSignal | undefined, access?: 'offline'): Promise<Token> {
    const identityToken = nonEmpty(request.credentials?.identityToken);
    const response =
      identityToken === undefined
        ? await this.#get(request, signal, access)
        : await this.#post(request, signal, { grant_type: 'refresh_token', refresh_token: identityToken });
    if (response.status !== 200) throw await tokenRefusal(response, request.realm);
    return this.#tokenOf(await answerOf(response), request.realm);
  }

  /** OAuth2's way to get a token. */
  #post(
    request: TokenRequest,
    signal: AbortSignal | undefined,
    grant: Readonly<Record<string, string>>,
  ): Promise<HttpResponse> {
    refuseInsecureRealm(request);
    const { realm, service, scopes } = request;
    const parameters = new URLSearchParams(service === undefined ? {} : { service });
    for (const [name, value] of Object.entries({ ...grant, client_id: CLIENT_ID })) parameters.append(name, value);
    if (scopes.length > 0) parameters.append('scope', scopes.join(' '));
    return this.#send({
      ...common(request, signal),
      method: 'POST',
      url: realm,
      headers: { accept: 'application/json', 'content-type': 'application/x-www-form-urlencoded' },
      body: parameters.toString(),
    });
  }

  /** The distribution project's way to get a token. */
  #get(request: TokenRequest, signal: AbortSignal | undefined, access: 'offline' | undefined): Promise<HttpResponse> {
    refuseInsecureRealm(request);
    const { realm, service, scopes, credentials } = request;
    const username = nonEmpty(credentials?.username);
    const url = new URL(realm);
    if (service !== undefined) url.searchParams.append('service', service);
    for (const scope of scopes) url.searchParams.append('scope', scope);
    if (username !== undefined) url.searchParams.append('account', username);
    if (access === 'offline') {
      url.searchParams.append('offline_token', 'true');
      url.searchParams.append('client_id', CLIENT_ID);
    }
    const authorization = basicAuthorization(credentials);
    return this.#send({
      ...common(request, signal),
      method: 'GET',
      url,
      headers: { accept: 'application/json', ...(authorization === undefined ? {} : { authorization }) },
    });
  }

  #tokenOf(answer: Readonly<Record<string, unknown>>, realm: URL): Token {
    const value = [answer['token'], answer['access_token']].find((each) => typeof each === 'string' && each !== '');
    const token = usableToken(value);
    if (token === undefined) {
      throw new LayerdError('unavailable', `${describeUrl(realm)} answered without a usable token`);
    }
    const seconds = answer['expires_in'];
    const life = (typeof seconds === 'number' && seconds > 0 ? seconds : DEFAULT_LIFE) * 1000;
    return {
      value: token,
      life: life - this.#age(answer['issued_at'], life),
      refresh: usableToken(answer['refresh_token']),
    };
  }

  /** How old a token came. A clock that is so far from ours that the token could not be good is not believed. */
  #age(issuedAt: unknown, life: number): number {
    const age = typeof issuedAt === 'string' ? this.#now() - Date.parse(issuedAt) : 0;
    return age > 0 && age < life ? age : 0;
  }
}

/** A token server's answer; one that makes no sense is told as one without a token. */
async function answerOf(response: HttpResponse): Promise<Readonly<Record<string, unknown>>> {
  return parseObject(await readBody(response, MAX_ANSWER_BYTES, 'a token')) ?? {};
}

/** What a token server gave, if it is a token: it becomes a header, to which a line break in it would add others. */
function usableToken(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value) ? value : undefined;
}

const nonEmpty = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

/** What all requests for a token have in common. */
function common({ insecure, reach }: TokenRequest, signal: AbortSignal | undefined) {
  return { insecure, reach, signal, document: { what: 'a token', limit: MAX_ANSWER_BYTES } };
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
