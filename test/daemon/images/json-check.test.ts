import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { JsonCheck } from '../../../src/daemon/images/json-check.ts';

/** Whether the check takes the text for a JSON object, when it comes in pieces of that many bytes. */
function takes(text: string | Buffer, pieceBytes = Infinity): boolean {
  const bytes = Buffer.from(text as string);
  const check = new JsonCheck('the text');
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes) check.push(bytes.subarray(at, at + pieceBytes));
    check.end();
    return true;
  } catch (error) {
    assert.match(String(error), /the text is not a JSON object/);
    return false;
  }
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

describe('the check of a JSON object', () => {
  it('agrees with the parser, in whatever pieces a text comes', () => {
    const text = fc.oneof(
      fc.json(),
      fc
        .dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue())
        .map((value) => JSON.stringify(value, undefined, 1)),
    );
    // Objects, and objects in which something was left out, doubled or put in between.
    const damaged = fc
      .tuple(
        text,
        fc.nat(),
        fc.nat({ max: 3 }),
        fc.constantFrom('', '{', '}', '[', ']', ',', ':', '"', '\\', '1', 'e', '-', '\n', '\u0001', 'null'),
      )
      .map(([whole, at, cut, put]) => {
        const position = at % (whole.length + 1);
        return whole.slice(0, position) + put + whole.slice(position + cut);
      });
    fc.assert(
      fc.property(fc.oneof(text, damaged), fc.integer({ min: 1, max: 9 }), (given, pieceBytes) => {
        // A lone half of a pair is written as a replacement character.
        const written = Buffer.from(given).toString();
        assert.equal(takes(written, pieceBytes), isObject(written));
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses what the parser takes and a reader may not: too deep, too long numbers, bytes that are no UTF-8', () => {
    assert.ok(takes(`{"a":${'['.repeat(500)}${']'.repeat(500)}}`));
    assert.ok(!takes(`{"a":${'['.repeat(600)}${']'.repeat(600)}}`));
    assert.ok(!takes(`{"a":1${'0'.repeat(2000)}}`, 64));
    assert.ok(!takes(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])));
    assert.ok(!takes(Buffer.from([0x7b, 0x22, 0xc3])));
  });

  it('takes every escape there is', () => {
    const text = String.raw`{"\"\\\/\b\f\n\r\t\u00e9":"😀\ud83d"}`;
    for (const pieceBytes of [1, 2, 3, 100]) assert.ok(takes(text, pieceBytes));
    for (const escape of [String.raw`\x`, String.raw`\u12g4`, String.raw`\u123`])
      assert.ok(!takes(`{"a":"${escape}"}`));
  });
});
