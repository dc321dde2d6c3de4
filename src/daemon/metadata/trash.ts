import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';

/**
 * A folder of files that are gone for everybody and about to be freed. A file moves there in one turn of the event loop,
 * so that another one that is put into its place just after is not what gets deleted.
 */
export class Trash {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  /** Moves a file out of sight at once, and unlinks it in the background. One that is gone already is no error. */
  discard(path: string): void {
    const name = join(this.#folder, `${basename(path)}.${randomUUID()}`);
    try {
      renameSync(path, name);
    } catch {
      try {
        rmSync(path, { force: true, recursive: true });
      } catch {
        // What can neither be moved nor removed has no row any more, and the next start's sweep finds it.
      }
      return;
    }
    // What cannot be unlinked now is when the trash is emptied.
    rm(name, { force: true, recursive: true }).catch(() => undefined);
  }

  /** Frees what a daemon that died has left. File by file: others are being discarded meanwhile. */
  async empty(): Promise<void> {
    for (const name of readdirSync(this.#folder)) {
      await rm(join(this.#folder, name), { force: true, recursive: true });
    }
  }
}
