import { LayerdError, type ErrorKind } from '../protocol/errors.ts';
import { CERTIFICATE_DEMANDED, NOT_TLS, tlsFailure, UNKNOWN_AUTHORITY } from '../protocol/tls.ts';

/** A failure that the daemon reported, or that kept a request from reaching it. */
export class EngineError extends LayerdError {
  /** HTTP status of the answer; undefined when there was none, or when the failure came inside a stream. */
  readonly status: number | undefined;

  constructor(kind: ErrorKind, message: string, options: { status?: number; cause?: unknown } = {}) {
    super(kind, message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'EngineError';
    this.status = options.status;
  }
}

/** The daemon could not be reached, or the connection to it was lost. */
export class ConnectionError extends EngineError {
  /** The host as it was given: `unix:///run/layerd/layerd.sock`. */
  readonly host: string;
  /** The system's or TLS's error code: `ENOENT`, `EACCES`, `ECONNREFUSED`, `DEPTH_ZERO_SELF_SIGNED_CERT`; '' if none. */
  readonly code: string;
  /** What a daemon that closed the connection and never answered before may want. */
  readonly suspicion: 'tls' | 'client-certificate' | undefined;

  constructor(host: string, cause: unknown, suspicion?: ConnectionError['suspicion']) {
    const { code, reason } = describe(cause);
    super(code === 'EACCES' || code === 'EPERM' ? 'forbidden' : 'unavailable', `${host}: ${reason}`, { cause });
    this.name = 'ConnectionError';
    this.host = host;
    this.code = code;
    this.suspicion = code === 'ECONNRESET' || code === 'EPIPE' ? suspicion : undefined;
  }
}

/** The kind that an answer's HTTP status stands for. */
export function kindOfStatus(status: number): ErrorKind {
  return KINDS.get(status) ?? (status >= 500 ? 'internal' : 'invalid');
}

const KINDS: ReadonlyMap<number, ErrorKind> = new Map<number, ErrorKind>([
  [401, 'unauthorized'],
  [403, 'forbidden'],
  [404, 'not-found'],
  [409, 'conflict'],
  [429, 'too-many-requests'],
  [501, 'not-implemented'],
  [503, 'unavailable'],
  [507, 'no-space'],
]);

/** Code of a {@link ConnectionError} whose daemon says that it speaks TLS alone. */
export const TLS_DEMANDED = 'TLS_DEMANDED';

const REASONS: Readonly<Record<string, string>> = {
  [TLS_DEMANDED]: 'it demands TLS',
  ENOENT: 'there is no such socket',
  ENOTDIR: 'there is no such socket',
  ECONNREFUSED: 'nothing listens there',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ECONNRESET: 'the connection was lost',
  EPIPE: 'the connection was lost',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'its name could not be resolved',
  ETIMEDOUT: 'it did not answer in time',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to it',
};

function describe(cause: unknown): { code: string; reason: string } {
  if (!(cause instanceof Error)) return { code: '', reason: String(cause) };
  // Several addresses of a host were tried: the first failure speaks for all.
  if (cause instanceof AggregateError && cause.errors.length > 0) return describe(cause.errors[0]);
  const tls = tlsFailure(cause);
  const code = tls?.code ?? ('code' in cause && typeof cause.code === 'string' ? cause.code : '');
  return { code, reason: REASONS[code] ?? tlsReason(code) ?? tls?.reason ?? cause.message };
}

function tlsReason(code: string): string | undefined {
  if (UNKNOWN_AUTHORITY.has(code)) return 'its certificate is signed by an unknown authority';
  if (CERTIFICATE_DEMANDED.has(code)) return 'it demands a client certificate that it trusts';
  return NOT_TLS.has(code) ? 'it does not speak TLS' : undefined;
}
