import type { TransferReport } from '../../protocol/engine.ts';
import type { Reports } from './reports.ts';

/** A transfer is told of at most this often, in milliseconds. */
const INTERVAL = 100;

/** Reports that are handed over at a time: some 30 KB. */
const MAX_REPORTS = 32;

/** What has changed since the last time. */
export interface Changes {
  readonly reports: readonly TransferReport[];
  /** Transfers that ended meanwhile and are not told of: more than is kept for a reader that does not read. */
  readonly missed: number;
}

/** A telling of all that had changed when it began. */
interface Round {
  /** What had changed before was told in another one. */
  readonly after: number;
  /** What it goes up to. */
  readonly counts: Reports['counts'];
  /** Where it stands among those that go on. */
  order: number;
}

/**
 * One reader's view of the transfers: all as they are, then what changes, and the last of each that ends. It holds a few
 * numbers, however far it lags: what is told is the latest, whenever the reader is ready for more.
 */
export class Watch {
  readonly #reports: Reports;
  readonly #now: () => number;
  /** The changes and ends that were told. */
  #changes = 0;
  #ends: number;
  #round: Round | undefined;
  #restsUntil = -Infinity;

  /** `now`: milliseconds on a clock that only grows. */
  constructor(reports: Reports, now: () => number = () => performance.now()) {
    this.#reports = reports;
    this.#now = now;
    this.#ends = reports.counts.ends;
  }

  /** What is to be told now; undefined where nothing is. */
  take(): Changes | undefined {
    if (this.due > 0) return undefined;
    const { counts } = this.#reports;
    // What changes meanwhile is for the next one, so that nothing is told of twice in one, and nothing is passed over for ever.
    const round = (this.#round ??= { after: this.#changes, counts, order: 0 });
    const left = round.counts.ends - this.#ends;
    const { reports, missed } = this.#reports.ended(this.#ends, Math.min(left, MAX_REPORTS));
    this.#ends += reports.length + missed;
    // Those that ended go first: one that began anew may be the same blob's.
    const told = [...reports];
    if (this.#ends >= round.counts.ends && this.#tell(round, told)) {
      this.#changes = round.counts.changes;
      this.#round = undefined;
      this.#restsUntil = this.#now() + INTERVAL;
    }
    return { reports: told, missed };
  }

  /** Milliseconds until something is to be told; Infinity where that is not known yet. */
  get due(): number {
    if (this.#round !== undefined) return 0;
    const { changes, ends } = this.#reports.counts;
    if (changes === this.#changes && ends === this.#ends) return Infinity;
    return Math.max(0, this.#restsUntil - this.#now());
  }

  /** Calls back when something may be to be told, until that is disposed of; for as long as it is read. */
  onChange(wake: () => void): Disposable {
    return this.#reports.onChange(wake);
  }

  /** All that is to be told, until the signal is aborted. Taking the next is being ready for more. */
  async *changes(signal: AbortSignal): AsyncGenerator<Changes, void, undefined> {
    let wake = (): void => undefined;
    using _watched = this.onChange(() => wake());
    while (!signal.aborted) {
      const changes = this.take();
      if (changes !== undefined) {
        yield changes;
        continue;
      }
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const timer = this.due === Infinity ? undefined : setTimeout(() => resolve(undefined), this.due);
      // Where it is only too early, what changes is no reason to look.
      wake = (): void => (timer === undefined ? resolve(undefined) : undefined);
      const stop = (): void => resolve(undefined);
      signal.addEventListener('abort', stop);
      await promise;
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  }

  /** Tells of those that go on, as many as fit; says whether those were all. */
  #tell(round: Round, told: TransferReport[]): boolean {
    for (const { transfer, order, version } of this.#reports.entries()) {
      if (order > round.counts.begins) break;
      if (order <= round.order || version <= round.after) continue;
      if (told.length >= MAX_REPORTS) return false;
      told.push(this.#reports.report(transfer));
      round.order = order;
    }
    return true;
  }
}
