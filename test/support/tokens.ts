import { createSign, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
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
}

/** What was asked of the token server. */
export interface TokenRequest {
  readonly scopes: readonly string[];
  readonly account: string | undefined;
  readonly granted: boolean;
}

/** An authorization server as the distribution project's token specification describes it. */
export interface TokenServer extends AsyncDisposable {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  readonly requests: TokenRequest[];
  /** Seconds that tokens given from now on are good for. */
  expiresIn: number;
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
  const tokenServer = { expiresIn: options.expiresIn ?? 300 };
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const scopes = url.searchParams.getAll('scope').flatMap((scope) => scope.split(' '));
    const known = request.headers.authorization === basic;
    const refused = request.headers.authorization !== undefined ? !known : options.anonymousPull === false;
    requests.push({ scopes, account: known ? account.username : undefined, granted: !refused });
    response.setHeader('Content-Type', 'application/json');
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
    response.end(JSON.stringify({ token, ...(tokenServer.expiresIn > 0 ? { expires_in: life } : {}) }));
  });
  const { host, close } = await listen(server);
  return Object.assign(tokenServer, {
    realm: `http://${host}/token`,
    service,
    issuer,
    requests,
    [Symbol.asyncDispose]: close,
  });
}
