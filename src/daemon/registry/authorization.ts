import { LayerdError } from '../../protocol/errors.ts';
import { parseChallenges } from './challenge.ts';
import { ExpiringMap } from './expiring-map.ts';
import { header, type HttpRequest, type HttpResponse, type Send } from './http.ts';
import type { Credentials } from './registry.ts';
import { basicAuthorization, type TokenSource } from './tokens.ts';

/** Whose access to what a request needs. */
export interface Access {
  /** Path of the repository; undefined for what is the registry's as a whole. */
  readonly repository: string | undefined;
  readonly credentials: Credentials | undefined;
  /** Set where it is to be pushed: the repository on the same registry to mount a blob from, if any. */
  readonly push?: { readonly from?: string } | undefined;
  /** Set where there is no repository: what a token is asked for. */
  readonly scopes?: readonly string[] | undefined;
  /**
   * Set for a login: the credentials are tried now, whatever is known of them, and it is told the identity token that the
   * token server gives for them.
   */
  readonly onIdentity?: ((identityToken: string) => void) | undefined;
}

/** How a registry wants a repository's requests to be authorized, as its last challenge said. */
type Demand =
  | { readonly scheme: 'basic' }
  | {
      readonly scheme: 'bearer';
      readonly realm: URL;
      readonly service: string | undefined;
      readonly scopes: readonly string[];
      readonly reach: 'anywhere' | 'public';
    };

const MAX_DEMANDS = 1000;
/** Scopes of one challenge that are honoured. */
const MAX_SCOPES = 16;

/**
 * Authorizes requests: unasked where a challenge for the repository is known, else in answer to the first one. A token
 * that the registry no longer takes, perhaps because it expired in the middle of a pull, is replaced once.
 */
export class Authorizer {
  readonly #tokens: TokenSource;
  readonly #demands: ExpiringMap<Demand>;

  constructor(options: { tokens: TokenSource; now: () => number }) {
    this.#tokens = options.tokens;
    this.#demands = new ExpiringMap({ limit: MAX_DEMANDS, now: options.now });
  }

  async send(send: Send, request: HttpRequest, access: Access): Promise<HttpResponse> {
    const key = JSON.stringify([request.url.host, access.repository, access.push, access.scopes]);
    const known = access.onIdentity === undefined ? this.#demands.get(key) : undefined;
    const sent = known === undefined ? registryToken(access) : await this.#answer(known, request, access, undefined);
    const response = await send(authorized(request, sent));
    if (response.status !== 401 || !isFromRegistry(request, response)) return response;
    const demand = this.#read(response, access);
    if (demand === undefined) return response;
    this.#demands.set(key, demand);
    const rejected = sent?.startsWith('Bearer ') === true ? sent.slice('Bearer '.length) : undefined;
    const answer = await this.#answer(demand, request, access, rejected);
    // Nothing new to say: the refusal stands.
    if (answer === undefined || answer === sent) return response;
    await response.discard();
    return send(authorized(request, answer));
  }

  /** The Authorization header that a demand asks for; undefined when there is nothing to send. */
  async #answer(
    demand: Demand,
    request: HttpRequest,
    access: Access,
    rejected: string | undefined,
  ): Promise<string | undefined> {
    const { credentials } = access;
    const given = registryToken(access);
    if (given !== undefined) return given;
    if (demand.scheme === 'basic') return basicAuthorization(credentials);
    const { realm, service, scopes, reach } = demand;
    const { insecure, signal } = request;
    const asked = { endpoint: request.url.host, realm, service, scopes, credentials, insecure, reach };
    if (access.onIdentity === undefined) return `Bearer ${await this.#tokens.get(asked, { signal, rejected })}`;
    const { token, identityToken } = await this.#tokens.logIn(asked, signal);
    if (identityToken !== undefined) access.onIdentity(identityToken);
    return `Bearer ${token}`;
  }

  #read(response: HttpResponse, access: Access): Demand | undefined {
    const challenges = parseChallenges(header(response, 'www-authenticate') ?? '');
    const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
    if (bearer !== undefined) {
      const realm = URL.parse(bearer.parameters.get('realm') ?? '', response.url);
      if (realm === null || (realm.protocol !== 'https:' && realm.protocol !== 'http:')) {
        throw new LayerdError('unavailable', `${response.url.host} asks for a token from what is no URL`);
      }
      // A user name in the realm would be sent in place of the user's own.
      realm.username = '';
      realm.password = '';
      return {
        scheme: 'bearer',
        realm,
        service: bearer.parameters.get('service'),
        scopes: scopesOf(access, bearer.parameters.get('scope')),
        // As for redirects: what a public registry names must not be inside of our network.
        reach: response.public ? 'public' : 'anywhere',
      };
    }
    return challenges.some(({ scheme }) => scheme === 'basic') ? { scheme: 'basic' } : undefined;
  }
}

/**
 * Answers the theft of credentials by whoever serves the blobs: a challenge counts only when it comes from the registry
 * itself. A host that we were redirected to may say 401, and would name a realm of its own to have the password sent to.
 */
function isFromRegistry(request: HttpRequest, response: HttpResponse): boolean {
  return [request.url.origin, request.alternative?.origin].includes(response.url.origin);
}

/** What a token is asked for, whatever the challenge says. */
function scopesOf({ repository, push, scopes }: Access, asked: string | undefined): readonly string[] {
  if (repository === undefined) return scopes ?? [];
  return push === undefined ? pullScopes(asked, repository) : pushScopes(repository, push.from);
}

/**
 * Answers a registry that asks for more than it needs: a pull gets a token for pulling, and a registry that was taken
 * over cannot have one made with which it pushes or deletes in the user's name.
 */
export function pullScopes(text: string | undefined, repository: string): string[] {
  const asked = (text ?? '').split(' ').filter((scope) => scope !== '');
  const scopes = asked.slice(0, MAX_SCOPES).flatMap((scope) => {
    const at = scope.lastIndexOf(':');
    const actions = scope.slice(at + 1).split(',');
    const pulls =
      /^repository(?:\([\w-]+\))?:./.test(scope.slice(0, at)) &&
      actions.some((each) => each === 'pull' || each === '*');
    return pulls ? [`${scope.slice(0, at)}:pull`] : [];
  });
  return scopes.length > 0 ? scopes : [`repository:${repository}:pull`];
}

/**
 * The same for a push: whatever the registry asks for, its token is good for pushing to the one repository that the user
 * named, and for reading the one that a blob is mounted from. Tokens are kept by scope, so that this one never serves a
 * pull.
 */
export function pushScopes(repository: string, from: string | undefined): string[] {
  return [`repository:${repository}:pull,push`, ...(from === undefined ? [] : [`repository:${from}:pull`])];
}

/** A token that the client brought along is used as it is. */
function registryToken({ credentials }: Access): string | undefined {
  const token = credentials?.registryToken ?? '';
  return token === '' ? undefined : `Bearer ${token}`;
}

function authorized(request: HttpRequest, authorization: string | undefined): HttpRequest {
  return authorization === undefined ? request : { ...request, headers: { ...request.headers, authorization } };
}
