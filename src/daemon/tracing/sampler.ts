import type { SamplerName } from '../config/tracing.ts';
import type { TraceContext } from './trace-context.ts';

/** Whether the spans of a new trace, or of a caller's, are recorded. Spans below a span of our own follow that. */
export type Sampler = (traceId: string, caller: TraceContext | undefined) => boolean;

/** Of a trace ID the last 56 bits are random (W3C Trace Context level 2), and decide the same on each host. */
const RANDOM_DIGITS = 14;

/** The sampler of the name. `share`: from 0 to 1, of those that take one. */
export function samplerOf(name: SamplerName, share: number): Sampler {
  const taken = name.endsWith('always_on') ? 1 : name.endsWith('always_off') ? 0 : share;
  const root: Sampler = (traceId) => Number.parseInt(traceId.slice(-RANDOM_DIGITS), 16) < taken * 16 ** RANDOM_DIGITS;
  return name.startsWith('parentbased_') ? (traceId, caller) => caller?.isSampled ?? root(traceId, caller) : root;
}
