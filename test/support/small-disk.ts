import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { must, run, scratch } from './process.ts';

const BYTES = 64 * 1024 * 1024;

/** A file system of 64 MiB of its own. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  readonly dataRoot: string;
}

/** An ext4 of its own, where what is deleted is free only once the journal says so; undefined where it cannot be had. */
export async function smallDisk(t: TestContext): Promise<SmallDisk | undefined> {
  await using cleanup = new AsyncDisposableStack();
  const { path } = cleanup.use(await scratch('disk'));
  const [device, mountPoint] = [join(path, 'device'), join(path, 'mount')];
  await mkdir(mountPoint);
  await writeFile(device, '');
  await truncate(device, BYTES);
  await must('mkfs.ext4', ['-q', device]);
  if ((await run('mount', ['-o', 'loop', device, mountPoint])).code !== 0) {
    t.skip('cannot mount a loop device here');
    return undefined;
  }
  cleanup.defer(async () => {
    await must('umount', [mountPoint]);
  });
  const resources = cleanup.move();
  const dataRoot = join(mountPoint, 'data');
  await mkdir(dataRoot);
  return { path: mountPoint, dataRoot, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
