import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConnectionError } from '../../../src/daemon/registry/connection-error.ts';
import type { HttpRequest, HttpResponse } from '../../../src/daemon/registry/http.ts';
import { retryAfter, withRetries } from '../../../src/daemon/registry/retry.ts';

const request = { method: 'GET', url: new URL('https://registry.example/v2/'), headers: {} } as unknown as HttpRequest;
const answer = (status: number, headers: Record<string, string> = {}): HttpResponse =>
  ({ status, headers, discard: () => Promise.resolve() }) as unknown as HttpResponse;
const refused = (): ConnectionError => new ConnectionError('connection refused', { transient: true, refused: true });

/** Sends that come out one after another, and how often and how long was waited in between. */
function scripted(outcomes: (HttpResponse | Error)[], maxAttempts = 5) {
  const waits: number[] = [];
  const send = withRetries(
    () => {
      const outcome = outcomes.shift();
      if (outcome === undefined) throw new Error('asked more often than expected');
      return outcome instanceof Error ? Promise.reject(outcome) : Promise.resolve(outcome);
    },
    {
      maxAttempts,
      logger: { debug: () => undefined, info: () => undefined, warn: () => undefined },
      sleep: (milliseconds) => {
        waits.push(milliseconds);
        return Promise.resolve();
      },
      random: () => 1,
      now: () => 0,
    },
  );
  return { send, waits, outcomes };
}

describe('retries', () => {
  it('say at once that nothing listens at an address where nobody ever answered', async () => {
    const { send, waits } = scripted([refused(), answer(200)]);
    await assert.rejects(send(request), { message: 'connection refused' });
    assert.deepEqual(waits, []);
  });

  it('wait for a registry that answered before to come back', async () => {
    const { send, waits } = scripted([answer(200), refused(), refused(), answer(200)]);
    await send(request);
    assert.equal((await send(request)).status, 200);
    assert.equal(waits.length, 2);
  });

  it('follow 5xx and 429, doubling the pause, and give the last answer as it is', async () => {
    const { send, waits } = scripted([answer(503), answer(500), answer(429)], 3);
    assert.equal((await send(request)).status, 429);
    assert.deepEqual(waits, [500, 1000]);
  });

  it('wait as long as Retry-After says, but not for ever', async () => {
    const { send, waits } = scripted([
      answer(429, { 'retry-after': '2' }),
      answer(429, { 'retry-after': '99999' }),
      answer(200),
    ]);
    await send(request);
    assert.ok((waits[0] ?? 0) >= 2000 && (waits[0] ?? 0) < 3000);
    assert.ok((waits[1] ?? 0) >= 60_000 && (waits[1] ?? 0) < 61_000);
    assert.equal(retryAfter('Thu, 01 Jan 1970 00:00:07 GMT', 0), 7000);
    assert.equal(retryAfter('soon', 0), undefined);
  });

  it('do not repeat what cannot come out otherwise', async () => {
    const untrusted = new ConnectionError('unknown authority', { transient: false });
    for (const outcome of [untrusted, answer(404), answer(501)]) {
      const { send, outcomes } = scripted([outcome, answer(200)]);
      await send(request).catch(() => undefined);
      assert.equal(outcomes.length, 1);
    }
  });
});
