import { readFile } from 'node:fs/promises';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import { replaceFile } from './replace-file.ts';

/** A place in the log of events of one store. */
export interface Place {
  /** The store's identity. */
  readonly store: string;
  /** Sequence number of the last event that was dealt with. */
  readonly seq: number;
}

/** A file that keeps a place in the log of events, as JSON. It is replaced as a whole and never runs ahead. */
export class CursorFile {
  readonly path: string;
  /** What it held when it was opened; undefined where there was no file. */
  readonly place: Place | undefined;
  #latest: Place | undefined;
  #writing: Promise<void> | undefined;
  #failure: unknown;

  private constructor(path: string, place: Place | undefined) {
    this.path = path;
    this.place = place;
  }

  /** Reads the file. Throws `invalid` where it holds anything but a place. */
  static async open(path: string): Promise<CursorFile> {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new CursorFile(path, undefined);
      throw new LayerdError('unavailable', `cannot read the cursor file ${path}: ${messageOf(cause)}`, { cause });
    }
    return new CursorFile(path, placeIn(text, path));
  }

  /**
   * Keeps a later place. It is written while others are dealt with, and of several that come meanwhile the last: after a
   * crash some events come again, none is left out. Throws if an earlier one could not be written.
   */
  keep(place: Place): void {
    if (this.#failure !== undefined) throw this.#failure as Error;
    this.#latest = place;
    this.#writing ??= this.#write();
  }

  /** Resolves when the last place is in the file. Throws if it could not be written. */
  async settled(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  async #write(): Promise<void> {
    try {
      for (let written: Place | undefined; this.#latest !== written;) {
        const place = this.#latest;
        await replaceFile(this.path, `${JSON.stringify(place)}\n`);
        written = place;
      }
    } catch (cause) {
      this.#failure = new LayerdError('unavailable', `cannot write the cursor file ${this.path}: ${messageOf(cause)}`, {
        cause,
      });
    } finally {
      this.#writing = undefined;
    }
  }
}

function placeIn(text: string, path: string): Place {
  try {
    const { store, seq } = JSON.parse(text) as Partial<Record<keyof Place, unknown>>;
    if (typeof store === 'string' && Number.isSafeInteger(seq)) return { store, seq: seq as number };
  } catch {
    // Whatever it is instead, the message is the same.
  }
  throw new LayerdError(
    'invalid',
    `the cursor file ${path} keeps no place in a log of events; name another file, or remove it to begin anew`,
  );
}
