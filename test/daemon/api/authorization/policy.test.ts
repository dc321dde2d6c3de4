import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { authorize, readPolicy, tokenName, type Client } from '../../../../src/daemon/api/authorization/policy.ts';
import type { Action } from '../../../../src/daemon/api/authorization/actions.ts';

describe('an authorization policy', () => {
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'layerd-policy-'))));
  after(() => rmSync(folder, { recursive: true }));
  const write = (content: unknown): string => {
    const path = join(folder, 'authorization.json');
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  };
  const sha256 = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;
  const policy = (rules: unknown, tokens?: unknown) =>
    readPolicy(write({ rules, ...(tokens === undefined ? {} : { tokens }) }));
  const may = (rules: unknown, client: Client, verb: Action['verb'], ...repositories: string[]): boolean => {
    try {
      authorize(policy(rules, { ci: sha256('secret') }), client, {
        verb,
        repositories: repositories.length === 0 ? undefined : repositories,
      });
      return true;
    } catch (error) {
      assert.equal((error as { kind?: string }).kind, 'forbidden');
      return false;
    }
  };

  it('refuses whom no rule names', () => {
    assert.equal(may([], { uid: '0' }, 'read'), false);
    assert.equal(may([{ clients: ['uid:1'], allow: [{ verbs: ['*'] }] }], { uid: '0' }, 'read'), false);
    assert.equal(may([{ clients: ['*'], allow: [{ verbs: ['read'] }] }], {}, 'read'), true);
  });

  it('goes by the first rule that names the client, so that a socket can be for reading alone', () => {
    const rules = [
      { clients: ['socket:/run/ro.sock'], allow: [{ verbs: ['read', 'events'] }] },
      { clients: ['uid:0'], allow: [{ verbs: ['*'] }] },
    ];
    const root = { uid: '0', gid: '0' };
    assert.equal(may(rules, { ...root, socket: '/run/ro.sock' }, 'read'), true);
    assert.equal(may(rules, { ...root, socket: '/run/ro.sock' }, 'pull', 'docker.io/library/redis'), false);
    assert.equal(may(rules, { ...root, socket: '/run/layerd.sock' }, 'pull', 'docker.io/library/redis'), true);
  });

  it('knows clients by user, group, certificate and token', () => {
    for (const [pattern, client] of [
      ['uid:1000', { uid: '1000' }],
      ['gid:998', { gid: '998' }],
      ['certificate:ops team', { certificate: 'ops team' }],
      ['token:ci', { token: 'ci' }],
    ] as const) {
      const rules = [{ clients: [pattern], allow: [{ verbs: ['read'] }] }];
      assert.equal(may(rules, client, 'read'), true, pattern);
      assert.equal(may(rules, {}, 'read'), false, pattern);
      // What is one thing of one client is not another thing of another.
      assert.equal(may(rules, { uid: 'ci', certificate: '1000', token: '998' }, 'read'), false, pattern);
    }
  });

  it('limits verbs to repositories, all of those that a request is about', () => {
    const rules = [
      {
        clients: ['*'],
        allow: [
          { verbs: ['pull'], repositories: ['docker.io/library/*', 'registry.example.com/team/app'] },
          { verbs: ['tag', 'remove'], repositories: ['registry.example.com/*'] },
          { verbs: ['read'], repositories: ['*'] },
        ],
      },
    ];
    assert.equal(may(rules, {}, 'pull', 'docker.io/library/redis'), true);
    assert.equal(may(rules, {}, 'pull', 'docker.io/other/redis'), false);
    assert.equal(may(rules, {}, 'pull', 'registry.example.com/team/app'), true);
    assert.equal(may(rules, {}, 'pull', 'registry.example.com/team/app2'), false);
    assert.equal(may(rules, {}, 'pull', 'registryXexample.com/team/app'), false);
    assert.equal(may(rules, {}, 'tag', 'registry.example.com/a', 'registry.example.com/b'), true);
    assert.equal(may(rules, {}, 'tag', 'registry.example.com/a', 'docker.io/library/b'), false);
    // A prune, or an image without a name, is not in those repositories alone.
    assert.equal(may(rules, {}, 'remove'), false);
    assert.equal(may(rules, {}, 'read'), true);
  });

  it('says who, what, and which rule', () => {
    const rules = [{ clients: ['uid:7'], allow: [{ verbs: ['pull'], repositories: ['a/*'] }] }];
    const action = { verb: 'pull', repositories: ['a/b', 'docker.io/library/redis'] } as const;
    assert.throws(() => authorize(policy(rules), { uid: '7', gid: '8' }, action), {
      kind: 'forbidden',
      message:
        /^the client with uid 7, gid 8 may not pull docker\.io\/library\/redis: so says the authorization policy \/.*authorization\.json \(its rule 1 does not allow it\)/,
    });
    assert.throws(() => authorize(policy(rules), { uid: '9' }, action), { message: /no rule of it names this client/ });
  });

  it('knows tokens by their digests', () => {
    const known = policy([], { ci: sha256('secret'), other: sha256('another') });
    assert.equal(tokenName(known, 'secret'), 'ci');
    assert.equal(tokenName(known, 'another'), 'other');
    assert.equal(tokenName(known, 'Secret'), undefined);
    assert.equal(tokenName(known, sha256('secret')), undefined);
  });

  it('is refused as a whole, saying where it is wrong', () => {
    for (const [content, expected] of [
      ['', /Unexpected end/],
      ['[]', /it must be an object/],
      ['{"rules":[],"rules":[]}', /rules/],
      [{ rule: [] }, /it has the unknown key "rule": expected tokens, rules/],
      [{ rules: {} }, /rules must be a list/],
      [{ rules: ['x'] }, /rules\[0\] must be an object/],
      [{ rules: [{ clients: ['root'], allow: [] }] }, /rules\[0\]\.clients\[0\]: "root" is no client/],
      [{ rules: [{ clients: ['uid:root'], allow: [] }] }, /"uid:root" is no client/],
      [{ rules: [{ clients: ['constructor:x'], allow: [] }] }, /is no client/],
      [{ rules: [{ clients: ['token:ci'], allow: [] }] }, /rules\[0\]\.clients: there is no token "ci"/],
      [
        { rules: [{ clients: ['*'], allow: [{ verbs: ['fly'] }] }] },
        /"fly" is no verb: expected \* or one of ping, read/,
      ],
      [{ rules: [{ clients: ['*'], allow: [{ verb: ['read'] }] }] }, /has the unknown key "verb"/],
      [{ rules: [{ clients: ['*'], allow: [{ verbs: ['read'], repositories: 'a' }] }] }, /repositories must be a list/],
      [{ rules: [], tokens: { ci: 'secret' } }, /tokens\.ci: expected sha256:/],
    ] as const) {
      const path = write(content);
      assert.throws(
        () => readPolicy(path),
        (error: Error & { kind?: string }) => {
          assert.equal(error.kind, 'invalid');
          assert.ok(error.message.startsWith(`cannot use the authorization policy ${path}: `), error.message);
          assert.match(error.message, expected);
          // A token that stands in the file by mistake is not told.
          assert.doesNotMatch(error.message, /secret/);
          return true;
        },
      );
    }
    assert.throws(() => readPolicy(join(folder, 'nothing.json')), /no such file/);
  });

  it('takes everything in a pattern but * to the letter', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.string({ minLength: 1 }), (pattern, repository) => {
        fc.pre(!pattern.includes('*'));
        const rules = [{ clients: ['*'], allow: [{ verbs: ['pull'], repositories: [pattern] }] }];
        assert.equal(may(rules, {}, 'pull', repository), pattern === repository);
        assert.equal(may(rules, {}, 'pull', pattern), true);
      }),
      { numRuns: 50 },
    );
  });
});
