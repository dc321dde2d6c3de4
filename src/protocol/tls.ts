/** OpenSSL's errors as Node words them: thread, number, library, function, reason, file and line. */
const OPENSSL = /\b[0-9A-F]+:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/;

/** What ended a TLS connection. */
export interface TlsFailure {
  /** Node's code for it: `ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED`. */
  readonly code: string;
  /** OpenSSL's words: `tlsv13 alert certificate required`. */
  readonly reason: string;
}

/**
 * What OpenSSL says in an error; undefined where it says nothing. Node has a code of its own for what comes while reading
 * and EPROTO for the same while writing, so that which of them a failure has is a matter of timing: here it has one.
 */
export function tlsFailure({ message }: Error): TlsFailure | undefined {
  const reason = OPENSSL.exec(message)?.[1];
  if (reason === undefined) return undefined;
  return { code: `ERR_SSL_${reason.toUpperCase().replaceAll(' ', '_')}`, reason };
}

/** Codes of a peer that speaks something else than TLS. */
export const NOT_TLS: ReadonlySet<string> = new Set(['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG']);

/** Codes of a certificate whose authority is not known here. */
export const UNKNOWN_AUTHORITY: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/**
 * Codes of a peer that wants a certificate that it trusts, and was shown another or none: before TLS 1.3 it had no word
 * to tell them apart, and Go's servers did not use that word for long.
 */
export const CERTIFICATE_DEMANDED: ReadonlySet<string> = new Set([
  'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
  'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
  'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
  'ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_REVOKED',
  'ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_UNKNOWN',
  'ERR_SSL_SSL/TLS_ALERT_UNSUPPORTED_CERTIFICATE',
]);
