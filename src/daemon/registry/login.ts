import { LayerdError, type ErrorKind } from '../../protocol/errors.ts';
import type { Endpoint } from './endpoints.ts';
import type { Exchange } from './exchange.ts';
import { describeUrl, type HttpResponse } from './http.ts';
import { describeReason, reasonOf } from './reason.ts';
import type { RequestOptions } from './registry.ts';

const KINDS: ReadonlyMap<number, ErrorKind> = new Map([
  [401, 'unauthorized'],
  [403, 'forbidden'],
  [429, 'too-many-requests'],
]);

/**
 * Tries an account at a registry: what its base path demands is answered with the credentials (OCI distribution spec,
 * "Determining Support"). Resolves with the identity token that takes the place of the password from then on, where the
 * registry's token server gives one. A registry that demands nothing takes any account.
 */
export async function logIn(
  exchange: Exchange,
  endpoint: Endpoint,
  { credentials, signal }: RequestOptions,
): Promise<string | undefined> {
  let identityToken: string | undefined;
  const response = await exchange(endpoint, {
    method: 'GET',
    path: '/v2/',
    scopes: [],
    onIdentity: (token) => (identityToken = token),
    credentials,
    signal,
  });
  if (response.status !== 200) throw await loginRefusal(response);
  await response.discard();
  return identityToken;
}

async function loginRefusal(response: HttpResponse): Promise<LayerdError> {
  const { status, url } = response;
  const text = describeReason(await reasonOf(response));
  const advice = status === 401 ? '; check user name and password' : status === 404 ? '; is it a registry?' : '';
  return new LayerdError(
    KINDS.get(status) ?? 'unavailable',
    `login attempt to ${describeUrl(url)} failed with status ${status}: ${text}${advice}`,
  );
}
