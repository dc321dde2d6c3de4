import { setTimeout as delay } from 'node:timers/promises';
import { ConnectionError } from './connection-error.ts';
import { ExpiringMap } from './expiring-map.ts';
import { cancelled, describeUrl, header, type HttpRequest, type HttpResponse, type Send } from './http.ts';
import type { Logger } from './registry.ts';

/** The first pause is at most this long; each further one at most twice as long. Milliseconds. */
const BASE_DELAY = 500;
const MAX_DELAY = 10_000;
/** A registry cannot have us wait longer than this, whatever its Retry-After says: 60 s, in milliseconds. */
const MAX_RETRY_AFTER = 60_000;

/** How many hosts are remembered to have answered, and for how long after they last did, in milliseconds: 10 minutes. */
const MAX_ANSWERED = 256;
const ANSWERED_LIFE = 10 * 60_000;

/** Waits; rejects when the signal fires. */
export type Sleep = (milliseconds: number, signal: AbortSignal | undefined) => Promise<void>;

export const sleep: Sleep = (milliseconds, signal) =>
  delay(milliseconds, undefined, signal === undefined ? {} : { signal });

/**
 * Tries again when the connection fails before the headers have come, when the server has a bad moment (5xx) and when it
 * asks us to slow down (429): after an exponential backoff with full jitter, so that many hosts that were cut off
 * together do not come back together, or after what Retry-After says. The last answer is returned as it is. A refused
 * connection is tried again only where somebody answered before, who may be restarting; elsewhere it is a wrong address.
 */
export function withRetries(
  send: Send,
  options: { maxAttempts: number; logger: Logger; sleep: Sleep; random: () => number; now: () => number },
): Send {
  const { maxAttempts, logger, random, now } = options;
  const answered = new ExpiringMap<true>({ limit: MAX_ANSWERED, life: ANSWERED_LIFE, now });
  const pause = async (request: HttpRequest, attempt: number, wait: number, reason: string): Promise<void> => {
    logger.debug('retrying', { url: describeUrl(request.url), attempt, wait: Math.round(wait), reason });
    try {
      await options.sleep(wait, request.signal);
    } catch (error) {
      throw request.signal?.aborted === true ? cancelled(request.signal, request.url) : error;
    }
  };
  return async (request) => {
    for (let attempt = 1; ; attempt += 1) {
      const backoff = backoffOf(attempt, random);
      const isLast = attempt >= maxAttempts || request.once === true;
      let response: HttpResponse;
      try {
        response = await send(request);
        answered.set(request.url.host, true);
      } catch (error) {
        if (isLast || !(error instanceof ConnectionError) || !error.transient) throw error;
        if (error.refused && answered.get(request.url.host) === undefined) throw error;
        await pause(request, attempt, backoff, error.message);
        continue;
      }
      if (isLast || !isWorthRetrying(response.status)) return response;
      await response.discard();
      const wait = askedPause(response, now(), random) ?? backoff;
      await pause(request, attempt, wait, `status ${response.status}`);
    }
  };
}

/** The pause before the attempt after this one, in milliseconds. */
export function backoffOf(attempt: number, random: () => number): number {
  return random() * Math.min(MAX_DELAY, BASE_DELAY * 2 ** (attempt - 1));
}

/** The pause that an answer asks for, in milliseconds; undefined when it asks for none. */
export function askedPause(
  response: Pick<HttpResponse, 'headers'>,
  now: number,
  random: () => number,
): number | undefined {
  const asked = retryAfter(header(response, 'retry-after'), now);
  return asked === undefined ? undefined : Math.min(asked, MAX_RETRY_AFTER) + random() * BASE_DELAY;
}

/** Whether the same request may have another answer soon. */
export function isWorthRetrying(status: number): boolean {
  return status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** Milliseconds that a Retry-After asks for (RFC 9110 section 10.2.3): seconds, or a date; undefined when it is neither. */
export function retryAfter(text: string | undefined, now: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text.trim())) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
