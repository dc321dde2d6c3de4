import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { CERTIFICATE_DEMANDED, NOT_TLS, tlsFailure, UNKNOWN_AUTHORITY } from '../../protocol/tls.ts';

/** Nobody answered, or not to the end. */
export class ConnectionError extends LayerdError {
  /** Whether the next try may well succeed. */
  readonly transient: boolean;
  /** Whether nothing listens at the address. */
  readonly refused: boolean;

  constructor(message: string, options: { transient: boolean; refused?: boolean; cause?: unknown }) {
    super('unavailable', message, { cause: options.cause });
    this.name = 'ConnectionError';
    this.transient = options.transient;
    this.refused = options.refused ?? false;
  }
}

const BAD_CERTIFICATE: ReadonlySet<string> = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REVOKED',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'HOSTNAME_MISMATCH',
]);

/**
 * What came of a connection, in words that say what to do; the phrases are those that Go's net/http has for it. `proxy` is
 * the one that the connection went through, without its password.
 */
export function connectionError(
  error: unknown,
  url: URL,
  timeouts: { headers: number; stall: number },
  proxy: string | undefined,
): LayerdError {
  if (error instanceof LayerdError) return error;
  const { host } = url;
  // Where there is a proxy, it is the one that could not be reached.
  const unreachable = `cannot reach ${host}${proxy === undefined ? '' : ` through the proxy ${proxy}`}`;
  const code = codeOf(error);
  const fail = (message: string, transient: boolean): ConnectionError =>
    new ConnectionError(message, { transient, refused: code === 'ECONNREFUSED', cause: error });
  if (UNKNOWN_AUTHORITY.has(code)) {
    return fail(
      `cannot verify ${host}: certificate signed by unknown authority; put the authority's certificate into certs.d/${host}/ca.crt`,
      false,
    );
  }
  if (CERTIFICATE_DEMANDED.has(code)) {
    return fail(
      `${host} demands a client certificate that it trusts; put it into certs.d/${host}/client.cert and its key beside it into client.key`,
      false,
    );
  }
  if (BAD_CERTIFICATE.has(code)) return fail(`cannot verify ${host}: ${messageOf(error)}`, false);
  if (NOT_TLS.has(code)) {
    return fail(
      `cannot reach ${host}: server gave HTTP response to HTTPS client; if it has no TLS, add it to insecure-registries`,
      false,
    );
  }
  switch (code) {
    case 'ENOTFOUND':
      return fail(`${unreachable}: no such host`, false);
    case 'EAI_AGAIN':
      return fail(`${unreachable}: temporary failure in name resolution`, true);
    case 'ECONNREFUSED':
      return fail(`${unreachable}: connection refused`, true);
    case 'UND_ERR_CONNECT_TIMEOUT':
      return fail(`${unreachable}: connecting timed out`, true);
    case 'UND_ERR_HEADERS_TIMEOUT':
      return fail(`${host} did not answer within ${timeouts.headers / 1000} s`, true);
    case 'UND_ERR_BODY_TIMEOUT':
      return fail(`${host} stalled: no byte came for ${timeouts.stall / 1000} s`, true);
    default:
      return fail(`the connection to ${host} failed: ${reasonOf(error)}`, true);
  }
}

/** The code of an error, or of the one it wraps. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const { code, cause } = error as Error & { code?: unknown };
  const own = tlsFailure(error)?.code ?? code;
  return typeof own === 'string' ? own : codeOf(cause);
}

/** The message of an error; of OpenSSL's, the part that says what it is. */
function reasonOf(error: unknown): string {
  return (error instanceof Error ? tlsFailure(error)?.reason : undefined) ?? messageOf(error);
}
