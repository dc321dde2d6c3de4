/** Milliseconds between two looks. */
const INTERVAL = 500;
/** How many looks are remembered: the last ten seconds of a loop that turns. */
const REMEMBERED = 20;

/**
 * Watches how long the event loop keeps what is due waiting: by a timer, and how late it comes. Nothing else of the daemon
 * is served meanwhile.
 */
export class EventLoopDelay implements Disposable {
  readonly #observe: (seconds: number) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #delays: number[] = [];
  #due: number;

  /** `observe` is told each delay, in seconds. */
  constructor(observe: (seconds: number) => void) {
    this.#observe = observe;
    this.#due = performance.now() + INTERVAL;
    this.#timer = setInterval(() => this.#look(), INTERVAL).unref();
  }

  /** The longest delay of late, in milliseconds; that of a timer that is overdue included. */
  get longest(): number {
    return Math.max(0, performance.now() - this.#due, ...this.#delays);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = performance.now();
    const late = Math.max(0, now - this.#due);
    this.#due = now + INTERVAL;
    this.#delays.push(late);
    if (this.#delays.length > REMEMBERED) this.#delays.shift();
    this.#observe(late / 1000);
  }
}
