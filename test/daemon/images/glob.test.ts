import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Glob } from '../../../src/daemon/images/glob.ts';

describe('a pattern', () => {
  it("matches as Go's path.Match does", () => {
    const cases: [string, string, boolean][] = [
      ['abc', 'abc', true],
      ['*', 'abc', true],
      ['*', 'a/b', false],
      ['*c', 'abc', true],
      ['a*', 'a', true],
      ['a*/b', 'abc/b', true],
      ['a*/b', 'a/c/b', false],
      ['a*b*c*d*e*/f', 'axbxcxdxe/f', true],
      ['a*b*c*d*e*/f', 'axbxcxdxexxx/f', true],
      ['a*b*c*d*e*/f', 'axbxcxdxe/xxx/f', false],
      ['a*b*c*d*e*/f', 'axbxcxdxexxx/fff', false],
      ['a*b?c*x', 'abxbbxdbxebxczzx', true],
      ['a*b?c*x', 'abxbbxdbxebxczzy', false],
      ['ab[c]', 'abc', true],
      ['ab[b-d]', 'abc', true],
      ['ab[e-g]', 'abc', false],
      ['ab[^c]', 'abc', false],
      ['ab[^e-g]', 'abc', true],
      ['a\\*b', 'a*b', true],
      ['a\\*b', 'ab', false],
      ['a?b', 'a☺b', true],
      ['a[^a]b', 'a☺b', true],
      ['a???b', 'a☺b', false],
      ['[a-ζ]*', 'α', true],
      ['a?b', 'a/b', false],
      ['[\\]a]', ']', true],
      ['[\\-x]', '-', true],
      ['[x\\-]', 'z', false],
      ['*x', 'xxx', true],
      ['', '', true],
      ['', 'a', false],
      ['foo/**/ba[rz]', 'foo/a/bar', true],
      ['foo/**/ba[rz]', 'foo/bar', false],
    ];
    for (const [pattern, text, expected] of cases) {
      assert.equal(new Glob(pattern).matches(text), expected, `${pattern} and ${text}`);
    }
  });

  it('that is malformed is refused', () => {
    for (const pattern of ['[]a]', '[-]', '[x-]', '[-x]', '[a-b-c]', '[', '[^', '[^bc', 'a[', 'a\\', '[\\', 'a[b-']) {
      assert.throws(() => new Glob(pattern), { kind: 'invalid', message: /^syntax error in pattern/ }, pattern);
    }
  });

  it('of plain characters matches itself alone, and with a star anything of one element', () => {
    const plain = fc.stringMatching(/^[a-z0-9._:@-]{0,12}$/);
    fc.assert(
      fc.property(plain, plain, plain, (one, other, between) => {
        assert.equal(new Glob(one).matches(other), one === other);
        assert.ok(new Glob(`${one}*${other}`).matches(one + between + other));
        assert.ok(!new Glob(`${one}*${other}`).matches(`${one}/${other}/`));
      }),
    );
  });

  it('of many stars is matched without trying every way', () => {
    assert.ok(!new Glob(`${'*a'.repeat(60)}b`).matches('a'.repeat(2000)));
  });
});
