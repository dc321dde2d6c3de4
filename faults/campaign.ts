import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../src/protocol/errors.ts';
import { Beds } from './beds.ts';
import type { Injected, Kind, Round } from './kind.ts';
import { Random } from './random.ts';

/** A round that has not ended by then hangs, in milliseconds: longer than the requests in it may take. */
const ROUND_DEADLINE_MS = 120_000;

/** What was counted of one kind of fault. */
export interface Count {
  rounds: number;
  /** Faults that struck. */
  faults: number;
  /** Bytes of blobs that came from the registry a second time. */
  twice: number;
}

/** A round in which a promise was broken. */
export interface Failure {
  readonly round: number;
  readonly kind: string;
  readonly plan: Round['plan'];
  readonly reason: string;
  /** The last that the daemons have logged. */
  readonly log: string;
}

/** What came of a campaign. */
export interface Report {
  readonly seed: string;
  readonly kinds: Readonly<Record<string, Count>>;
  readonly failures: readonly Failure[];
  /** The most resident memory that a daemon has had, in bytes. */
  readonly peak: number;
}

export interface CampaignOptions {
  readonly seed: string;
  /** They take turns. */
  readonly kinds: readonly Kind[];
  /** Numbers of the first round, and of the one after the last. */
  readonly from: number;
  readonly to: number;
  readonly signal?: AbortSignal;
  /** Is told of each round that has ended. */
  readonly onRound?: (round: number, failure: Failure | undefined) => void;
}

/** Runs the rounds of those numbers. Each depends on the seed, the kinds and its number alone. */
export async function campaign({ seed, kinds, from, to, signal, onRound }: CampaignOptions): Promise<Report> {
  const counts: Record<string, Count> = {};
  const failures: Failure[] = [];
  let beds = new Beds();
  let peak = 0;
  try {
    for (let number = from; number < to && signal?.aborted !== true; number++) {
      const kind = kinds[number % kinds.length];
      if (kind === undefined) throw new Error('a campaign without a kind of fault');
      const round = kind.draw(new Random(`${seed}/${kind.name}/${number}`), Math.floor(number / kinds.length));
      const failure = await run(round, beds).then(
        ({ faults, twice }) => {
          const count = (counts[kind.name] ??= { rounds: 0, faults: 0, twice: 0 });
          count.rounds += 1;
          count.faults += faults;
          count.twice += twice;
          return undefined;
        },
        async (error: unknown): Promise<Failure> => {
          const reason = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
          return { round: number, kind: kind.name, plan: round.plan, reason, log: await beds.log() };
        },
      );
      peak = Math.max(peak, beds.peak);
      onRound?.(number, failure);
      if (failure === undefined) continue;
      failures.push(failure);
      // What it has left must not make the next one fail.
      await beds[Symbol.asyncDispose]();
      beds = new Beds();
    }
  } finally {
    await beds[Symbol.asyncDispose]();
  }
  return { seed, kinds: counts, failures, peak };
}

async function run(round: Round, beds: Beds): Promise<Injected> {
  const hangs = new AbortController();
  const deadline = sleep(ROUND_DEADLINE_MS, undefined, { signal: hangs.signal }).then(() => {
    throw new Error(`the round hangs: no end after ${ROUND_DEADLINE_MS} ms`);
  });
  try {
    const injected = await Promise.race([round.run(beds), deadline]);
    await beds.measure();
    return injected;
  } finally {
    hangs.abort();
    deadline.catch(() => undefined);
  }
}
