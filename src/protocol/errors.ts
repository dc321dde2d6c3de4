/**
 * What class of failure an error is. It is chosen where the failure is understood; only the API turns it into a status.
 */
export type ErrorKind =
  | 'invalid' // the request is malformed or asks for something impossible
  | 'unauthorized' // credentials are missing or were refused
  | 'forbidden' // credentials were accepted, the action is not allowed
  | 'not-found'
  | 'conflict' // the present state does not allow it
  | 'not-implemented' // a known endpoint or option that layerd does not have
  | 'unavailable' // a dependency (registry, network) failed; trying again may help
  | 'too-many-requests' // a registry limits us
  | 'no-space' // the disk is full or read-only
  | 'corrupt' // content does not match its digest, size or format
  | 'cancelled' // whoever asked went away
  | 'internal';

/** An error that knows its class. The message says what was asked, what happened, and what to do. */
export class LayerdError extends Error {
  readonly kind: ErrorKind;
  /** How long whoever refused asks us to wait, in milliseconds. */
  readonly retryAfter: number | undefined;

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown; retryAfter?: number | undefined }) {
    super(message, options);
    this.name = 'LayerdError';
    this.kind = kind;
    this.retryAfter = options?.retryAfter;
  }
}

/** Whether the value is an error of the given class. */
export function isKind(error: unknown, kind: ErrorKind): error is LayerdError {
  return error instanceof LayerdError && error.kind === kind;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
