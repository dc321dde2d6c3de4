import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '../../../src/daemon/registry/challenge.ts';

const plain = (text: string): unknown =>
  parseChallenges(text).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe('the challenges of WWW-Authenticate', () => {
  it('are read as Docker Hub writes them', () => {
    assert.deepEqual(
      plain(
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error="insufficient_scope"',
      ),
      [
        [
          'bearer',
          {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:a/b:pull,push',
            error: 'insufficient_scope',
          },
        ],
      ],
    );
  });

  it('are told apart when several come, with and without parameters', () => {
    assert.deepEqual(plain('Negotiate, Basic realm="a, b", Bearer realm=https://x/y?z=1 , service = s'), [
      ['negotiate', {}],
      ['basic', { realm: 'a, b' }],
      ['bearer', { realm: 'https://x/y?z=1', service: 's' }],
    ]);
  });

  it('may hold the other form of credentials', () => {
    assert.deepEqual(plain('NTLM TlRMTVNTUAAC==, Basic realm="x"'), [
      ['ntlm', {}],
      ['basic', { realm: 'x' }],
    ]);
  });

  it('survive one that is broken', () => {
    assert.deepEqual(plain('"what", =x, Basic realm="x'), [['basic', { realm: 'x' }]]);
  });

  it('keep the first of repeated parameters', () => {
    assert.deepEqual(plain('Bearer realm="a",REALM="b"'), [['bearer', { realm: 'a' }]]);
  });

  it('come back as they were written, whatever is quoted', () => {
    const token = fc.stringMatching(/^[a-z][a-z0-9_-]{0,8}$/);
    const challenge = fc.tuple(
      token,
      fc.uniqueArray(fc.tuple(token, fc.string({ unit: 'binary' })), { selector: ([name]) => name, maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(challenge, { maxLength: 4 }), (challenges) => {
        const text = challenges
          .map(([scheme, parameters]) => {
            const list = parameters.map(([name, value]) => `${name}="${value.replace(/["\\]/g, '\\$&')}"`);
            return `${scheme} ${list.join(', ')}`;
          })
          .join(', ');
        assert.deepEqual(
          plain(text),
          challenges.map(([scheme, parameters]) => [scheme, Object.fromEntries(parameters)]),
        );
      }),
    );
  });

  it('never throw and never lose the way', () => {
    const pieces = fc.constantFrom('Bearer', 'realm', '=', '"', '\\', ',', ' ', 'x==', '\t', 'é');
    fc.assert(
      fc.property(
        fc.array(pieces).map((each) => each.join('')),
        (text) => Array.isArray(parseChallenges(text)),
      ),
    );
    fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseChallenges(text))));
  });
});
