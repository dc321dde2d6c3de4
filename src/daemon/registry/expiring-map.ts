interface Entry<V> {
  readonly value: V;
  readonly expiresAt: number;
}

/**
 * What was learnt about remote hosts and may be forgotten. It is bounded, because which hosts there are is up to those
 * who send redirects and name images: the entry that was used longest ago goes first.
 */
export class ExpiringMap<V> {
  readonly #entries = new Map<string, Entry<V>>();
  readonly #limit: number;
  readonly #life: number;
  readonly #now: () => number;

  /** `life`: milliseconds that an entry is believed, unless it is set with another. */
  constructor(options: { limit: number; life?: number; now: () => number }) {
    this.#limit = options.limit;
    this.#life = options.life ?? Infinity;
    this.#now = options.now;
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.expiresAt <= this.#now()) return undefined;
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: V, life = this.#life): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, expiresAt: this.#now() + life });
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limit) break;
      this.#entries.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
