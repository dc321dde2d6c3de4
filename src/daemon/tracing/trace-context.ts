/** Which span of which trace, as it crosses hosts: W3C Trace Context. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  readonly isSampled: boolean;
  /** The header `tracestate`, which is handed on as it is. */
  readonly state: string | undefined;
}

/** Characters of a `tracestate` that are handed on at least, as the specification wants it; a longer one is dropped. */
const MAX_STATE = 512;
const SAMPLED = 1;

/** Reads a caller's headers; undefined where there are none, or none that are valid. */
export function parseTraceContext({
  traceparent = '',
  tracestate,
}: {
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}): TraceContext | undefined {
  const [, version = '', traceId = '', spanId = '', flags = '', more] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(traceparent) ?? [];
  // Later versions may say more; the first must not.
  if (version === '' || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  const state = tracestate === undefined || tracestate.length > MAX_STATE ? undefined : tracestate;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0, state };
}

/** The header `traceparent`. */
export function formatTraceparent({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? '01' : '00'}`;
}
