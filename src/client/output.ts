import type { Writable } from 'node:stream';
import { LayerdError } from '../protocol/errors.ts';
import { Style } from './format/style.ts';

/** What a terminal is taken to be that does not say its size, or says 0. */
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** Where a command writes: a terminal, a pipe or a file. */
export class Output {
  readonly isTerminal: boolean;
  readonly style: Style;
  readonly #stream: Writable & { isTTY?: boolean; columns?: number; rows?: number };

  constructor(stream: Writable & { isTTY?: boolean; columns?: number; rows?: number }, env: NodeJS.ProcessEnv) {
    this.#stream = stream;
    this.isTerminal = stream.isTTY === true && env['TERM'] !== 'dumb';
    // https://no-color.org: any value but the empty one.
    this.style = new Style(this.isTerminal && (env['NO_COLOR'] ?? '') === '');
    // Failures come back through write; without a listener the stream would throw them a second time.
    stream.on('error', () => undefined);
  }

  get columns(): number {
    return this.#stream.columns || DEFAULT_COLUMNS;
  }

  get rows(): number {
    return this.#stream.rows || DEFAULT_ROWS;
  }

  /**
   * Writes text or bytes and resolves when the reader can take more. Rejects with the system's error when the reader is gone
   * (`EPIPE`), and with a LayerdError when the disk is full or fails.
   */
  write(text: string | Uint8Array): Promise<void> {
    if (text.length === 0) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#stream.write(text, (error) => {
      if (error === null || error === undefined) resolve(undefined);
      else reject(refusal(error));
    });
    return promise;
  }

  /** Writes lines, each with its newline. */
  lines(lines: readonly string[]): Promise<void> {
    return this.write(lines.map((line) => `${line}\n`).join(''));
  }

  line(text: string): Promise<void> {
    return this.write(`${text}\n`);
  }
}

/** What a failure to write means to the user. That the reader has gone is nothing to be told. */
function refusal(error: NodeJS.ErrnoException): Error {
  if (error.code === 'EPIPE') return error;
  const isFull = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  return isFull
    ? new LayerdError('no-space', 'cannot write the output: no space left on its device', { cause: error })
    : new LayerdError('internal', `cannot write the output: ${error.message}`, { cause: error });
}
