import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import { campaign } from '../../faults/campaign.ts';
import { KINDS } from '../../faults/kinds.ts';
import { needs } from '../support/process.ts';

/** Rounds with each of the seeds; LAYERD_TEST_FAULTS=2000 is for whoever changed how things are stored. */
const ROUNDS = Number(process.env['LAYERD_TEST_FAULTS'] ?? 100);

describe('faults', { skip: needs('docker-registry'), concurrency: true }, () => {
  const kinds = KINDS.filter(({ needs: required }) => needs(...required) === false);
  for (const seed of ['ci', `${randomInt(1_000_000)}`]) {
    it(`break no promise, with the seed ${seed}`, async (t) => {
      const { failures, kinds: counts } = await campaign({ seed, kinds, from: 0, to: ROUNDS });
      for (const { round, kind, plan, reason } of failures) {
        t.diagnostic(`${kind} ${JSON.stringify(plan)}: ${reason}`);
        t.diagnostic(
          `repeat it: npm run faults -- --seed ${seed} --only ${kinds.map(({ name }) => name).join(',')} --round ${round}`,
        );
      }
      assert.deepEqual(failures, []);
      // A campaign whose faults all miss would say nothing.
      const faults = Object.values(counts).reduce((sum, count) => sum + count.faults, 0);
      assert.ok(faults > ROUNDS / 3, `only ${faults} faults struck`);
    });
  }
});
