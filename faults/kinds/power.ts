import { mkdir, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { must, scratch } from '../../test/support/process.ts';
import { until } from '../../test/support/stack.ts';
import type { Bed } from '../bed.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { traced } from '../trace.ts';
import { disturbed, WORKS } from '../works.ts';

const DISK_BYTES = 64 * 1024 * 1024;
/** The kernel writes nothing by itself while a round takes, and a rename does not have the new file written before it. */
const MOUNT = 'loop,commit=300,noauto_da_alloc';

/**
 * The power fails: what the daemon, which is killed at a moment or at a sync, has not had synced is gone. The file system is
 * one in a file; a copy of that file, taken while the kernel still holds what was not written, is what a disk would have.
 */
export const power: Kind = {
  name: 'power',
  needs: ['docker-registry', 'mkfs.ext4', 'strace', 'root'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const drawn = random.pick(WORKS.map(({ name }) => name));
    // Once the daemon has synced what it stored, the image has to survive; before, it may be gone, and must not be half there.
    const at: { milliseconds?: number; call?: string; nth?: number; afterSync?: boolean } = random.pick([
      { afterSync: true },
      { milliseconds: random.whole(0, 150) },
      { call: random.pick(['sync', 'rename']), nth: random.whole(1, 4) },
    ]);
    const work = at.afterSync === true ? 'pull' : drawn;
    return {
      plan: { subject, work, ...at },
      async run(beds) {
        const bed = await beds.get('power', async (resources) => {
          const { path } = resources.use(await scratch('power'));
          const mountPoint = join(path, 'mount');
          await mkdir(mountPoint);
          await writeFile(join(path, 'device'), '');
          await truncate(join(path, 'device'), DISK_BYTES);
          await must('mkfs.ext4', ['-q', join(path, 'device')]);
          await must('mount', ['-o', MOUNT, join(path, 'device'), mountPoint]);
          resources.defer(async () => {
            await must('umount', ['--lazy', mountPoint]);
          });
          return { dataRoot: join(mountPoint, 'data') };
        });
        const mountPoint = join(bed.dataRoot, '..');
        const device = join(mountPoint, '../device');
        await must('sync', ['-f', mountPoint]);
        return disturbed({
          bed,
          work,
          subject,
          isPromised: at.afterSync === true,
          async disturb(run) {
            const { milliseconds, call, nth = 1 } = at;
            if (call !== undefined) await traced(bed, { call, nth, outcome: 'KILL' }, run);
            else {
              const running = run();
              if (milliseconds === undefined) await running.then(() => untilSynced(bed));
              else await sleep(milliseconds);
              await bed.daemon.kill('SIGKILL');
              await running;
            }
            // The call may not have come.
            await bed.daemon.kill('SIGKILL');
            await must('cp', ['--sparse=always', device, `${device}.copy`]);
            await must('umount', [mountPoint]);
            await rename(`${device}.copy`, device);
            await must('mount', ['-o', MOUNT, device, mountPoint]);
            haveRebooted(join(bed.dataRoot, 'metadata.db'));
            return 1;
          },
        });
      },
    };
  },
};

/** Waits until the daemon has marked all that it stored as synced. */
async function untilSynced(bed: Bed): Promise<void> {
  const db = new DatabaseSync(join(bed.dataRoot, 'metadata.db'), { readOnly: true });
  try {
    await until('the daemon to sync what it stored', () =>
      Promise.resolve(db.prepare('SELECT 1 FROM layer WHERE durable = 0').get() === undefined),
    );
  } finally {
    db.close();
  }
}

/** Has the store know another boot than this one as the last. */
function haveRebooted(path: string): void {
  const db = new DatabaseSync(path);
  try {
    db.exec(`UPDATE fact SET value = 'of before the power failed' WHERE key = 'boot id'`);
  } finally {
    db.close();
  }
}
