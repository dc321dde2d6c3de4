import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { must } from '../../test/support/process.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { disturbed, WORKS } from '../works.ts';

/** The daemon is left so few file descriptors that it uses them up. */
export const descriptors: Kind = {
  name: 'descriptors',
  needs: ['docker-registry', 'prlimit', 'root'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const work = random.pick(WORKS.map(({ name }) => name));
    const spare = random.whole(1, 9);
    return {
      plan: { subject, work, spare },
      async run(beds) {
        const bed = await beds.plain();
        return disturbed({
          bed,
          work,
          subject,
          async disturb(run) {
            const pid = `${bed.daemon.process.child.pid ?? 0}`;
            const limits = await readFile(`/proc/${pid}/limits`, 'utf8');
            const usual = /Max open files\s+(\d+)/.exec(limits)?.[1] ?? '1024';
            const open = (await readdir(`/proc/${pid}/fd`)).map(Number);
            await must('prlimit', ['--pid', pid, `--nofile=${Math.max(...open) + spare}:`]);
            await run();
            assert.ok(bed.isAlive, `the daemon did not outlive it: ${bed.daemon.log.slice(-2000)}`);
            await must('prlimit', ['--pid', pid, `--nofile=${usual}:`]);
            return 1;
          },
        });
      },
    };
  },
};
