import { watch, type FSWatcher } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { MAX_SPEC_BYTES } from '../../protocol/image-set.ts';
import type { Platform } from '../../protocol/oci.ts';
import { JsonError, parseJson } from '../../protocol/json.ts';
import { isName, NAME_RULE } from './set.ts';
import { parseSpec, type ParsedSpec } from './spec.ts';
import type { SetStore } from './store.ts';

const SUFFIX = '.json';
/** An editor may write a file in several steps: the directory is read so long after the last of them, in milliseconds. */
const SETTLE = 200;
/** It is read that often in any case, in milliseconds: not every file system tells of changes, nor of a directory to come. */
const INTERVAL = 60_000;

interface FilesLog {
  warn(message: string, fields?: Record<string, unknown>): unknown;
  error(message: string, fields?: Record<string, unknown>): unknown;
}

/**
 * The sets that come from files: each `NAME.json` in a directory is the set NAME. They are read at the start, at a reload
 * and when the directory changes. A file that cannot be used is told of by its set, and leaves in force what it said before;
 * a file that is gone takes its set away.
 */
export class SetFiles {
  readonly #sets: SetStore;
  readonly #host: Platform;
  readonly #log: FilesLog;
  readonly #onChange: () => void;
  #directory: string;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #isClosed = false;
  /** Files that are no sets, of which the log has been told. */
  readonly #odd = new Set<string>();

  constructor(parts: {
    sets: SetStore;
    host: Platform;
    directory: string;
    log: FilesLog;
    /** Told after the files were read. */
    onChange: () => void;
  }) {
    this.#sets = parts.sets;
    this.#host = parts.host;
    this.#directory = parts.directory;
    this.#log = parts.log;
    this.#onChange = parts.onChange;
  }

  /** Reads the directory, or another one, and from now on whenever it changes. */
  async read(directory = this.#directory): Promise<void> {
    // One after the other: two at once could each undo what the other has just done.
    this.#reading = this.#reading.then(() => this.#read(directory));
    await this.#reading;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unwatch();
    clearTimeout(this.#timer);
    await this.#reading;
  }

  async #read(directory: string): Promise<void> {
    if (this.#isClosed) return;
    if (directory !== this.#directory) this.#unwatch();
    this.#directory = directory;
    // Before it is read, so that no change comes in between.
    this.#watch();
    try {
      await this.#take(await this.#find());
    } catch (error) {
      this.#log.error(`the image sets in ${this.#directory} cannot be read, and stay as they are: ${messageOf(error)}`);
    }
    this.#readLater(INTERVAL);
    this.#onChange();
  }

  /** The names of the sets that there are files of. Throws where the directory cannot be read. */
  async #find(): Promise<string[]> {
    const { names, odd } = await setFiles(this.#directory);
    for (const file of odd) {
      if (this.#odd.has(file)) continue;
      this.#odd.add(file);
      this.#log.warn(`${file} is no image set: a file is called after its set, ${NAME_RULE}, and ${SUFFIX}`);
    }
    return names;
  }

  async #take(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const file = join(this.#directory, name + SUFFIX);
      try {
        this.#sets.put(name, await readSetFile(file, this.#host), { file });
      } catch (error) {
        if (!(error instanceof LayerdError)) throw error;
        this.#sets.refuse(name, error.message, file);
      }
    }
    for (const name of this.#sets.names()) {
      const set = this.#sets.get(name);
      if (set === undefined || names.includes(name)) continue;
      if (set.file !== undefined) this.#sets.delete(name, { file: set.file });
      else if (set.problem !== undefined) this.#sets.accept(name);
    }
  }

  #watch(): void {
    if (this.#watcher !== undefined) return;
    try {
      this.#watcher = watch(this.#directory, { persistent: false }, (event, file) => {
        // The directory itself was replaced: what is watched is no longer what its name leads to.
        if (event === 'rename' && file !== null && this.#directory.endsWith(`/${file}`)) this.#unwatch();
        this.#readLater(SETTLE);
      });
      this.#watcher.on('error', () => this.#unwatch());
    } catch {
      // It does not exist, or cannot be watched: it is read from time to time.
      this.#watcher = undefined;
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #readLater(delay: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.read(), delay).unref();
  }
}

/**
 * Checks all files of sets in a directory.
 * @throws LayerdError of kind invalid, naming the file and the field.
 */
export async function checkSetFiles(directory: string, host: Platform): Promise<void> {
  const { names, odd } = await setFiles(directory);
  const [first] = odd;
  if (first !== undefined) {
    throw new LayerdError(
      'invalid',
      `${first} is no image set: a file is called after its set, ${NAME_RULE}, and ${SUFFIX}`,
    );
  }
  for (const name of names) await readSetFile(join(directory, name + SUFFIX), host);
}

/** The names of the sets in a directory, and files that can be none. Of a directory that does not exist there are none. */
async function setFiles(directory: string): Promise<{ names: string[]; odd: string[] }> {
  const files = await readdir(directory).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  });
  // Hidden files are those that editors and configuration tools are about to put in place.
  const found = files.filter((file) => file.endsWith(SUFFIX) && !file.startsWith('.')).toSorted();
  const nameOf = (file: string): string => file.slice(0, -SUFFIX.length);
  return {
    names: found.map(nameOf).filter(isName),
    odd: found.filter((file) => !isName(nameOf(file))).map((file) => join(directory, file)),
  };
}

async function readSetFile(file: string, host: Platform): Promise<ParsedSpec> {
  try {
    const found = await stat(file);
    // Opening a pipe would wait for somebody to write.
    if (!found.isFile()) throw new Error('it is not a file');
    if (found.size > MAX_SPEC_BYTES) throw new Error(`it is larger than ${MAX_SPEC_BYTES} bytes`);
    return parseSpecText(await readFile(file, 'utf8'), host);
  } catch (error) {
    throw new LayerdError('invalid', `${file}: ${messageOf(error)}`, { cause: error });
  }
}

/** Reads the spec of a set from JSON. Throws `invalid`, naming the field or the line. */
export function parseSpecText(json: string, host: Platform): ParsedSpec {
  try {
    return parseSpec(parseJson(json), host);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new LayerdError('invalid', `it is not JSON: ${error.message}`, { cause: error });
  }
}
