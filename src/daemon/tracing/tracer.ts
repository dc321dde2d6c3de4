/** What is said of a span or an event; what is undefined is left out. */
export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** Whose work a span is: the daemon's own, a client's that it serves, or a remote host's that it asks. */
export type SpanKind = 'internal' | 'server' | 'client';

/**
 * A piece of work, as a trace shows it. Its life:
 *
 * 1. It *begins*, as a child of the span on whose account work is being done, or of one of the client's that asks.
 * 2. It *records*: attributes, events, links to spans of other traces that it is done for as well.
 * 3. It *ends*, well or with an error, and is sent to the collector some seconds later, with others. After that nothing is
 *    taken any more.
 *
 * Work is on a span's account by {@link within}, through whatever awaits. Parts are given a {@link Tracer} and know neither
 * whether anybody collects what they say, nor how. Nothing secret may be said: no credentials, no queries of URLs.
 */
export interface Span {
  /** Identifies the whole that it is part of, for the log; undefined where nobody collects. */
  readonly traceId: string | undefined;
  /** The header by which another host goes on with the trace; undefined unless other hosts are to be told of it. */
  readonly traceparent: string | undefined;
  /** Gives it another name, once more is known. */
  rename(name: string): void;
  set(attributes: Attributes): void;
  event(name: string, attributes?: Attributes): void;
  /** Says that it is done for the other one, too, or waits for it. */
  link(other: Span): void;
  /** It fails, for this error. `type`: its class, where the error does not know it. */
  fail(error: unknown, type?: string): void;
  end(): void;
  /** Does the work on its account. */
  within<T>(work: () => T): T;
}

/** Begins spans. */
export interface Tracer {
  /** The span on whose account this is done. */
  readonly current: Span;
  /** Begins a span, which the caller ends. */
  begin(name: string, options?: SpanOptions): Span;
  /** Does the work in a span that ends with it; what it throws is its error. */
  during<T>(name: string, attributes: Attributes, work: (span: Span) => T): T;
}

export interface SpanOptions {
  readonly kind?: SpanKind;
  readonly attributes?: Attributes;
  /** Headers of a client, whose trace is gone on with where there is no span above. */
  readonly caller?: { readonly traceparent?: string | undefined; readonly tracestate?: string | undefined };
}

const noSpan: Span = Object.freeze({
  traceId: undefined,
  traceparent: undefined,
  rename: () => undefined,
  set: () => undefined,
  event: () => undefined,
  link: () => undefined,
  fail: () => undefined,
  end: () => undefined,
  within: <T>(work: () => T): T => work(),
});

/** Where nobody collects. */
export const noTracer: Tracer = Object.freeze({
  current: noSpan,
  begin: () => noSpan,
  during: <T>(_name: string, _attributes: Attributes, work: (span: Span) => T): T => work(noSpan),
});
