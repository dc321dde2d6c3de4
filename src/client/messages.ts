import type { WebSocket } from 'ws';

/** Messages that wait to be taken before the connection is no longer read. */
const MAX_WAITING = 256;
/** The daemon pings every 30 s whoever reads; a connection on which nothing comes for so long, in milliseconds, is dead. */
const MAX_SILENCE_MS = 100_000;

/** How a WebSocket ended (RFC 6455, 7.4). A connection that was cut has the code 1006, and maybe an error. */
export interface Ending {
  readonly code: number;
  readonly reason: string;
  readonly error: Error | undefined;
}

/** The text messages of one WebSocket, in order, at the pace at which they are taken: few of them are held. */
export class Messages {
  readonly #socket: WebSocket;
  #waiting: string[] = [];
  #error: Error | undefined;
  #ending: Ending | undefined;
  #wake: (() => void) | undefined;
  #heardAt = performance.now();

  /** The socket may be about to open still: nothing that comes with its opening is missed. */
  constructor(socket: WebSocket) {
    this.#socket = socket;
    const watch = setInterval(() => this.#watch(), MAX_SILENCE_MS / 4);
    socket.on('message', (data: Buffer) => {
      this.#heardAt = performance.now();
      this.#waiting.push(data.toString());
      if (this.#waiting.length >= MAX_WAITING && !socket.isPaused) socket.pause();
      this.#wake?.();
    });
    socket.on('ping', () => (this.#heardAt = performance.now()));
    socket.on('error', (error) => (this.#error ??= error));
    socket.on('close', (code, reason) => {
      clearInterval(watch);
      this.#ending = { code, reason: reason.toString(), error: this.#error };
      this.#wake?.();
    });
  }

  /** How it ended; undefined while it is open. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** All messages, those too that came before the connection ended. Leaving the iteration cuts it. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    try {
      for (;;) {
        const taken = this.#waiting;
        this.#waiting = [];
        if (taken.length === 0 && this.#ending !== undefined) return;
        yield* taken;
        if (this.#waiting.length === 0 && this.#ending === undefined) await this.#next();
      }
    } finally {
      this.cut();
    }
  }

  /** Ends the connection at once. */
  cut(): void {
    this.#socket.terminate();
  }

  async #next(): Promise<void> {
    const next = new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#socket.isPaused) {
      this.#heardAt = performance.now();
      this.#socket.resume();
    }
    await next;
  }

  #watch(): void {
    // What is not read cannot be heard.
    if (this.#socket.isPaused || performance.now() - this.#heardAt < MAX_SILENCE_MS) return;
    this.#error ??= new Error(`nothing came from it for ${MAX_SILENCE_MS / 1000} seconds`);
    this.cut();
  }
}
