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
}

interface Entry {
  readonly id: string | undefined;
  readonly run: RunFunction;
  readonly candidate: Candidate;
}

/** What a client has of the queue. */
interface Share {
  running: number;
  /** When it last was given a place, counted in places. */
  lastTurn: number;
}

/**
 * The order of a queue (p-queue's `queueClass`): by priority; then what is small; then whose client has the fewest places, or
 * was given one the longest ago, so that nobody's hundred pulls hold up somebody else's one; then as they came.
 */
export class WaitingLine {
  readonly #entries: Entry[] = [];
  readonly #shares = new Map<string, Share>();
  #turns = 0;

  get size(): number {
    return this.#entries.length;
  }

  enqueue(run: RunFunction, { candidate, id }: Partial<LineOptions> = {}): void {
    if (candidate === undefined) throw new TypeError('nobody is said to wait');
    this.#entries.push({ run, candidate, id });
  }

  dequeue(): RunFunction | undefined {
    let best = 0;
    for (let index = 1; index < this.#entries.length; index += 1) {
      if (this.#goesBefore(this.#entries[index], this.#entries[best])) best = index;
    }
    const [entry] = this.#entries.splice(best, 1);
    if (entry === undefined) return undefined;
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

  #goesBefore(one: Entry | undefined, other: Entry | undefined): boolean {
    if (one === undefined || other === undefined) return one !== undefined;
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
