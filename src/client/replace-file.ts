import { randomUUID } from 'node:crypto';
import { open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Replaces a file as a whole, so that no reader and no crash meets half of it. Nobody but its owner may read a new one. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const known = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  // Where the file is a link into somebody's collection of settings, it stays one.
  const target = known === undefined ? path : await realpath(path);
  const temporary = join(dirname(target), `.${basename(target)}.${randomUUID()}`);
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      // Under sudo the file stays its user's.
      if (known !== undefined && process.getuid?.() === 0) await handle.chown(known.uid, known.gid);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
