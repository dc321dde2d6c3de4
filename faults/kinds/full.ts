import assert from 'node:assert/strict';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { must, scratch } from '../../test/support/process.ts';
import type { Beds } from '../beds.ts';
import type { Bed } from '../bed.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { disturbed, WORKS } from '../works.ts';

/** Room for all subjects and the reserve. */
const DISK = '32m';
/** Blocks of a tmpfs, in bytes. */
const PAGE = 4096;

/** The disk gets full: whichever write takes the page after the last one that is left fails. */
export const full: Kind = {
  name: 'full',
  needs: ['docker-registry', 'root'],
  draw(random, index) {
    const subject = random.whole(0, SUBJECTS - 1);
    const work = random.pick(WORKS.map(({ name }) => name));
    // The first pages one by one, in which the metadata are written, then as a pull goes on.
    const pages = index % 2 === 0 ? (index / 2) % 64 : random.whole(0, 900);
    return {
      plan: { subject, work, pages },
      async run(beds) {
        const bed = await smallDisk(beds);
        const ballast = join(bed.dataRoot, '..', 'ballast');
        return disturbed({
          bed,
          work,
          subject,
          async disturb(run) {
            await fillUpTo(ballast, pages);
            const { done } = await run();
            assert.ok(bed.isAlive, `the daemon did not outlive a full disk: ${bed.daemon.log.slice(-2000)}`);
            await rm(ballast);
            return done ? 0 : 1;
          },
        });
      },
    };
  },
};

/** Leaves no more pages than that. */
async function fillUpTo(ballast: string, pages: number): Promise<void> {
  const { bfree } = await statfs(dirname(ballast));
  try {
    await writeFile(ballast, Buffer.alloc(Math.max(0, bfree - pages) * PAGE));
  } catch (error) {
    // The daemon has taken some meanwhile.
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  }
}

function smallDisk(beds: Beds): Promise<Bed> {
  return beds.get('small disk', async (resources) => {
    const { path } = resources.use(await scratch('small-disk'));
    await must('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'tmpfs', path]);
    resources.defer(async () => {
      await must('umount', ['--lazy', path]);
    });
    return { dataRoot: join(path, 'data') };
  });
}
