import { LayerdError } from '../../protocol/errors.ts';

/** One HTTP request to a remote host. */
export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  /** Where to try again when nobody answers at the URL: the plain HTTP side of an insecure registry. */
  readonly alternative?: URL | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Headers that are meant for one host only, asked for at each hop. */
  readonly headersFor?: ((url: URL) => Readonly<Record<string, string>>) | undefined;
  readonly body?: RequestBody | undefined;
  /** Not to be sent again after a failure: how much of the body has arrived must be asked for first. */
  readonly once?: boolean;
  /** The server assembles and checks what was uploaded before it answers, and may take its time. */
  readonly assembles?: boolean;
  /** Set when the answer is a document, which is read at once: what it is, and how many bytes it may have. */
  readonly document?: { readonly what: string; readonly limit: number };
  /** Whether the registry that the request is for may be spoken to over plain HTTP. */
  readonly insecure: boolean;
  /** `public`: connect to public addresses only, because somebody on the Internet chose the URL. */
  readonly reach: 'anywhere' | 'public';
  readonly signal?: AbortSignal | undefined;
}

/** What is sent: text or bytes, or where they come from, opened anew for each attempt. */
export type RequestBody = string | Uint8Array | (() => AsyncIterable<Uint8Array>);

/** The answer. Its body must be read or discarded, else its connection is never used again. */
export interface HttpResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** What answered, after redirects. */
  readonly url: URL;
  /** Whether it came, or may have come, from a public address. */
  readonly public: boolean;
  /** Fails with `unavailable` when the connection breaks or stalls, with `cancelled` when the signal fires. */
  readonly body: AsyncIterable<Uint8Array>;
  discard(): Promise<void>;
}

/** The one thing that all behaviours here wrap: retries, redirects, authorization. */
export type Send = (request: HttpRequest) => Promise<HttpResponse>;

/** A header's value; repeated ones are joined as RFC 9110 section 5.3 has it. */
export function header(response: Pick<HttpResponse, 'headers'>, name: string): string | undefined {
  const value = response.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** Reads a body of at most so many bytes; throws `invalid` when it is longer. */
export async function readBody(response: HttpResponse, limit: number, what: string): Promise<Buffer> {
  const tooLarge = (): LayerdError =>
    new LayerdError('invalid', `${what} from ${response.url.host} is larger than the limit of ${limit} bytes`);
  if (Number(header(response, 'content-length') ?? 0) > limit) {
    await response.discard();
    throw tooLarge();
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.byteLength;
    // The length need not be announced, and an announced one need not be true.
    if (size > limit) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** A URL for messages and logs: without its query, which in a presigned URL is a credential, and without user names. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** What an aborted request ends with. */
export function cancelled(signal: AbortSignal, url: URL): LayerdError {
  const reason: unknown = signal.reason;
  if (reason instanceof LayerdError) return reason;
  return new LayerdError('cancelled', `the request to ${url.host} was cancelled`, { cause: reason });
}
