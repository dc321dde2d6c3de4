import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isKnown } from '../../../../src/daemon/api/authorization/actions.ts';
import { Fixture } from '../fixture.ts';

describe('authorization', () => {
  it('knows what each route does', async () => {
    await using api = await Fixture.start();
    const unknown = api.routes.filter((route) => !isKnown(route.replace(/^HEAD /, 'GET ')));
    assert.deepEqual(unknown, []);
  });
});
