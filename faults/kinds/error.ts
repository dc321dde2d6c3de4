import assert from 'node:assert/strict';
import { join } from 'node:path';
import { hexOf } from '../../src/protocol/digest.ts';
import { blobsOf } from '../bed.ts';
import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { traced } from '../trace.ts';
import { disturbed, targetOf, WORKS } from '../works.ts';

const ERRORS = [
  { call: 'rename', most: 4, errors: ['EIO', 'ENOSPC', 'EACCES'] },
  { call: 'sync', most: 4, errors: ['EIO', 'ENOSPC'] },
  { call: 'unlink', most: 3, errors: ['EIO', 'EBUSY'] },
  { call: 'ftruncate', most: 2, errors: ['EIO', 'ENOSPC'] },
  { call: 'pwrite64', most: 12, errors: ['EIO', 'ENOSPC', 'EDQUOT'] },
  { call: 'pread64', most: 12, errors: ['EIO'] },
] as const;

/** The disk refuses a call, once in each thread. */
export const error: Kind = {
  name: 'error',
  needs: ['docker-registry', 'strace'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const work = random.pick(WORKS.map(({ name }) => name));
    const { call, most, errors } = random.pick(ERRORS);
    const [nth, outcome] = [random.whole(1, most), random.pick<string>(errors)];
    return {
      plan: { subject, work, call, nth, outcome },
      async run(beds) {
        const bed = await beds.plain();
        return disturbed({
          bed,
          work,
          subject,
          async disturb(run) {
            const struck = await traced(bed, { call, nth, outcome }, run);
            assert.ok(bed.isAlive, `the daemon did not outlive an error of the disk: ${bed.daemon.log.slice(-2000)}`);
            // What the disk would not let go of may lie about until the next start.
            if (struck > 0) await bed.daemon.restart();
            return struck;
          },
        });
      },
    };
  },
};

/** A stored blob cannot be read: what needs it has to fail, and say so. */
export const read: Kind = {
  name: 'read',
  needs: ['docker-registry', 'strace'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const blob = random.whole(0, 2);
    const nth = random.whole(1, 2);
    return {
      plan: { subject, blob, nth },
      async run(beds) {
        const bed = await beds.plain();
        const { name, image } = targetOf(bed, subject);
        await bed.mustPull(name);
        bed.proxy.reset();
        const blobs = blobsOf(image);
        const path = join(bed.dataRoot, 'blobs/sha256', hexOf((blobs[blob % blobs.length] ?? image).digest));
        let findings: string[] = [];
        const struck = await traced(bed, { call: 'read', nth, outcome: 'EIO', path }, async () => {
          findings = await bed.findings();
        });
        assert.ok(bed.isAlive, 'the daemon did not outlive a read error');
        if (struck > 0) assert.notDeepEqual(findings, [], 'a blob that cannot be read passed for sound');
        // The disk has recovered: what a verification finds now is the file as it always was.
        await bed.findings(true);
        await bed.holds(image);
        return { faults: struck, twice: await bed.settle(name, image) };
      },
    };
  },
};
