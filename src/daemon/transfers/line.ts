import type { QueueAddOptions } from 'p-queue';

type RunFunction = () => Promise<unknown>;

/** What is said of each work that is added to the queue. */
export interface LineOptions extends QueueAddOptions {
  readonly candidate?: Candidate;
}

/** What waits for a place in the queue. Asked when a place is free, so that a change counts for what waits already. */
export interface Candidate {
  /** A higher one goes first. */
  readonly priority: number;
  /** Whether it ends before larger ones would notice. */
  readonly isSmall: boolean;
  /** On whose behalf; at least one. */
  readonly clients: readonly string[];
  /** Registries of which any one will do. Without one no registry's limit holds it up. */
  readonly registries: readonly string[];
  /** Told the registry on whose account it has a place; undefined where there is none. */
  granted?(registry: string | undefined): void;
}

interface Entry {
  readonly id: string | undefined;
  readonly run: RunFunction;
  readonly candidate: Candidate;
}

/** What a line needs of the queue that it is the order of. */
export interface LineParts {
  /** How many of a registry may have a place at once. */
  limitOf(registry: string): number;
  /** Called when what waits may have become able to go, though nobody was added and the queue has seen no end. */
  poke(): void;
}

/** What a client has of the queue. */
interface Share {
  running: number;
  /** When it last was given a place, counted in places. */
  lastTurn: number;
}

/**
 * The order of a queue (p-queue's `queueClass`): by priority; then what is small; then whose client has the fewest places, or
 * was given one the longest ago, so that nobody's hundred pulls hold up somebody else's one; then as they came. What would
 * take its registry beyond its limit is passed over, and holds up nobody.
 */
export class WaitingLine {
  readonly #entries: Entry[] = [];
  readonly #shares = new Map<string, Share>();
  /** Places by registry. */
  readonly #places = new Map<string, number>();
  readonly #parts: LineParts;
  #turns = 0;

  constructor(parts: LineParts) {
    this.#parts = parts;
  }

  /** 0 where none of them may go now: p-queue takes one whenever there are any. */
  get size(): number {
    return this.#entries.some(({ candidate }) => this.#mayGo(candidate)) ? this.#entries.length : 0;
  }

  enqueue(run: RunFunction, { candidate, id }: Partial<LineOptions> = {}): void {
    if (candidate === undefined) throw new TypeError('nobody is said to wait');
    this.#entries.push({ run, candidate, id });
  }

  dequeue(): RunFunction | undefined {
    let best = -1;
    this.#entries.forEach((entry, index) => {
      if (this.#goesBefore(entry, this.#entries[best]) && this.#mayGo(entry.candidate)) best = index;
    });
    if (best === -1) return undefined;
    const [entry] = this.#entries.splice(best, 1);
    if (entry === undefined) return undefined;
    const registry = entry.candidate.registries.find((each) => this.#hasRoom(each));
    if (registry !== undefined) this.#places.set(registry, this.#placesOf(registry) + 1);
    entry.candidate.granted?.(registry);
    // Held to those who wanted it then: who joins or leaves later must not unbalance the account.
    const clients = [...new Set(entry.candidate.clients)];
    this.#turns += 1;
    for (const client of clients) {
      const share = this.#shares.get(client) ?? { running: 0, lastTurn: 0 };
      this.#shares.set(client, { running: share.running + 1, lastTurn: this.#turns });
    }
    return async () => {
      try {
        return await entry.run();
      } finally {
        for (const client of clients) this.#left(client);
        if (registry !== undefined) this.#free(registry);
      }
    };
  }

  /** By the identifier that p-queue gave it. */
  remove(id: string): void {
    const index = this.#entries.findIndex((entry) => entry.id === id);
    if (index !== -1) this.#entries.splice(index, 1);
  }

  filter(): RunFunction[] {
    return this.#entries.map(({ run }) => run);
  }

  /** Part of p-queue's interface. Priorities are those of the candidates. */
  setPriority(): void {
    throw new TypeError('a candidate says its own priority');
  }

  #mayGo({ registries }: Candidate): boolean {
    return registries.length === 0 || registries.some((registry) => this.#hasRoom(registry));
  }

  #hasRoom(registry: string): boolean {
    return this.#placesOf(registry) < this.#parts.limitOf(registry);
  }

  #placesOf(registry: string): number {
    return this.#places.get(registry) ?? 0;
  }

  #free(registry: string): void {
    const left = this.#placesOf(registry) - 1;
    if (left === 0) this.#places.delete(registry);
    else this.#places.set(registry, left);
    this.#parts.poke();
  }

  #goesBefore(one: Entry, other: Entry | undefined): boolean {
    if (other === undefined) return true;
    const [a, b] = [one.candidate, other.candidate];
    if (a.priority !== b.priority) return a.priority > b.priority;
    if (a.isSmall !== b.isSmall) return a.isSmall;
    const [mine, theirs] = [this.#share(a), this.#share(b)];
    return mine.running === theirs.running ? mine.lastTurn < theirs.lastTurn : mine.running < theirs.running;
  }

  /** The smallest share of those who want it. */
  #share({ clients }: Candidate): Share {
    const shares = clients.map((client) => this.#shares.get(client) ?? { running: 0, lastTurn: 0 });
    return shares.reduce((least, share) => ({
      running: Math.min(least.running, share.running),
      lastTurn: Math.min(least.lastTurn, share.lastTurn),
    }));
  }

  #left(client: string): void {
    const share = this.#shares.get(client);
    if (share === undefined) return;
    share.running -= 1;
    // Who has nothing left here is forgotten, so that clients that come and go leave nothing behind.
    const waits = (): boolean => this.#entries.some(({ candidate }) => candidate.clients.includes(client));
    if (share.running === 0 && !waits()) this.#shares.delete(client);
  }
}
