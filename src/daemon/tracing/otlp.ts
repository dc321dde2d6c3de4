import type { SpanRecord } from './recorder.ts';
import type { Attributes, SpanKind } from './tracer.ts';

/** As opentelemetry-proto numbers them. */
const KINDS: Readonly<Record<SpanKind, number>> = { internal: 1, server: 2, client: 3 };
const STATUS_ERROR = 2;
const SAMPLED = 1;

/** What sends the spans. */
export interface Source {
  /** What they are about: this daemon on this host. */
  readonly resource: Attributes;
  readonly scope: { readonly name: string; readonly version: string };
}

/** Spans as an ExportTraceServiceRequest in OTLP's JSON: identifiers in hexadecimal, 64-bit numbers as texts. */
export function encodeSpans({ resource, scope }: Source, spans: readonly SpanRecord[]): string {
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: keyValues(resource) },
        scopeSpans: [{ scope, spans: spans.map(encodeSpan) }],
      },
    ],
  });
}

function encodeSpan(span: SpanRecord): object {
  const { context, error } = span;
  return {
    traceId: context.traceId,
    spanId: context.spanId,
    traceState: context.state,
    parentSpanId: span.parentId,
    flags: SAMPLED,
    name: span.name,
    kind: KINDS[span.kind],
    startTimeUnixNano: span.begin.toString(),
    endTimeUnixNano: span.end.toString(),
    attributes: keyValues(span.attributes),
    events: span.events.map(({ time, name, attributes }) => ({
      timeUnixNano: time.toString(),
      name,
      attributes: keyValues(attributes),
    })),
    droppedEventsCount: span.droppedEvents,
    links: span.links.map(({ traceId, spanId, state }) => ({ traceId, spanId, traceState: state })),
    droppedLinksCount: span.droppedLinks,
    status: error === undefined ? {} : { code: STATUS_ERROR, message: error },
  };
}

function keyValues(attributes: Attributes): object[] {
  return Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: anyValue(value) }],
  );
}

function anyValue(value: string | number | boolean | readonly string[]): object {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number')
    return Number.isInteger(value) ? { intValue: value.toString() } : { doubleValue: value };
  return { arrayValue: { values: value.map(anyValue) } };
}
