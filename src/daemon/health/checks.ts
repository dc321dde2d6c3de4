import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from '../metadata/database.ts';
import type { Reserve } from '../metadata/reserve.ts';
import { storageError } from '../metadata/storage-error.ts';
import type { EventLoopDelay } from './event-loop.ts';
import type { Check } from './health.ts';

/** Milliseconds that the event loop may have kept anybody waiting; a large store's slowest turns take a hundredth. */
const MAX_DELAY = 5000;

/** Something that answers at all: where nothing else is asked for, the answer is the check. */
export const ping: Check = { name: 'ping', run: () => Promise.resolve(undefined) };

/** Whether the metadata can be read. */
export function databaseReads(db: Database): Check {
  return check('database', () => {
    // A page of the file, where `SELECT 1` would not touch it.
    db.get('SELECT value FROM fact LIMIT 1');
  });
}

/** Whether the metadata can be written, which includes that they can be read. */
export function databaseWrites(db: Database): Check {
  return check('database', () => {
    const key = 'health checked at';
    db.run('INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)', key, new Date().toISOString());
  });
}

/** Whether files can be written in the data root: a file system with errors is often still readable. */
export function dataRootWrites(dataRoot: string): Check {
  const path = join(dataRoot, 'health');
  return check('data-root', async () => {
    try {
      const file = await open(path, 'w', 0o600);
      try {
        await file.writeFile('written to see whether files can be written here\n');
      } finally {
        await file.close();
      }
      await rm(path);
    } catch (error) {
      throw storageError(error, `write ${path}`);
    }
  });
}

/** Whether the space is held back without which images could not be removed from a full disk. */
export function reserveHolds(reserve: Pick<Reserve, 'shortage'>): Check {
  return check('reserve', () => {
    const { shortage } = reserve;
    if (shortage !== undefined) throw new Error(`the space for removing images is not held back: ${shortage}`);
  });
}

/** Whether the event loop turns as it should. */
export function eventLoopTurns(delay: Pick<EventLoopDelay, 'longest'>): Check {
  return check('event-loop', () => {
    const { longest } = delay;
    if (longest > MAX_DELAY) throw new Error(`it was blocked for ${(longest / 1000).toFixed(1)} s`);
  });
}

/** A check that fails where the work throws, and has the text that it returns told. */
export function check(name: string, work: () => unknown): Check {
  return {
    name,
    run: async () => {
      const told = await work();
      return typeof told === 'string' ? told : undefined;
    },
  };
}
