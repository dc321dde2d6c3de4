import { createSign, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { listen } from './listen.ts';

export interface TokenServerOptions {
  /** PEM of the key that signs and of its certificate, which the registry trusts. */
  readonly key: string;
  readonly certificate: string;
  readonly account: { readonly username: string; readonly password: string };
  /** Seconds that a token is good for; 0 leaves `expires_in` out of the answer. Default 300. */
  readonly expiresIn?: number;
  /** Whether pulls are given without credentials. Default true. */
  readonly anonymousPull?: boolean;
  /**
   * How it gives refresh tokens: `oauth2` by a POST with the password, `get` to whoever asks for one with a GET; both take
   * them by a POST. Without, it looks at no POST's body, and answers as to a GET.
   */
  readonly refreshTokens?: 'oauth2' | 'get' | undefined;
}

/** What was asked of the token server. */
export interface TokenRequest {
  readonly scopes: readonly string[];
  readonly account: string | undefined;
  readonly granted: boolean;
  /** OAuth2's grant, of a POST. */
  readonly grant?: string;
}

/** An authorization server as the distribution project's token specification describes it. */
export interface TokenServer extends AsyncDisposable {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  readonly requests: TokenRequest[];
  /** Seconds that tokens given from now on are good for. */
  expiresIn: number;
  /** The refresh token that it gives and takes. */
  refreshToken: string;
}

export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const { account } = options;
  const issuer = 'layerd-test-issuer';
  const service = 'layerd-test-registry';
  const requests: TokenRequest[] = [];
  const basic = `Basic ${Buffer.from(`${account.username}:${account.password}`).toString('base64')}`;
  const x5c = [options.certificate.replaceAll(/-----[A-Z ]+-----|\s/g, '')];
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const sign = (claims: object): string => {
    const signed = `${part({ typ: 'JWT', alg: 'RS256', x5c })}.${part(claims)}`;
    return `${signed}.${createSign('RSA-SHA256').update(signed).sign(options.key, 'base64url')}`;
  };
  const tokenServer = { expiresIn: options.expiresIn ?? 300, refreshToken: randomUUID() };
  const server = createServer((request, response) => void answer(request, response));
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.setHeader('Content-Type', 'application/json');
    const isGrant = request.method === 'POST' && options.refreshTokens !== undefined;
    const parameters = isGrant
      ? new URLSearchParams(await text(request))
      : new URL(request.url ?? '/', 'http://localhost').searchParams;
    const grant = parameters.get('grant_type') ?? '';
    if (isGrant && options.refreshTokens === 'get' && grant === 'password') {
      response.writeHead(404).end();
      return;
    }
    const scopes = parameters.getAll('scope').flatMap((scope) => scope.split(' '));
    const known = isGrant
      ? grant === 'password'
        ? parameters.get('username') === account.username && parameters.get('password') === account.password
        : parameters.get('refresh_token') === tokenServer.refreshToken
      : request.headers.authorization === basic;
    const anonymous = !isGrant && request.headers.authorization === undefined;
    const refused = anonymous ? options.anonymousPull === false : !known;
    const as = known ? account.username : undefined;
    requests.push({ scopes, account: as, granted: !refused, ...(isGrant ? { grant } : {}) });
    if (refused) {
      response.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED","message":"wrong user name or password"}]}');
      return;
    }
    const access = scopes.map((scope) => {
      const [type, ...rest] = scope.split(':');
      const actions = (rest.pop() ?? '').split(',').filter((action) => known || action === 'pull');
      return { type, name: rest.join(':'), actions };
    });
    const now = Math.floor(Date.now() / 1000);
    const life = tokenServer.expiresIn || 60;
    const token = sign({
      iss: issuer,
      aud: service,
      sub: known ? account.username : '',
      iat: now,
      nbf: now - 5,
      exp: now + life,
      jti: randomUUID(),
      access,
    });
    const wantsRefresh = isGrant
      ? parameters.get('access_type') === 'offline'
      : parameters.get('offline_token') === 'true' && options.refreshTokens === 'get';
    response.end(
      JSON.stringify({
        [isGrant ? 'access_token' : 'token']: token,
        ...(tokenServer.expiresIn > 0 ? { expires_in: life } : {}),
        ...(wantsRefresh && known ? { refresh_token: tokenServer.refreshToken } : {}),
      }),
    );
  };
  const { host, close } = await listen(server);
  return Object.assign(tokenServer, {
    realm: `http://${host}/token`,
    service,
    issuer,
    requests,
    [Symbol.asyncDispose]: close,
  });
}
