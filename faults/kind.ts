import type { Beds } from './beds.ts';
import type { Random } from './random.ts';

/** What came of a round. */
export interface Injected {
  /** Faults that struck. A fault may miss: the work can be over before its turn comes. */
  readonly faults: number;
  /** Bytes of blobs that came from the registry although they had come already. */
  readonly twice: number;
}

/** One round, drawn and not yet run. */
export interface Round {
  /** What is going to be done, as plain data: the same seed gives the same plan. */
  readonly plan: Readonly<Record<string, unknown>>;
  /** Does it. Throws when a promise was broken. */
  run(beds: Beds): Promise<Injected>;
}

/** A kind of fault. */
export interface Kind {
  readonly name: string;
  /** Commands that it takes, and `root`, as the tests' `needs` knows them. */
  readonly needs: readonly string[];
  /** Draws a round. `index`: how many of the kind came before, for those that go through all cases in order. */
  draw(random: Random, index: number): Round;
}
