import type { IncomingMessage } from 'node:http';
import { finished } from 'node:stream/promises';

/** Reads a short body whole; undefined where it has more bytes than the limit. What comes beyond is discarded. */
export async function readBody(request: IncomingMessage, limit: number): Promise<Buffer | undefined> {
  if (request.readableEnded) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let size = 0;
  const whole = Promise.withResolvers<Buffer | undefined>();
  // Beside whoever discards every body: it must not be taken over.
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= limit) chunks.push(chunk);
    else whole.resolve(undefined);
  });
  request.resume();
  finished(request, { writable: false }).then(() => whole.resolve(Buffer.concat(chunks)), whole.reject);
  return whole.promise;
}

/** A JSON object; undefined for anything else. */
export function parseFields(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
