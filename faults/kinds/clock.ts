import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { scratch } from '../../test/support/process.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { disturbed, WORKS } from '../works.ts';

const LIBRARY = '/usr/$LIB/faketime/libfaketimeMT.so.1';
/** Days that the clock jumps by. */
const JUMPS = ['-400d', '-3d', '-1h', '+1h', '+3d', '+40d', '+400d'] as const;

/** The clock jumps in the middle of a work, and back afterwards. */
export const clock: Kind = {
  name: 'clock',
  needs: ['docker-registry', 'faketime'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const work = random.pick(WORKS.map(({ name }) => name));
    const [jump, milliseconds] = [random.pick(JUMPS), random.whole(0, 60)];
    const restarts = random.whole(0, 3) === 0;
    return {
      plan: { subject, work, jump, milliseconds, restarts },
      async run(beds) {
        const bed = await beds.get('clock', async (resources) => {
          const file = join(resources.use(await scratch('clock')).path, 'offset');
          await setClock(file, '+0');
          return {
            env: {
              LD_PRELOAD: LIBRARY,
              FAKETIME_TIMESTAMP_FILE: file,
              FAKETIME_NO_CACHE: '1',
              // Timers go by the monotonic clock, which never jumps.
              FAKETIME_DONT_FAKE_MONOTONIC: '1',
            },
          };
        });
        const file = bed.env['FAKETIME_TIMESTAMP_FILE'] ?? '';
        return disturbed({
          bed,
          work,
          subject,
          async disturb(run) {
            const running = run();
            await sleep(milliseconds);
            await setClock(file, jump);
            await running;
            if (restarts) await bed.daemon.restart();
            await setClock(file, '+0');
            return 1;
          },
        });
      },
    };
  },
};

/** At once, since the daemon reads it whenever it asks for the time. */
async function setClock(file: string, offset: string): Promise<void> {
  await writeFile(`${file}.new`, offset);
  await rename(`${file}.new`, file);
}
