import { setTimeout as sleep } from 'node:timers/promises';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { disturbed, WORKS } from '../works.ts';

/** Milliseconds that a work takes at most, on an idle machine. */
const SPAN_MS = 120;

/** kill -9 at a moment of a work, whenever it comes. */
export const kill: Kind = {
  name: 'kill',
  needs: ['docker-registry'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const work = random.pick(WORKS.map(({ name }) => name));
    const milliseconds = random.whole(0, SPAN_MS);
    return {
      plan: { subject, work, milliseconds },
      async run(beds) {
        const bed = await beds.plain();
        return disturbed({
          bed,
          work,
          subject,
          async disturb(run) {
            const running = run();
            await sleep(milliseconds);
            await bed.daemon.kill('SIGKILL');
            await running;
            return 1;
          },
        });
      },
    };
  },
};
