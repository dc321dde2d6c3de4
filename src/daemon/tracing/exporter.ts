import { AsyncLocalStorage } from 'node:async_hooks';
import { readFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import type { SecureContextOptions } from 'node:tls';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { messageOf } from '../../protocol/errors.ts';
import type { TracingSettings } from '../config/tracing.ts';
import { encodeSpans, type Source } from './otlp.ts';
import type { SpanRecord } from './recorder.ts';

/** At most so long is waited before a collector that failed is tried again, in milliseconds. */
const MAX_BACKOFF = 60_000;
/** The last spans have at most so long, in milliseconds, when the daemon stops. */
const MAX_FLUSH = 2000;
/** Bytes of an answer that are read. */
const MAX_ANSWER = 64 * 1024;
/** What may go well a little later, as the specification of OTLP/HTTP lists it. */
const TRANSIENT: ReadonlySet<number | undefined> = new Set([undefined, 429, 502, 503, 504]);

interface ExporterLog {
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
}

/** A collector that does not take what it is sent. */
class CollectorError extends Error {
  /** Undefined where no answer came. */
  readonly status: number | undefined;
  /** Milliseconds after which it wants to be asked again. */
  readonly pause: number;

  constructor(message: string, status?: number, pause = 0) {
    super(message);
    this.status = status;
    this.pause = pause;
  }
}

/**
 * Sends spans to a collector, some at a time, over OTLP/HTTP. A collector that cannot be reached costs nothing but the spans:
 * so many wait for it, more are dropped, and the log tells once when it begins and once when it is over.
 */
export class Exporter {
  readonly #settings: TracingSettings;
  readonly #source: Source;
  readonly #log: ExporterLog;
  readonly #stop = new AbortController();
  /** Sends on nobody's account: a timer that a request set off would log in that request's name. */
  readonly #outside = AsyncLocalStorage.snapshot();
  #waiting: SpanRecord[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #failures = 0;
  /** The pause that the collector asked for, in milliseconds. */
  #asked = 0;
  #lost = 0;
  #hasRejected = false;

  constructor({ settings, source, log }: { settings: TracingSettings; source: Source; log: ExporterLog }) {
    this.#settings = settings;
    this.#source = source;
    this.#log = log;
  }

  take(span: SpanRecord): void {
    const { batchSize, queueSize, delay } = this.#settings;
    if (this.#stop.signal.aborted || this.#waiting.length >= queueSize) {
      this.#lost += 1;
      return;
    }
    this.#waiting.push(span);
    if (this.#sending !== undefined) return;
    if (this.#timer === undefined) this.#sendIn(delay);
    else if (this.#waiting.length === batchSize && this.#failures === 0) this.#sendIn(0);
  }

  /** Sends what is left, for so many milliseconds at most. A collector that was not reached is not waited for. */
  async close(timeout: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), Math.min(timeout, MAX_FLUSH));
    try {
      await this.#sending;
      clearTimeout(this.#timer);
      if (this.#failures === 0) await this.#send();
    } finally {
      clearTimeout(timer);
      this.#stop.abort();
      const lost = this.#lost + this.#waiting.length;
      if (lost > 0) this.#log.warn('spans were not sent before the stop', { lost });
    }
  }

  #sendIn(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = this.#outside(() => setTimeout(() => this.#begin(), milliseconds).unref());
  }

  #begin(): void {
    this.#timer = undefined;
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
      if (this.#waiting.length > 0 && !this.#stop.signal.aborted) this.#sendIn(this.#pause);
    });
  }

  get #pause(): number {
    return Math.min(MAX_BACKOFF, Math.max(this.#asked, this.#settings.delay * 2 ** this.#failures));
  }

  /** Sends what waits. Never rejects. */
  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#settings.batchSize);
      try {
        await this.#post(encodeSpans(this.#source, batch));
        this.#recovered();
      } catch (error) {
        this.#failed(error, batch);
        return;
      }
    }
  }

  #recovered(): void {
    if (this.#failures > 0) {
      const { endpoint } = this.#settings;
      this.#log.info('traces are sent again', { collector: describe(endpoint), lost: this.#lost });
    }
    this.#failures = 0;
    this.#lost = 0;
  }

  #failed(error: unknown, batch: readonly SpanRecord[]): void {
    const { endpoint, queueSize } = this.#settings;
    const { status, pause } = error instanceof CollectorError ? error : new CollectorError(messageOf(error));
    this.#asked = pause;
    if (TRANSIENT.has(status)) {
      const room = Math.max(0, queueSize - this.#waiting.length);
      this.#waiting.unshift(...batch.slice(0, room));
      this.#lost += Math.max(0, batch.length - room);
    } else this.#lost += batch.length;
    if (this.#failures === 0 && !this.#stop.signal.aborted) {
      this.#log.warn(
        'traces cannot be sent to the collector; it is tried again from time to time, and this is not logged again until it works',
        { collector: describe(endpoint), reason: messageOf(error) },
      );
    }
    this.#failures += 1;
  }

  async #post(text: string): Promise<void> {
    const { endpoint, headers, timeout, compression, tls } = this.#settings;
    const url = new URL(endpoint);
    const body = compression === 'gzip' ? await promisify(gzip)(text) : Buffer.from(text);
    const deadline = AbortSignal.timeout(timeout);
    const options: RequestOptions = {
      method: 'POST',
      headers: {
        ...headers,
        'content-type': 'application/json',
        'content-length': body.byteLength,
        'user-agent': `layerd/${this.#source.scope.version}`,
        ...(compression === 'gzip' ? { 'content-encoding': 'gzip' } : {}),
      },
      signal: AbortSignal.any([this.#stop.signal, deadline]),
    };
    let answer: IncomingMessage;
    try {
      const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
      const request =
        url.protocol === 'https:'
          ? // Loaded where it is needed; a file that was renewed counts from the next time on.
            (await import('node:https')).request(url, { ...options, ...(await pem(tls)) }, resolve)
          : httpRequest(url, options, resolve);
      request.on('error', reject).end(body);
      answer = await promise;
    } catch (error) {
      throw new CollectorError(deadline.aborted ? `no answer within ${timeout} ms` : messageOf(error));
    }
    const status = answer.statusCode ?? 0;
    const said = await readStart(answer);
    if (status < 200 || status > 299) {
      const seconds = Number(answer.headers['retry-after'] ?? 0);
      throw new CollectorError(`status ${status}`, status, Number.isFinite(seconds) ? seconds * 1000 : 0);
    }
    const rejected = rejectedSpans(said);
    if (rejected === undefined || this.#hasRejected) return;
    this.#hasRejected = true;
    this.#log.warn('the collector does not take all spans; this is not logged again', rejected);
  }
}

/** The beginning of an answer; the rest is read and forgotten, so that the connection can be used again. */
async function readStart(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    if (size < MAX_ANSWER) chunks.push(chunk);
    size += chunk.byteLength;
  }
  return Buffer.concat(chunks).toString();
}

/** What an answer says of spans that were not taken; undefined where all were. */
function rejectedSpans(answer: string): { rejected: number; reason: unknown } | undefined {
  try {
    const { partialSuccess } = JSON.parse(answer) as {
      partialSuccess?: { rejectedSpans?: number | string; errorMessage?: unknown };
    };
    const rejected = Number(partialSuccess?.rejectedSpans ?? 0);
    return rejected > 0 ? { rejected, reason: partialSuccess?.errorMessage } : undefined;
  } catch {
    // The status has said that they arrived; a body that is no JSON says nothing more.
    return undefined;
  }
}

async function pem({ ca, cert, key }: TracingSettings['tls']): Promise<SecureContextOptions> {
  const read = (path: string | undefined) => (path === undefined ? undefined : readFile(path));
  return { ca: await read(ca), cert: await read(cert), key: await read(key) };
}

/** The collector's URL for the log: a user name or a token in the query are credentials. */
function describe(endpoint: string): string {
  const { protocol, host, pathname } = new URL(endpoint);
  return `${protocol}//${host}${pathname}`;
}
