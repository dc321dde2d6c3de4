/** Over how long a rate is averaged, in milliseconds. */
const WINDOW = 5000;
/** A sample is kept this often, in milliseconds. */
const SAMPLE_INTERVAL = 250;

/** How fast a count of bytes grows, over the last seconds: what stands still falls to 0, instead of keeping its last rate. */
export class Rate {
  readonly #samples: { readonly at: number; readonly bytes: number }[] = [];
  readonly #now: () => number;
  #bytes = 0;

  /** `now`: milliseconds on a clock that only grows. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Takes the count as it is now. One that has shrunk belongs to a transfer that begins anew. */
  update(bytes: number): void {
    if (bytes < this.#bytes) this.restart();
    this.#bytes = bytes;
    const now = this.#now();
    const last = this.#samples.at(-1);
    if (last === undefined || now - last.at >= SAMPLE_INTERVAL) this.#samples.push({ at: now, bytes });
    // The youngest of those that are too old stays, as the begin of the window.
    while ((this.#samples[1]?.at ?? now) < now - WINDOW) this.#samples.shift();
  }

  /** Forgets the past: what comes after a pause is measured by itself. */
  restart(): void {
    this.#samples.length = 0;
  }

  /** Bytes a second, whole. */
  get value(): number {
    const now = this.#now();
    const first = this.#samples.findLast(({ at }) => at <= now - WINDOW) ?? this.#samples[0];
    if (first === undefined || now - first.at < SAMPLE_INTERVAL) return 0;
    return Math.round(((this.#bytes - first.bytes) * 1000) / (now - first.at));
  }
}
