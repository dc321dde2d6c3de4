import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../protocol/errors.ts';

/**
 * One thing about the daemon that can be well or not, under a name that monitoring knows it by. A check throws where it is
 * not, saying why in words for an operator. What it returns is told beside, and never makes it fail.
 *
 * Two sets of them answer two questions. *Live*: is there a point in going on, or would only a restart help? Nothing that a
 * restart does not cure is in it, such as a full disk. *Ready*: can requests be sent here now?
 */
export interface Check {
  readonly name: string;
  run(): Promise<string | undefined>;
}

/** What came of a check. */
export interface Finding {
  readonly name: string;
  readonly isWell: boolean;
  /** Why it is not, or what else is to be told. */
  readonly note: string | undefined;
}

/** Milliseconds that a finding is good for, so that no number of probes makes work for the disk. */
const LIFE = 1000;
/** Milliseconds after which a check has failed: a disk that hangs does not say so. */
const TIMEOUT = 5000;

/** A set of checks that together answer one question. */
export class Health {
  readonly #probes: ReadonlyMap<string, Probe>;

  /** Times in milliseconds, `now` of any clock that only goes forward. */
  constructor(checks: readonly Check[], options: { readonly now?: () => number; readonly timeout?: number } = {}) {
    const { now = () => performance.now(), timeout = TIMEOUT } = options;
    this.#probes = new Map(checks.map((check) => [check.name, new Probe(check, now, timeout)]));
  }

  get names(): readonly string[] {
    return [...this.#probes.keys()];
  }

  /** Makes the checks of those names, all without any; in the order of the set. */
  find(names: ReadonlySet<string> = new Set(this.names)): Promise<Finding[]> {
    const chosen = [...this.#probes].filter(([name]) => names.has(name));
    return Promise.all(chosen.map(([, probe]) => probe.finding()));
  }
}

/** A check and what it found last. One that is under way is not begun a second time, even if it never ends. */
class Probe {
  readonly #check: Check;
  readonly #now: () => number;
  readonly #timeout: number;
  #latest: { readonly finding: Finding; readonly at: number } | undefined;
  #underWay: Promise<Finding> | undefined;

  constructor(check: Check, now: () => number, timeout: number) {
    this.#check = check;
    this.#now = now;
    this.#timeout = timeout;
  }

  async finding(): Promise<Finding> {
    if (this.#latest !== undefined && this.#now() < this.#latest.at + LIFE) return this.#latest.finding;
    this.#underWay ??= this.#run().finally(() => (this.#underWay = undefined));
    const over = new AbortController();
    try {
      const late = delay(this.#timeout, undefined, { signal: over.signal, ref: false }).then(() =>
        this.#finding(false, `no answer within ${this.#timeout / 1000} s`),
      );
      return await Promise.race([this.#underWay, late]);
    } finally {
      over.abort();
    }
  }

  async #run(): Promise<Finding> {
    const finding = await this.#check.run().then(
      (note) => this.#finding(true, note),
      (error: unknown) => this.#finding(false, messageOf(error)),
    );
    this.#latest = { finding, at: this.#now() };
    return finding;
  }

  #finding(isWell: boolean, note: string | undefined): Finding {
    return { name: this.#check.name, isWell, note };
  }
}
