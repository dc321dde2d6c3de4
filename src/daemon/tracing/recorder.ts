import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Sampler } from './sampler.ts';
import { formatTraceparent, parseTraceContext, type TraceContext } from './trace-context.ts';
import { noTracer, type Attributes, type Span, type SpanKind, type SpanOptions, type Tracer } from './tracer.ts';

/** Of each span so many are kept; of more only the number. A transfer may be wanted by any number of pulls. */
const MAX_EVENTS = 128;
const MAX_LINKS = 128;

const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** What is known of a span when it has ended. Times are nanoseconds since the epoch. */
export interface SpanRecord {
  readonly context: TraceContext;
  readonly parentId: string | undefined;
  readonly name: string;
  readonly kind: SpanKind;
  readonly begin: bigint;
  readonly end: bigint;
  readonly attributes: Attributes;
  readonly events: readonly { readonly time: bigint; readonly name: string; readonly attributes: Attributes }[];
  readonly droppedEvents: number;
  readonly links: readonly TraceContext[];
  readonly droppedLinks: number;
  /** What went wrong. */
  readonly error: string | undefined;
}

export interface RecorderOptions {
  readonly sampler: Sampler;
  /** Whether traces of clients are gone on with. */
  readonly continues: boolean;
  /** Whether other hosts are told of traces. */
  readonly tells: boolean;
  readonly onEnd: (record: SpanRecord) => void;
}

/** Records spans, and hands each one over as it ends. */
export class Recorder implements Tracer {
  readonly #context = new AsyncLocalStorage<RecordedSpan>();
  readonly #options: RecorderOptions;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  get current(): Span {
    return this.#context.getStore() ?? noTracer.current;
  }

  begin(name: string, { kind = 'internal', attributes = {}, caller = {} }: SpanOptions = {}): Span {
    const { sampler, continues, tells, onEnd } = this.#options;
    const parent = this.#context.getStore();
    const above = parent?.context ?? (continues ? parseTraceContext(caller) : undefined);
    const traceId = above?.traceId ?? randomBytes(TRACE_ID_BYTES).toString('hex');
    const context: TraceContext = {
      traceId,
      spanId: randomBytes(SPAN_ID_BYTES).toString('hex'),
      isSampled: parent?.context.isSampled ?? sampler(traceId, above),
      state: above?.state,
    };
    return new RecordedSpan({
      context,
      parentId: above?.spanId,
      name,
      kind,
      attributes,
      clock: parent?.clock ?? new Clock(),
      tells,
      onEnd,
      storage: this.#context,
    });
  }

  during<T>(name: string, attributes: Attributes, work: (span: Span) => T): T {
    const span = this.begin(name, { attributes });
    const failed = (error: unknown): never => {
      span.fail(error);
      span.end();
      throw error;
    };
    let result: T;
    try {
      result = span.within(() => work(span));
    } catch (error) {
      return failed(error);
    }
    if (!(result instanceof Promise)) {
      span.end();
      return result;
    }
    const ended = result.then((value: unknown) => {
      span.end();
      return value;
    }, failed);
    return ended as T;
  }
}

/** The time, which within a trace never goes back, whatever is done to the clock of the host. */
class Clock {
  readonly #offset = BigInt(Date.now()) * NANOSECONDS_PER_MILLISECOND - process.hrtime.bigint();

  now(): bigint {
    return this.#offset + process.hrtime.bigint();
  }
}

class RecordedSpan implements Span {
  readonly context: TraceContext;
  readonly clock: Clock;
  readonly #parentId: string | undefined;
  readonly #kind: SpanKind;
  readonly #tells: boolean;
  readonly #begin: bigint;
  readonly #storage: AsyncLocalStorage<RecordedSpan>;
  readonly #onEnd: (record: SpanRecord) => void;
  readonly #events: { time: bigint; name: string; attributes: Attributes }[] = [];
  readonly #links: TraceContext[] = [];
  #name: string;
  #attributes: Attributes;
  #droppedEvents = 0;
  #droppedLinks = 0;
  #error: string | undefined;
  #isOver: boolean;

  constructor(parts: {
    context: TraceContext;
    parentId: string | undefined;
    name: string;
    kind: SpanKind;
    attributes: Attributes;
    clock: Clock;
    tells: boolean;
    onEnd: (record: SpanRecord) => void;
    storage: AsyncLocalStorage<RecordedSpan>;
  }) {
    this.context = parts.context;
    this.clock = parts.clock;
    this.#parentId = parts.parentId;
    this.#name = parts.name;
    this.#kind = parts.kind;
    this.#tells = parts.tells;
    this.#attributes = parts.attributes;
    this.#onEnd = parts.onEnd;
    this.#storage = parts.storage;
    this.#begin = parts.clock.now();
    // What is not sampled is there for what is below it alone.
    this.#isOver = !parts.context.isSampled;
  }

  get traceId(): string {
    return this.context.traceId;
  }

  get traceparent(): string | undefined {
    return this.#tells ? formatTraceparent(this.context) : undefined;
  }

  rename(name: string): void {
    this.#name = name;
  }

  set(attributes: Attributes): void {
    if (!this.#isOver) this.#attributes = { ...this.#attributes, ...attributes };
  }

  event(name: string, attributes: Attributes = {}): void {
    if (this.#isOver) return;
    if (this.#events.length < MAX_EVENTS) this.#events.push({ time: this.clock.now(), name, attributes });
    else this.#droppedEvents += 1;
  }

  link(other: Span): void {
    if (this.#isOver || !(other instanceof RecordedSpan)) return;
    if (this.#links.length < MAX_LINKS) this.#links.push(other.context);
    else this.#droppedLinks += 1;
  }

  fail(error: unknown, type?: string): void {
    const known = error instanceof LayerdError ? error.kind : error instanceof Error ? error.name : '_OTHER';
    this.set({ 'error.type': type ?? known });
    this.#error = messageOf(error);
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onEnd({
      context: this.context,
      parentId: this.#parentId,
      name: this.#name,
      kind: this.#kind,
      begin: this.#begin,
      end: this.clock.now(),
      attributes: this.#attributes,
      events: this.#events,
      droppedEvents: this.#droppedEvents,
      links: this.#links,
      droppedLinks: this.#droppedLinks,
      error: this.#error,
    });
  }

  within<T>(work: () => T): T {
    return this.#storage.run(this, work);
  }
}
