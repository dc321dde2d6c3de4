import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Rate } from '../../../src/daemon/transfers/rate.ts';

describe('a rate', () => {
  it('is that of the last seconds, falls to 0 where nothing comes, and begins anew with the transfer', () => {
    let now = 0;
    const rate = new Rate(() => now);
    rate.update(1_000_000);
    assert.equal(rate.value, 0, 'what was there before is not part of it');
    for (let second = 1; second <= 20; second += 1) {
      now = second * 1000;
      rate.update(1_000_000 + second * 50_000);
    }
    assert.equal(rate.value, 50_000);
    now += 2500;
    assert.equal(rate.value, 27_273);
    now += 60_000;
    assert.equal(rate.value, 0);
    rate.update(10);
    now += 1000;
    rate.update(30_010);
    assert.equal(rate.value, 30_000);
  });
});
