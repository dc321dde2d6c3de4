import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { EngineError } from '../../src/client/errors.ts';
import { parseWithBigInt, stringify } from '../../src/client/json.ts';
import { parseNdjson } from '../../src/client/ndjson.ts';

/** The bytes in pieces that end at the given places. */
async function* pieces(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let start = 0;
  for (const end of [...places, bytes.length]) {
    await Promise.resolve();
    yield bytes.subarray(start, end);
    start = end;
  }
}

describe('newline-delimited JSON', () => {
  it('gives the same messages however its bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ status: fc.string({ unit: 'binary' }), id: fc.string() })),
        fc.array(fc.nat(), { maxLength: 30 }),
        fc.constantFrom('\n', '\r\n', '\n\n'),
        fc.boolean(),
        async (messages, cuts, newline, endsWithNewline) => {
          const text = messages.map((message) => JSON.stringify(message)).join(newline);
          const bytes = Buffer.from(text + (endsWithNewline ? newline : ''));
          const parsed = await Array.fromAsync(parseNdjson(pieces(bytes, cuts)));
          assert.deepEqual(parsed, JSON.parse(JSON.stringify(messages)));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('gives a message as soon as its line is there', async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('{"id":"a"}\n{"id":');
      await promise;
      yield Buffer.from('"b"}\n');
    }
    const messages = parseNdjson(slow());
    assert.deepEqual((await messages.next()).value, { id: 'a' });
    resolve(undefined);
    assert.deepEqual((await messages.next()).value, { id: 'b' });
  });

  it('refuses a line that is cut off or no JSON', async () => {
    for (const text of ['{"id":"a"}\n{"id"', 'oops\n']) {
      const parsing = Array.fromAsync(parseNdjson(pieces(Buffer.from(text), [])));
      await assert.rejects(parsing, (error) => error instanceof EngineError && error.kind === 'corrupt');
    }
  });

  it('refuses a line that never ends', async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        await Promise.resolve();
        yield Buffer.alloc(1024 * 1024, 'x');
      }
    }
    await assert.rejects(Array.fromAsync(parseNdjson(endless())), /more than \d+ characters/);
  });
});

describe('JSON with large numbers', () => {
  it('keeps every digit of the one field, there and back', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n }), (timeNano) => {
        const text = `{"timeNano":${timeNano},"time":17,"name":"timeNano"}`;
        const value = parseWithBigInt(text, 'timeNano');
        assert.deepEqual(value, { timeNano, time: 17, name: 'timeNano' });
        assert.equal(stringify(value), text);
      }),
    );
  });
});
