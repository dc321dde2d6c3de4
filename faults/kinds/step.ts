import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { traced } from '../trace.ts';
import { disturbed, WORKS } from '../works.ts';

/** How many of each call one thread makes at most in a work that is looked at, and which begin a step that a crash may end. */
const CALLS: Readonly<Record<string, number>> = { rename: 4, sync: 4, unlink: 3, open: 6, ftruncate: 2, pwrite64: 12 };

/** Every step of every work, one after the other. */
const STEPS = WORKS.flatMap(({ name: work }) =>
  Object.entries(CALLS).flatMap(([call, most]) =>
    Array.from({ length: most }, (_, index) => ({ work, call, nth: index + 1 })),
  ),
);

/** kill -9 at each step of each work that changes the disk: the n-th call of a kind is never made. */
export const step: Kind = {
  name: 'step',
  needs: ['docker-registry', 'strace'],
  draw(random, index) {
    const subject = random.whole(0, SUBJECTS - 1);
    // In an order in which neighbours differ, so that a short campaign sees some of each: 37 has no factor in common.
    const { work, call, nth } = STEPS[(index * 37) % STEPS.length] ?? { work: 'pull', call: 'rename', nth: 1 };
    return {
      plan: { subject, work, call, nth },
      async run(beds) {
        const bed = await beds.plain();
        return disturbed({
          bed,
          work,
          subject,
          disturb: (run) => traced(bed, { call, nth, outcome: 'KILL' }, run),
        });
      },
    };
  },
};
