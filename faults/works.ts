import assert from 'node:assert/strict';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf } from '../src/protocol/digest.ts';
import { ociArchive, type TestImage } from '../test/support/images.ts';
import { blobsOf, type Bed, type Ending } from './bed.ts';
import type { Injected } from './kind.ts';

/** What the daemon is doing when something fails. */
export interface Work {
  readonly name: string;
  /** Before anything fails. */
  prepare(bed: Bed, target: Target): Promise<void>;
  run(bed: Bed, target: Target, leave?: AbortSignal): Promise<Ending>;
  /** Holds the daemon to it that what it said it had done is done. */
  check(bed: Bed, target: Target): Promise<void>;
  /** Puts right what was broken on purpose before, and may still be. */
  mend?(bed: Bed): Promise<void>;
}

/** What a round is about. */
export interface Target {
  /** `repository:tag`. */
  readonly name: string;
  readonly image: TestImage;
}

/** A name that the subject gets beside its own. */
export const ALIAS = 'alias:1';

const nothing = (): Promise<void> => Promise.resolve();
const present: Work['check'] = async (bed, { name, image }) => {
  assert.equal(await bed.idOf(bed.ref(name)), image.id, `${name} was promised, and is not there`);
};
const pulled: Work['prepare'] = async (bed, { name }) => bed.mustPull(name);

export const WORKS: readonly Work[] = [
  { name: 'pull', prepare: nothing, run: (bed, { name }, leave) => bed.pull(name, leave), check: present },
  {
    name: 'load',
    prepare: nothing,
    async run(bed, { name, image }) {
      const [inner = image] = image.children;
      return bed.attempt('/images/load', { body: await ociArchive(inner, bed.ref(name)) });
    },
    check: present,
  },
  {
    name: 'remove',
    prepare: pulled,
    run: (bed, { name }) => bed.remove(bed.ref(name)),
    async check(bed, { name }) {
      assert.equal(await bed.idOf(bed.ref(name)), undefined, `${name} was removed, and is there`);
    },
  },
  {
    name: 'tag',
    prepare: pulled,
    run(bed, { name }) {
      const [repository = '', tag = ''] = bed.ref(ALIAS).split(/:(?=\d+$)/);
      const query = `repo=${encodeURIComponent(repository)}&tag=${tag}`;
      return bed.attempt(`/images/${encodeURIComponent(bed.ref(name))}/tag?${query}`);
    },
    async check(bed, { image }) {
      assert.equal(await bed.idOf(bed.ref(ALIAS)), image.id, 'a tag was promised, and is not there');
    },
  },
  {
    name: 'repair',
    async prepare(bed, { name, image }) {
      await bed.mustPull(name);
      const blob = blobsOf(image).at(-1);
      if (blob !== undefined) await truncate(join(bed.dataRoot, 'blobs/sha256', hexOf(blob.digest)), 100);
    },
    run: (bed) => bed.attempt('/layerd/verify?repair=1'),
    check: nothing,
    async mend(bed) {
      await bed.findings(true);
    },
  },
];

/** The work of that name. */
function workOf(name: string): Work {
  const found = WORKS.find((work) => work.name === name);
  if (found === undefined) throw new Error(`there is no work ${name}`);
  return found;
}

/** The subject of that index. */
export function targetOf(bed: Bed, subject: number): Target {
  const image = bed.subjects[subject];
  if (image === undefined) throw new Error(`there is no subject ${subject}`);
  return { name: `subject${subject}:1`, image };
}

/** A work while something fails. */
export interface Disturbed {
  readonly bed: Bed;
  /** By its name, as plans have it. */
  readonly work: string;
  /** Which of the images it is about. */
  readonly subject: number;
  readonly leave?: AbortSignal;
  /** Whether what was done in the end has to be there still; default: it has. */
  readonly isPromised?: boolean;
  /** Has things fail while the work is under way, and ends that once the work is over. Resolves with how often one did. */
  readonly disturb: (run: () => Promise<Ending>) => Promise<number>;
}

/** Does the work with the disturbance, then holds the store to its promises, then does it all once more undisturbed. */
export async function disturbed({
  bed,
  work: name,
  subject,
  leave,
  isPromised = true,
  disturb,
}: Disturbed): Promise<Injected> {
  const [work, target] = [workOf(name), targetOf(bed, subject)];
  await work.prepare(bed, target);
  bed.proxy.reset();
  let ending: Ending = { done: false };
  const struck = await disturb(async () => (ending = await work.run(bed, target, leave)));
  bed.proxy.heal();
  await bed.revive();
  // What the disturbance or the work itself has broken.
  await work.mend?.(bed);
  await bed.holds(target.image);
  if (ending.done && isPromised) await work.check(bed, target);
  const twice = await bed.settle(target.name, target.image, work.name === 'tag' ? [ALIAS] : []);
  return { faults: struck, twice };
}
