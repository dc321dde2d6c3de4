import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { booleanFilter, filterValues, matchesLabels, parseFilters } from '../../../src/daemon/images/filters.ts';

const ACCEPTED = ['dangling', 'label', 'label!'];

describe('filters', () => {
  it('are lists of values, or maps of values that are set', () => {
    for (const json of ['{"label":["a","b=c"]}', '{"label":{"a":true,"b=c":true,"d":false}}']) {
      assert.deepEqual([...filterValues(parseFilters(json, ACCEPTED), 'label')], ['a', 'b=c'], json);
    }
    for (const json of [undefined, '', '{}', 'null']) assert.equal(parseFilters(json, ACCEPTED).size, 0);
    assert.deepEqual([...filterValues(parseFilters('{"label":null}', ACCEPTED), 'label')], []);
  });

  it('of another form, or another name, are refused', () => {
    for (const json of ['label', '[]', '"label"', '{"label":"a"}', '{"label":[1]}', '{"label":{"a":"b"}}', '7']) {
      assert.throws(() => parseFilters(json, ACCEPTED), { kind: 'invalid', message: /^invalid filter: / }, json);
    }
    assert.throws(() => parseFilters('{"colour":["red"]}', ACCEPTED), {
      kind: 'invalid',
      message: "invalid filter 'colour': the filters here are dangling, label, label!",
    });
  });

  it('come through in either form as they were given', () => {
    const given = fc.dictionary(fc.constantFrom(...ACCEPTED), fc.uniqueArray(fc.string()));
    fc.assert(
      fc.property(given, (lists) => {
        const maps = Object.fromEntries(
          Object.entries(lists).map(([name, values]) => [
            name,
            Object.fromEntries(values.map((value) => [value, true])),
          ]),
        );
        for (const [form, parsed] of [lists, maps].map((each) => [
          each,
          parseFilters(JSON.stringify(each), ACCEPTED),
        ])) {
          assert.ok(parsed instanceof Map);
          for (const [name, values] of Object.entries(lists)) {
            assert.deepEqual([...filterValues(parsed, name)].sort(), values.toSorted(), JSON.stringify(form));
          }
        }
      }),
    );
  });

  it('that are true or false are nothing else', () => {
    const dangling = (...values: string[]): boolean | undefined =>
      booleanFilter(new Map([['dangling', values]]), 'dangling');
    assert.equal(dangling('true'), true);
    assert.equal(dangling('1', 'true'), true);
    assert.equal(dangling('0'), false);
    assert.equal(booleanFilter(new Map(), 'dangling'), undefined);
    for (const values of [['maybe'], ['true', 'false'], ['True'], ['']]) {
      assert.throws(() => dangling(...values), { kind: 'invalid', message: /^invalid filter 'dangling=\[/ });
    }
  });

  it('by label want all of label, and none of label!', () => {
    const labels = { tier: 'web', empty: '' };
    const matches = (label: string[], not: string[] = []): boolean =>
      matchesLabels(
        new Map([
          ['label', label],
          ['label!', not],
        ]),
        labels,
      );
    assert.ok(matches(['tier', 'tier=web', 'empty', 'empty=']));
    assert.ok(!matches(['tier', 'other']));
    assert.ok(!matches(['tier=']));
    assert.ok(!matches(['constructor']));
    assert.ok(matches([], ['tier=db', 'other']));
    assert.ok(!matches(['tier'], ['empty']));
  });
});
