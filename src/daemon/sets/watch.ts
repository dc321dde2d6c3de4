import type { SetStore } from './store.ts';

/** One reader's view of the sets: which of them have changed, and never how, so that a slow one costs a name for each. */
export class SetWatch {
  readonly #sets: Pick<SetStore, 'watch' | 'names'>;
  readonly #changed = new Set<string>();
  #wake: (() => void) | undefined;

  constructor(sets: Pick<SetStore, 'watch' | 'names'>) {
    this.#sets = sets;
  }

  /** The names of all sets, then of those that changed, until the signal is aborted. Taking the next is being ready for more. */
  async *names(signal: AbortSignal): AsyncGenerator<string[], void, undefined> {
    const stop = this.#sets.watch((name) => {
      this.#changed.add(name);
      this.#wake?.();
    });
    const wake = (): void => this.#wake?.();
    signal.addEventListener('abort', wake);
    try {
      yield this.#sets.names();
      while (!signal.aborted) {
        if (this.#changed.size === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
        const changed = [...this.#changed];
        this.#changed.clear();
        if (changed.length > 0) yield changed;
      }
    } finally {
      signal.removeEventListener('abort', wake);
      stop();
    }
  }
}
