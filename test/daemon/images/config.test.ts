import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseImageConfig } from '../../../src/daemon/images/config.ts';
import { platformOf } from '../../../src/daemon/images/selection.ts';
import { sha256 } from './fixture.ts';

const parse = (fields: object): ReturnType<typeof parseImageConfig> =>
  parseImageConfig(
    Buffer.from(JSON.stringify({ os: 'linux', architecture: 'arm', rootfs: { type: 'layers' }, ...fields })),
    sha256('config'),
  );

describe('the config of an image', () => {
  it('states a platform with all that decides where it runs', () => {
    const stated = { variant: 'v6', 'os.version': '1.2', 'os.features': ['one', 'two'] };
    assert.deepEqual(platformOf(parse(stated)), { os: 'linux', architecture: 'arm', ...stated });
    for (const nothing of [{}, { variant: '', 'os.features': [] }]) {
      assert.deepEqual(platformOf(parse(nothing)), { os: 'linux', architecture: 'arm' });
    }
    const nulls = {
      variant: null,
      'os.version': null,
      'os.features': null,
      history: null,
      config: null,
      created: null,
    };
    assert.deepEqual(platformOf(parse(nulls)), { os: 'linux', architecture: 'arm' });
  });

  it('is refused where its fields are of another type, naming the field', () => {
    for (const [field, value] of [
      ['architecture', 1],
      ['variant', 7],
      ['os.version', {}],
      ['os.features', 'win32k'],
      ['os.features', [1]],
      ['rootfs', { type: 'trees' }],
      ['history', {}],
      ['config', []],
      ['created', 5],
    ] as const) {
      assert.throws(() => parse({ [field]: value }), { kind: 'corrupt', message: new RegExp(field) }, field);
    }
  });
});
