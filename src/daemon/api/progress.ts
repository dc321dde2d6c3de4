import type { ServerResponse } from 'node:http';
import type { ProgressMessage } from '../../protocol/progress.ts';

/** How long lines are gathered before they are written, in milliseconds: every write wakes both sides. */
const GATHER_MILLISECONDS = 40;
/** Characters that are not gathered any longer. */
const GATHER_CHARACTERS = 16 * 1024;

/**
 * The stream of progress lines that answers a pull: newline-delimited JSON, begun by the first line, so that a failure
 * before it still gets a status of its own.
 *
 * A client that reads slowly never makes the daemon buffer: while its connection is full, only the latest line of each
 * `id` waits, and a line without one is waited for by whoever sends it.
 */
export class ProgressStream {
  readonly #response: ServerResponse;
  /** What waits for the connection to drain, by `id`; a symbol for a line that has none. */
  readonly #waiting = new Map<string | symbol, ProgressMessage>();
  #drained: PromiseWithResolvers<void> | undefined;
  /** Lines that are about to be written. */
  #gathered = '';
  #timer: NodeJS.Timeout | undefined;

  constructor(response: ServerResponse) {
    this.#response = response;
    response.on('drain', () => {
      this.#drain();
    });
    response.once('close', () => {
      clearTimeout(this.#timer);
      this.#waiting.clear();
      this.#drained?.resolve();
    });
  }

  /** Whether anything was sent, after which the status is given. */
  get begun(): boolean {
    return this.#response.headersSent || this.#gathered !== '';
  }

  /** Sends a line. Resolves when there is room for more; lines with an `id` need not wait for that. */
  send(message: ProgressMessage): void | Promise<void> {
    if (this.#isGone()) return;
    if (this.#drained === undefined) this.#write(message);
    else this.#waiting.set(message.id ?? Symbol('line'), message);
    return this.#drained?.promise;
  }

  /** Ends the stream, with the error if there was one. */
  end(error?: string): void {
    if (this.#isGone()) return;
    for (const message of this.#waiting.values()) this.#write(message);
    this.#waiting.clear();
    // `error` repeats the message for clients from before errorDetail.
    if (error !== undefined) this.#write({ errorDetail: { message: error }, error });
    this.#flush();
    this.#response.end();
  }

  #write(message: ProgressMessage): void {
    this.#gathered += `${JSON.stringify(message)}\r\n`;
    if (this.#gathered.length >= GATHER_CHARACTERS) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), GATHER_MILLISECONDS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#response.headersSent) this.#response.setHeader('Content-Type', 'application/json');
    const lines = this.#gathered;
    this.#gathered = '';
    if (lines !== '' && !this.#response.write(lines)) this.#drained ??= Promise.withResolvers();
  }

  #drain(): void {
    const drained = this.#drained;
    this.#drained = undefined;
    for (const [key, message] of this.#waiting) {
      this.#waiting.delete(key);
      this.#write(message);
      // The connection is full again; the rest waits for the next time, with what is sent meanwhile.
      if (this.#isFull()) break;
    }
    drained?.resolve();
  }

  #isGone(): boolean {
    return this.#response.closed || this.#response.destroyed;
  }

  #isFull(): boolean {
    return this.#drained !== undefined;
  }
}
