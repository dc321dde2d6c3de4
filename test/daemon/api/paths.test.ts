import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { imageName } from '../../../src/daemon/api/names.ts';
import { flag } from '../../../src/daemon/api/parameters.ts';
import { NEWEST, OLDEST, parseVersion, splitVersion, versionText } from '../../../src/daemon/api/versions.ts';
import { isKind } from '../../../src/protocol/errors.ts';

/** What the body returns; undefined where it refuses. Any other error is a defect. */
function accepted<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    assert.ok(isKind(error, 'invalid'), String(error));
    return undefined;
  }
}

describe('a version prefix', () => {
  it('is taken off, and nothing else', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 99 }), fc.webPath(), (minor, path) => {
        const rest = path.startsWith('/') ? path : `/${path}`;
        const split = splitVersion(`/v1.${minor}${rest}`);
        assert.deepEqual(split, { version: `1.${minor}`, rest });
      }),
    );
    assert.deepEqual(splitVersion('/v1.41'), { version: '1.41', rest: '/' });
    assert.deepEqual(splitVersion('/v1.41?a=b'), { version: '1.41', rest: '/?a=b' });
    assert.deepEqual(splitVersion('/v1.41x/info'), { version: undefined, rest: '/v1.41x/info' });
  });

  it('is served from the oldest to the newest version, and refused in words otherwise', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 200 }), (major, minor) => {
        const isServed = major === 1 && minor >= OLDEST && minor <= NEWEST;
        assert.equal(
          accepted(() => parseVersion(`${major}.${minor}`)),
          isServed ? minor : undefined,
        );
      }),
    );
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9.]*$/), (text) => {
        const version = accepted(() => parseVersion(text));
        if (version !== undefined) assert.equal(Number(text.split('.')[1]), version);
      }),
    );
    assert.equal(parseVersion(versionText(NEWEST)), NEWEST);
  });
});

describe('an image name in a path', () => {
  it('never has an element that leads elsewhere, nor a control character', () => {
    const element = fc.oneof(fc.constantFrom('', '.', '..', 'a', '\n', ' '), fc.string({ maxLength: 5 }));
    fc.assert(
      fc.property(fc.array(element), (elements) => {
        const name = accepted(() => imageName(elements));
        if (name === undefined) return;
        assert.ok(name.split('/').every((part) => !['', '.', '..'].includes(part)));
        // eslint-disable-next-line no-control-regex -- they are what is looked for
        assert.doesNotMatch(name, /[\u0000-\u0020\u007f]/);
      }),
    );
  });

  it('is what the elements of the path are, joined', () => {
    assert.equal(imageName(['localhost:5000', 'team', 'app@sha256:ab']), 'localhost:5000/team/app@sha256:ab');
    assert.equal(imageName('redis'), 'redis');
  });
});

describe('a flag', () => {
  it('is read as dockerd reads it', () => {
    const read = (query: string): boolean => flag(new URLSearchParams(query), 'force');
    for (const query of ['', 'force', 'force=', 'force=0', 'force=false', 'force=No', 'force=NONE', 'force=%20']) {
      assert.equal(read(query), false, query);
    }
    for (const query of ['force=1', 'force=true', 'force=yes', 'force=2', 'force=off']) {
      assert.equal(read(query), true, query);
    }
  });
});
