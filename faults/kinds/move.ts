import assert from 'node:assert/strict';
import { push } from '../../test/support/images.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { targetOf } from '../works.ts';

const NAME = 'moving:1';

/** The tag moves while its image is on the way. */
export const move: Kind = {
  name: 'move',
  needs: ['docker-registry'],
  draw(random) {
    const from = random.whole(0, SUBJECTS - 1);
    const to = (from + random.whole(1, SUBJECTS - 1)) % SUBJECTS;
    const path = random.pick(['/blobs/', '/manifests/']);
    const stallAfter = random.whole(0, 400);
    return {
      plan: { from, to, path, stallAfter },
      async run(beds) {
        const bed = await beds.plain();
        const [old, next] = [targetOf(bed, from).image, targetOf(bed, to).image];
        await push(bed.registry.host, 'moving', '1', old);
        bed.proxy.reset();
        const moved = Promise.withResolvers<undefined>();
        bed.proxy.inject({ path: new RegExp(path), stallAfter, until: moved.promise });
        const running = bed.pull(NAME);
        await bed.proxy.until('a request to be struck', () => bed.proxy.struck > 0);
        await push(bed.registry.host, 'moving', '1', next);
        moved.resolve(undefined);
        const { done, error } = await running;
        bed.proxy.heal();
        assert.ok(done, `a pull whose tag moved failed: ${error ?? ''}`);
        await bed.holds(old, [next]);
        const id = await bed.idOf(bed.ref(NAME));
        assert.ok(id === old.id || id === next.id, `the pull brought ${id ?? 'nothing'}`);
        await bed.remove(bed.ref(NAME));
        bed.proxy.reset();
        return { faults: 1, twice: await bed.settle(NAME, next) };
      },
    };
  },
};
