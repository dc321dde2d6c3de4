import assert from 'node:assert/strict';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { listen } from './listen.ts';

const TIMEOUT_MS = 20_000;
const POLL_MS = 20;

/** A span as it was received. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceState?: string;
  readonly parentSpanId?: string;
  readonly name: string;
  /** 1: internal, 2: server, 3: client. */
  readonly kind: number;
  /** Nanoseconds since the epoch. */
  readonly begin: bigint;
  readonly end: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly events: readonly { readonly name: string; readonly attributes: Readonly<Record<string, unknown>> }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  /** Attributes of the daemon that sent it. */
  readonly resource: Readonly<Record<string, unknown>>;
  /** Code 2 is an error. */
  readonly status: { readonly code?: number; readonly message?: string };
}

/** A request that came. */
export interface ReceivedRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Its body as text. */
  readonly text: string;
}

/** An OpenTelemetry collector that takes spans over OTLP/HTTP in JSON. */
export interface Collector extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly requests: readonly ReceivedRequest[];
  readonly spans: readonly ReceivedSpan[];
  /** What it answers from now on; 200 and an empty object without. */
  answer: { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string } | undefined;
  /** Waits until a span that fits has come, and returns it. */
  span(what: string, fits: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>;
}

/** `tls`: certificate and key in PEM, for https. */
export async function startCollector(tls?: { readonly cert: Buffer; readonly key: Buffer }): Promise<Collector> {
  const requests: ReceivedRequest[] = [];
  const spans: ReceivedSpan[] = [];
  const listener: RequestListener = (request, response) => {
    void (async () => {
      const body = request.headers['content-encoding'] === 'gzip' ? request.pipe(createGunzip()) : request;
      const sent = await text(body);
      requests.push({ path: request.url ?? '', headers: request.headers, text: sent });
      const { status, headers = {}, body: said = '{}' } = collector.answer ?? { status: 200 };
      if (status === 200) spans.push(...decode(JSON.parse(sent) as Export));
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(said);
    })();
  };
  const server = tls === undefined ? createServer(listener) : createSecureServer(tls, listener);
  const { host, close } = await listen(server);
  const collector: Collector = {
    url: `${tls === undefined ? 'http' : 'https'}://${host}`,
    requests,
    spans,
    answer: undefined,
    async span(what, fits) {
      for (const deadline = Date.now() + TIMEOUT_MS; ;) {
        const found = spans.find(fits);
        if (found !== undefined) return found;
        assert.ok(
          Date.now() < deadline,
          `waited in vain for ${what}, received ${spans.map(({ name }) => name).join()}`,
        );
        await sleep(POLL_MS);
      }
    },
    [Symbol.asyncDispose]: close,
  };
  return collector;
}

interface Value {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly intValue?: string;
  readonly doubleValue?: number;
  readonly arrayValue?: { readonly values: readonly Value[] };
}
type KeyValues = readonly { readonly key: string; readonly value: Value }[];

/** As opentelemetry-proto has it. */
interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: KeyValues };
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<ReceivedSpan, 'begin' | 'end' | 'attributes' | 'events'> & {
        readonly startTimeUnixNano: string;
        readonly endTimeUnixNano: string;
        readonly attributes: KeyValues;
        readonly events: readonly { readonly name: string; readonly attributes: KeyValues }[];
      })[];
    }[];
  }[];
}

function decode({ resourceSpans }: Export): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map(({ startTimeUnixNano, endTimeUnixNano, attributes, events, ...span }) => ({
        ...span,
        begin: BigInt(startTimeUnixNano),
        end: BigInt(endTimeUnixNano),
        attributes: plain(attributes),
        events: events.map(({ name, attributes: said }) => ({ name, attributes: plain(said) })),
        resource: plain(resource.attributes),
      })),
    ),
  );
}

const plain = (attributes: KeyValues): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]));

function plainValue({ stringValue, boolValue, intValue, doubleValue, arrayValue }: Value): unknown {
  return (
    stringValue ??
    boolValue ??
    (intValue === undefined ? undefined : Number(intValue)) ??
    doubleValue ??
    arrayValue?.values.map(plainValue)
  );
}
