import {
  createServer,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from './listen.ts';

/** Which requests a fault strikes. */
export interface Match {
  readonly method?: string;
  /** Against path and query. */
  readonly path?: RegExp;
  /** Strikes from this match on, counted from 1. Default 1. */
  readonly from?: number;
  /** How many times it strikes. Default: every time. */
  readonly times?: number;
}

/** What goes wrong. Offsets count the bytes of the answer's body. */
export type Fault = Match & {
  /** Cuts the connection after so many bytes. */
  readonly cutAfter?: number;
  /** Falls silent after so many bytes, until the promise, or for ever. */
  readonly stallAfter?: number;
  /** Cuts the connection after so many bytes of the request's body, which the server behind has got by then. */
  readonly cutRequestAfter?: number;
  /** Waits for it before the answer begins, or where `stallAfter` says. */
  readonly until?: Promise<unknown>;
  /** Sends no faster than this. */
  readonly bytesPerSecond?: number;
  /** Changes the byte at this offset. */
  readonly corruptAt?: number;
  /** Sends the two halves of what it passes on from this offset at once in the wrong order. */
  readonly swapAt?: number;
  /** Answers this itself instead of asking the server behind. */
  readonly answer?: { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };
  /** Forgets the Range header, so that the answer is a 200. */
  readonly ignoreRange?: boolean;
  /** Asks the server behind for another path. */
  readonly forwardTo?: string;
  /** Replaces headers of the answer, such as a Content-Range or Content-Length that lie. */
  readonly headers?: Record<string, string>;
};

/** A request that came by. */
export interface Seen {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  readonly headers: IncomingMessage['headers'];
  status: number;
  /** Bytes of the answer's body sent. */
  bytes: number;
  /** How it ended; open until then. */
  end: 'open' | 'complete' | 'cut';
}

/** A reverse proxy in front of a registry, which sees everything and can make it fail. */
export interface Proxy extends AsyncDisposable {
  readonly host: string;
  readonly url: string;
  readonly seen: Seen[];
  /** How many requests a fault has struck since the last reset. */
  readonly struck: number;
  /** Adds a fault; call the result to take it away again. The first that matches a request strikes. */
  inject(fault: Fault): () => void;
  /** GET requests of blobs that were answered with content. */
  blobRequests(digest?: string): Seen[];
  /** Waits until the condition holds; it is asked again whenever something happens. */
  until(what: string, condition: (seen: readonly Seen[]) => boolean, timeoutMs?: number): Promise<void>;
  /** Takes all faults away. */
  heal(): void;
  /** Forgets what it has seen and takes all faults away. */
  reset(): void;
  stop(): Promise<void>;
}

const BLOB = /\/blobs\/(sha256:[a-f0-9]{64})/;

export async function startProxy(target: { readonly host: string }): Promise<Proxy> {
  const seen: Seen[] = [];
  const faults: { fault: Fault; matches: number }[] = [];
  let struck = 0;
  const waiting = new Set<() => void>();
  const tell = (): void => {
    for (const check of [...waiting]) check();
  };

  const pick = (method: string, path: string): Fault | undefined => {
    for (const entry of faults) {
      const { fault } = entry;
      if (fault.method !== undefined && fault.method !== method) continue;
      if (fault.path !== undefined && !fault.path.test(path)) continue;
      entry.matches++;
      const from = fault.from ?? 1;
      if (entry.matches < from || entry.matches >= from + (fault.times ?? Infinity)) continue;
      struck++;
      return fault;
    }
    return undefined;
  };

  const server = createServer((request, response) => {
    const entry: Seen = {
      method: request.method ?? '',
      path: request.url ?? '',
      range: request.headers.range,
      authorization: request.headers.authorization,
      headers: request.headers,
      status: 0,
      bytes: 0,
      end: 'open',
    };
    seen.push(entry);
    tell();
    response.on('close', () => {
      if (entry.end === 'open') entry.end = response.writableFinished ? 'complete' : 'cut';
      tell();
    });
    forward(request, response, entry, pick(entry.method, entry.path) ?? {}).catch(() => {
      entry.end = 'cut';
      response.destroy();
    });
  });

  const forward = async (
    request: IncomingMessage,
    response: ServerResponse,
    entry: Seen,
    fault: Fault,
  ): Promise<void> => {
    if (fault.until !== undefined && fault.stallAfter === undefined) await fault.until;
    if (fault.answer !== undefined) {
      const { status, headers, body } = fault.answer;
      entry.status = status;
      entry.bytes = Buffer.byteLength(body ?? '');
      response.writeHead(status, headers).end(body);
      return;
    }
    const headers = { ...request.headers };
    if (fault.ignoreRange === true) delete headers.range;
    const [hostname, port] = target.host.split(':');
    const upstream = await new Promise<IncomingMessage>((resolve, reject) => {
      const forwarded = httpRequest(
        { hostname, port, method: request.method, path: fault.forwardTo ?? request.url, headers },
        resolve,
      );
      forwarded.on('error', reject);
      response.on('close', () => forwarded.destroy());
      if (fault.cutRequestAfter === undefined) request.pipe(forwarded);
      else void cutBody(request, forwarded, fault.cutRequestAfter);
    });
    entry.status = upstream.statusCode ?? 0;
    response.writeHead(entry.status, { ...upstream.headers, ...lowerCased(fault.headers) });
    tell();
    let stalls = fault.stallAfter !== undefined;
    for await (const piece of upstream as AsyncIterable<Buffer>) {
      let chunk = piece;
      while (chunk.length > 0) {
        const limits = [chunk.length, ...(fault.bytesPerSecond === undefined ? [] : [fault.bytesPerSecond >> 3 || 1])];
        if (fault.cutAfter !== undefined) limits.push(fault.cutAfter - entry.bytes);
        if (stalls) limits.push((fault.stallAfter ?? 0) - entry.bytes);
        if (fault.swapAt !== undefined && fault.swapAt > entry.bytes) limits.push(fault.swapAt - entry.bytes);
        const now = Math.min(...limits);
        if (now > 0) {
          const part = Buffer.from(chunk.subarray(0, now));
          const corrupt = (fault.corruptAt ?? -1) - entry.bytes;
          if (corrupt >= 0 && corrupt < now) part.writeUInt8(part.readUInt8(corrupt) ^ 0xff, corrupt);
          const half = fault.swapAt === entry.bytes ? now >> 1 : 0;
          await write(response, Buffer.concat([part.subarray(half), part.subarray(0, half)]));
          entry.bytes += now;
          chunk = chunk.subarray(now);
          tell();
          if (fault.bytesPerSecond !== undefined) await sleep((1000 * now) / fault.bytesPerSecond);
        }
        if (fault.cutAfter !== undefined && entry.bytes >= fault.cutAfter) {
          entry.end = 'cut';
          response.socket?.destroy();
          return;
        }
        if (stalls && entry.bytes >= (fault.stallAfter ?? 0)) {
          stalls = false;
          tell();
          await (fault.until ?? new Promise((resolve) => response.once('close', resolve)));
        }
        if (response.destroyed) return;
      }
    }
    response.end();
    // Fewer bytes than the Content-Length said: only the end of the connection ends the answer.
    if (fault.headers?.['Content-Length'] !== undefined) response.socket?.end();
  };

  const { host, close } = await listen(server);
  return {
    host,
    url: `http://${host}`,
    seen,
    get struck() {
      return struck;
    },
    inject(fault) {
      const entry = { fault, matches: 0 };
      faults.push(entry);
      return () => {
        const at = faults.indexOf(entry);
        if (at >= 0) faults.splice(at, 1);
      };
    },
    blobRequests: (digest) =>
      seen.filter(
        ({ method, path, status }) =>
          method === 'GET' &&
          (status === 200 || status === 206) &&
          BLOB.test(path) &&
          (digest === undefined || BLOB.exec(path)?.[1] === digest),
      ),
    async until(what, condition, timeoutMs = 20_000) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve, reject) => {
        const check = (): void => {
          if (!condition(seen)) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        timer = setTimeout(() => {
          waiting.delete(check);
          const lines = seen.map(
            ({ method, path, status, bytes, end }) => `${method} ${path} ${status} ${bytes} ${end}`,
          );
          reject(new Error(`waited ${timeoutMs} ms for ${what}; seen so far:\n${lines.join('\n')}`));
        }, timeoutMs);
        check();
      }).finally(() => clearTimeout(timer));
    },
    heal() {
      faults.length = 0;
    },
    reset() {
      seen.length = 0;
      faults.length = 0;
      struck = 0;
    },
    stop: close,
    [Symbol.asyncDispose]: close,
  };
}

function lowerCased(headers: Record<string, string> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

/** Passes on the first bytes of a request's body, and breaks both connections once they are written. */
async function cutBody(request: IncomingMessage, forwarded: ClientRequest, after: number): Promise<void> {
  let left = after;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    const part = chunk.subarray(0, left);
    left -= part.length;
    await new Promise((resolve) => forwarded.write(part, resolve));
    if (left === 0) break;
  }
  forwarded.destroy();
  request.destroy();
}

/** Writes and waits for room, or for the client to go away. */
async function write(response: ServerResponse, chunk: Buffer): Promise<void> {
  if (response.write(chunk) || response.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}
