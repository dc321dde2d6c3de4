import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { JsonError, parseJson } from '../../src/protocol/json.ts';

describe('parseJson', () => {
  it('is done with a text of quotes that never end', { timeout: 60_000 }, () => {
    assert.throws(() => parseJson(`"${'\\"'.repeat(1_000_000)}`), JsonError);
  });

  it('takes every text that JSON.parse takes, to the same value', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.constantFrom(undefined, 2, '\t'), (json, indent) => {
        const text = JSON.stringify(JSON.parse(json), undefined, indent);
        assert.deepEqual(parseJson(text), JSON.parse(text));
      }),
    );
  });

  it('refuses any object that has one of its keys twice, wherever it stands', () => {
    fc.assert(
      fc.property(fc.string(), fc.json(), fc.json(), fc.array(fc.json()), (key, one, other, around) => {
        const name = JSON.stringify(key);
        const twice = `{"before": ${one}, ${name} : ${one},\n ${name}\n: ${other}}`;
        const text = `[${[...around, `{"nested": ${twice}}`, ...around].join(',')}]`;
        assert.doesNotThrow(() => JSON.parse(text));
        assert.throws(() => parseJson(text), JsonError);
      }),
    );
  });

  it('knows a key by what it means, not by how it is escaped', () => {
    assert.throws(() => parseJson('{"debug": true, "\\u0064ebug": false}'), /"debug" is given twice/);
  });

  it('says on which line the second one stands', () => {
    assert.throws(() => parseJson('{\n"a": 1,\n"b": ["a:", {"a": 1}],\n"a": 2}'), {
      message: 'the key "a" is given twice, the second time on line 4',
    });
  });

  it('says of comments that there are none, and on which line the first one stands', () => {
    for (const [text, line] of [
      ['// all\n{}', 1],
      ['{\n  "a": "//", // why\n  "b": 1\n}', 2],
      ['{\n\n/* why */ "a": 1}', 3],
    ] as const) {
      assert.throws(() => parseJson(text), new RegExp(`^Error: line ${line} has a comment, .*take out all of them`));
    }
    assert.throws(
      () => parseJson('{"a": "http://x", nonsense}'),
      (error) => error instanceof JsonError && !error.message.includes('comment'),
    );
  });

  it('says in one line what is wrong with a text that is not JSON', () => {
    for (const text of ['{', '{"a": 1,\n\n}', 'nonsense\nnonsense', '{"a"\n"b"}']) {
      assert.throws(
        () => parseJson(text),
        (error) => error instanceof JsonError && !error.message.includes('\n'),
      );
    }
  });
});
