/** Work that has to be over before what it works with may be let go of. */
export class UnderWay {
  readonly #works = new Set<Promise<unknown>>();

  /** Remembers the work until it is over, well or not; returns it. */
  track<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(ignore, ignore).finally(() => this.#works.delete(settled));
    this.#works.add(settled);
    return work;
  }

  /** Resolves when nothing is under way. */
  async ended(): Promise<void> {
    await Promise.all(this.#works);
  }
}

/** What comes of it is for whoever asked for it. */
const ignore = (): void => undefined;
