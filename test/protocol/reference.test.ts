import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  canonicalName,
  canonicalString,
  familiarName,
  familiarString,
  parseAnyReference,
  parseImageAndTag,
  parseReference,
  splitCanonicalName,
  storableDigest,
  withDefaultTag,
  withDigest,
  withTag,
} from '../../src/protocol/reference.ts';

const SHA256 = `sha256:${'f'.repeat(64)}`;
const SHA512 = `sha512:${'f'.repeat(128)}`;
const HEX = '1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a';

const refused = (text: string, message: string): void => {
  assert.throws(() => parseReference(text), { kind: 'invalid', message }, text);
};

describe('a reference', () => {
  it('is normalised as the distribution project does it', () => {
    // What was given, the registry, the path, and what people call it.
    const cases: [string, string, string, string][] = [
      ['redis', 'docker.io', 'library/redis', 'redis'],
      ['library/redis', 'docker.io', 'library/redis', 'redis'],
      ['docker.io/redis', 'docker.io', 'library/redis', 'redis'],
      ['docker.io/library/redis', 'docker.io', 'library/redis', 'redis'],
      ['index.docker.io/redis', 'docker.io', 'library/redis', 'redis'],
      ['index.docker.io/some/app', 'docker.io', 'some/app', 'some/app'],
      ['some/app', 'docker.io', 'some/app', 'some/app'],
      ['docker.io/library/foo/bar', 'docker.io', 'library/foo/bar', 'library/foo/bar'],
      ['test_com/foo', 'docker.io', 'test_com/foo', 'test_com/foo'],
      ['test.com/foo', 'test.com', 'foo', 'test.com/foo'],
      ['test-com:8080/foo', 'test-com:8080', 'foo', 'test-com:8080/foo'],
      ['xn--n3h.com:18080/foo', 'xn--n3h.com:18080', 'foo', 'xn--n3h.com:18080/foo'],
      ['localhost/foo', 'localhost', 'foo', 'localhost/foo'],
      ['localhost:5000/foo/bar', 'localhost:5000', 'foo/bar', 'localhost:5000/foo/bar'],
      ['127.0.0.1:5000/library/debian', '127.0.0.1:5000', 'library/debian', '127.0.0.1:5000/library/debian'],
      ['[::1]:5000/x', '[::1]:5000', 'x', '[::1]:5000/x'],
      ['[fc00:1:2:3:4:5:6:7]/a/b', '[fc00:1:2:3:4:5:6:7]', 'a/b', '[fc00:1:2:3:4:5:6:7]/a/b'],
      ['Foo/bar', 'Foo', 'bar', 'Foo/bar'],
      ['192.168.0.1', 'docker.io', 'library/192.168.0.1', '192.168.0.1'],
      [`docker.io/${HEX}`, 'docker.io', `library/${HEX}`, HEX],
    ];
    for (const [text, registry, path, familiar] of cases) {
      const reference = parseReference(text);
      assert.deepEqual(reference, { registry, path, tag: undefined, digest: undefined }, text);
      assert.equal(familiarName(reference), familiar, text);
      assert.equal(canonicalName(reference), `${registry}/${path}`);
      assert.deepEqual(splitCanonicalName(canonicalName(reference)), { registry, path });
    }
  });

  it('has a tag, a digest, both or neither', () => {
    const parts = (text: string): (string | undefined)[] => {
      const { registry, path, tag, digest } = parseReference(text);
      return [registry, path, tag, digest];
    };
    assert.deepEqual(parts('test.com:5000'), ['docker.io', 'library/test.com', '5000', undefined]);
    assert.deepEqual(parts('lowercase:Uppercase'), ['docker.io', 'library/lowercase', 'Uppercase', undefined]);
    assert.deepEqual(parts('192.168.1.1:5000/repo:5050'), ['192.168.1.1:5000', 'repo', '5050', undefined]);
    assert.deepEqual(parts(`test:5000/repo@${SHA256}`), ['test:5000', 'repo', undefined, SHA256]);
    assert.deepEqual(parts(`test:5000/repo:tag@${SHA256}`), ['test:5000', 'repo', 'tag', SHA256]);
    assert.deepEqual(parts(`xn--7o8h.com/my:a@${SHA512}`), ['xn--7o8h.com', 'my', 'a', SHA512]);
    assert.deepEqual(parts(`[2001:db8::1]:5000/repo:tag@${SHA256}`), ['[2001:db8::1]:5000', 'repo', 'tag', SHA256]);
  });

  it('is refused in the words of dockerd', () => {
    const format = 'invalid reference format';
    for (const text of [
      '',
      ':justtag',
      `@${SHA256}`,
      '-docker',
      'docker-/docker',
      'docker///docker',
      'docker/',
      '____/____',
      'dock..er/docker',
      'dock_.er/docker',
      'aa/asdf$$^/aa',
      'redis\n',
      '[2001:db8::1]',
      '[2001:db8::1]:5000',
      'fc00::1:5000/debian',
      '[fe80::1%eth0]:5000/repo',
      '[2001:db8:3:4::192.0.2.33]:5000/debian',
      'https://github.com/docker/docker',
      `redis:${'a'.repeat(129)}`,
      'redis:-tag',
      'redis@sha256:ff',
    ]) {
      refused(text, format);
    }
    refused('Uppercase:tag', `${format}: repository name (library/Uppercase) must be lowercase`);
    refused('docker/Docker', `${format}: repository name (docker/Docker) must be lowercase`);
    refused('test:5000/Upper/lower:tag', `${format}: repository name (Upper/lower) must be lowercase`);
    refused(HEX, `invalid repository name (${HEX}), cannot specify 64-byte hexadecimal strings`);
    refused(`${'a/'.repeat(128)}a:tag`, 'repository name must not be more than 255 characters');
    refused(`repo@sha256:${'f'.repeat(34)}`, 'invalid checksum digest length');
    refused(`repo@sha256:${'F'.repeat(64)}`, 'invalid checksum digest format');
    refused(`repo@md5:${'f'.repeat(32)}`, 'unsupported digest algorithm');
  });

  it('may have a path of 255 characters, whatever its tag adds', () => {
    const path = `${'a/'.repeat(127)}a`;
    assert.equal(parseReference(`${path}:tag-puts-this-over`).path, path);
    refused(`${path}b`, 'repository name must not be more than 255 characters');
  });

  it('that is only hex digits or a digest is an identifier', () => {
    assert.deepEqual(parseAnyReference(HEX), { digest: `sha256:${HEX}` });
    assert.deepEqual(parseAnyReference(SHA256), { digest: SHA256 });
    assert.deepEqual(parseAnyReference(HEX.slice(1)), { reference: parseReference(`library/${HEX.slice(1)}`) });
    assert.deepEqual(parseAnyReference('dbcc1'), { reference: parseReference('docker.io/library/dbcc1') });
  });

  it('takes a tag or a digest', () => {
    const redis = parseReference('redis');
    assert.equal(familiarString(withTag(redis, '7')), 'redis:7');
    assert.equal(canonicalString(withDigest(withTag(redis, '7'), SHA256)), `docker.io/library/redis:7@${SHA256}`);
    assert.equal(familiarString(withDefaultTag(redis)), 'redis:latest');
    assert.equal(familiarString(withDefaultTag(withDigest(redis, SHA256))), `redis@${SHA256}`);
    assert.throws(() => withTag(redis, '-foo'), { kind: 'invalid', message: 'invalid tag format' });
    assert.throws(() => withDigest(redis, 'foo'), { kind: 'invalid', message: 'invalid digest format' });
  });

  it('is put together out of an image and a tag or digest', () => {
    assert.equal(familiarString(parseImageAndTag('redis', '7')), 'redis:7');
    assert.equal(familiarString(parseImageAndTag('redis:6', '7')), 'redis:7');
    assert.equal(familiarString(parseImageAndTag('redis:6', SHA256)), `redis@${SHA256}`);
    assert.equal(familiarString(parseImageAndTag('redis:', '')), 'redis');
  });

  it('with a digest in another algorithm than SHA-256 is understood, and refused where content is meant', () => {
    assert.equal(parseReference(`redis@${SHA512}`).digest, SHA512);
    assert.equal(storableDigest(SHA256), SHA256);
    assert.throws(() => storableDigest(SHA512), { kind: 'invalid', message: /SHA-256 alone/ });
  });
});

/** Texts that a grammar's rule stands for. */
const text = (alphabet: string, options: { minLength: number; maxLength: number }): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...Array.from(alphabet)), ...options });
const alphanumeric = text('abcxyz019', { minLength: 1, maxLength: 5 });
const component = fc
  .array(alphanumeric, { minLength: 1, maxLength: 3 })
  .chain((parts) =>
    fc
      .array(fc.constantFrom('.', '_', '__', '-', '---'), { minLength: parts.length, maxLength: parts.length })
      .map((separators) =>
        parts.map((part, index) => (index === 0 ? part : `${separators[index] ?? ''}${part}`)).join(''),
      ),
  );
const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((components) => components.join('/'));
const host = fc.oneof(
  fc.constantFrom('localhost', 'a.b', 'Reg.example.com', '10.0.0.1', '[::1]', '[2001:db8::1]', 'UPPER'),
  alphanumeric.map((name) => `${name}.io`),
);
const registry = fc
  .tuple(host, fc.option(fc.nat(65535), { nil: undefined }))
  .map(([name, port]) => (port === undefined ? name : `${name}:${port}`))
  .filter((name) => name !== 'docker.io' && name !== 'index.docker.io');
const tag = fc
  .tuple(fc.constantFrom('a', 'b', 'Z', '0', '9', '_'), text('aZ0_.-', { minLength: 0, maxLength: 127 }))
  .map(([first, rest]) => first + rest);
const digest = text('0123456789abcdef', { minLength: 64, maxLength: 64 }).map((hex) => `sha256:${hex}`);
const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined });

describe('the grammar of references', () => {
  it('lets every reference be written and read again', () => {
    fc.assert(
      fc.property(registry, path, optional(tag), optional(digest), (registry, path, tag, digest) => {
        const reference = { registry, path, tag, digest };
        assert.deepEqual(parseReference(canonicalString(reference)), reference);
        assert.deepEqual(parseReference(familiarString(reference)), reference);
      }),
    );
  });

  it('lets references of the default registry be shortened and read again', () => {
    fc.assert(
      fc.property(path, optional(tag), optional(digest), (path, tag, digest) => {
        const reference = parseReference(`docker.io/${path}${tag === undefined ? '' : `:${tag}`}`);
        const full = digest === undefined ? reference : withDigest(reference, digest);
        // A short name of 64 hex digits is an identifier, and one whose first part looks like a host is one.
        const first = familiarName(full).split('/')[0] ?? '';
        fc.pre(!/^[a-f0-9]{64}$/.test(familiarString(full)));
        fc.pre(!familiarName(full).includes('/') || !(first.includes('.') || first === 'localhost'));
        assert.deepEqual(parseReference(familiarString(full)), full);
        assert.deepEqual(parseReference(canonicalString(full)), full);
      }),
    );
  });

  it('takes what it takes, and refuses all else, however a reference is changed', () => {
    const valid = fc
      .tuple(registry, path, optional(tag), optional(digest))
      .map(([registry, path, tag, digest]) => canonicalString({ registry, path, tag, digest }));
    const mutated = fc
      .tuple(valid, fc.nat(), fc.constantFrom(...Array.from('aZ0._-:/@[]% é')), fc.boolean())
      .map(([text, at, character, replaces]) => {
        const position = at % (text.length + 1);
        return text.slice(0, position) + character + text.slice(position + (replaces ? 1 : 0));
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.string()), (text) => {
        let parsed;
        try {
          parsed = parseReference(text);
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, 'invalid');
          return;
        }
        // What is taken has only parts of the grammar, and is the same when it is read again.
        assert.match(
          parsed.path,
          /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/,
        );
        assert.ok(parsed.path.length <= 255);
        assert.match(parsed.tag ?? 'none', /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
        assert.match(parsed.digest ?? SHA256, /^sha(?:256:[a-f0-9]{64}|384:[a-f0-9]{96}|512:[a-f0-9]{128})$/);
        assert.deepEqual(parseReference(canonicalString(parsed)), parsed);
      }),
    );
  });
});
