import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { nextLink, parseLinks } from '../../../src/daemon/registry/link.ts';

describe('the Link header', () => {
  it('names the next page as the distribution project writes it', () => {
    assert.equal(nextLink('</v2/a/tags/list?last=b&n=2>; rel="next"'), '/v2/a/tags/list?last=b&n=2');
  });

  it('may hold other links, relations in a list, and no quotes', () => {
    assert.equal(nextLink('<a,b>; rel=prev; title="; <x>", <c>; title=y ; REL="last NEXT"'), 'c');
    assert.equal(nextLink('<c>; rel=next'), 'c');
  });

  it('has no next page without that relation', () => {
    assert.equal(nextLink('<a>; rel="prev"'), undefined);
    assert.equal(nextLink('<a>'), undefined);
    assert.equal(nextLink(undefined), undefined);
  });

  it('comes back as it was written', () => {
    const target = fc.stringMatching(/^[^<>]{0,12}$/);
    const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,6}$/);
    const link = fc.tuple(
      target,
      fc.uniqueArray(fc.tuple(name, fc.string()), { selector: ([key]) => key, maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(link, { maxLength: 4 }), (links) => {
        const text = links
          .map(([url, parameters]) =>
            [`<${url}>`, ...parameters.map(([key, value]) => `${key}="${value.replace(/["\\]/g, '\\$&')}"`)].join('; '),
          )
          .join(', ');
        assert.deepEqual(
          parseLinks(text).map(({ target, parameters }) => [target, [...parameters]]),
          links,
        );
      }),
    );
  });

  it('never throws', () => {
    const pieces = fc.constantFrom('<', '>', ';', 'rel', '=', '"', '\\', ',', ' ', 'next');
    fc.assert(
      fc.property(
        fc.array(pieces).map((each) => each.join('')),
        (text) => Array.isArray(parseLinks(text)),
      ),
    );
  });
});
