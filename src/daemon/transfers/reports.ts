import type { TransferReport } from '../../protocol/engine.ts';
import type { VisibleQueue, VisibleTransfer } from './queue.ts';

/** What moves is told of at least this often, in milliseconds: a rate falls also when nothing arrives any more. */
const REFRESH_INTERVAL = 1000;

/** Transfers that have ended are kept for readers that lag until so many more have. */
const MAX_ENDED = 1000;

/** Of those who want a transfer, so many are told: hundreds of pulls may want the same layer. */
const MAX_WISHES = 8;

/** A transfer that goes on. */
interface Entry {
  readonly transfer: VisibleTransfer;
  /** In the order in which transfers began. */
  readonly order: number;
  /** In the order in which transfers changed last. */
  version: number;
  /** As it was when somebody last looked, until it changes. */
  report: TransferReport | undefined;
}

/** Transfers that have ended after a place. */
export interface Ended {
  readonly reports: readonly TransferReport[];
  /** How many came before them and are not kept any more. */
  readonly missed: number;
}

/**
 * The latest of each transfer, for all who watch: they hold numbers, and no reports of their own. Changes, begins and ends
 * are counted, each from 1.
 */
export class Reports {
  readonly #entries = new Map<VisibleTransfer, Entry>();
  readonly #ended: TransferReport[] = [];
  readonly #watchers = new Set<() => void>();
  #changes = 0;
  #begins = 0;
  #ends = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(queues: readonly VisibleQueue[]) {
    for (const queue of queues) queue.watch((transfer) => this.#take(transfer));
  }

  /** How many have changed, have begun and have ended so far. */
  get counts(): { readonly changes: number; readonly begins: number; readonly ends: number } {
    return { changes: this.#changes, begins: this.#begins, ends: this.#ends };
  }

  /** Those that go on, in the order in which they began: of each which that was, and its last change. */
  entries(): Iterable<Readonly<Pick<Entry, 'transfer' | 'order' | 'version'>>> {
    return this.#entries.values();
  }

  /** The latest of one that goes on; the same object until it changes. */
  report(transfer: VisibleTransfer): TransferReport {
    const entry = this.#entries.get(transfer);
    if (entry === undefined) return shortened(transfer.report());
    return (entry.report ??= shortened(transfer.report()));
  }

  /** The ends after that one, at most so many. */
  ended(after: number, limit: number): Ended {
    const missed = Math.max(0, this.#ends - this.#ended.length - after);
    const begin = this.#ended.length - (this.#ends - after - missed);
    return { reports: this.#ended.slice(begin, begin + limit), missed };
  }

  /** Calls back at each change, until that is disposed of. */
  onChange(watcher: () => void): Disposable {
    this.#watchers.add(watcher);
    this.#timer ??= setInterval(() => this.#refresh(), REFRESH_INTERVAL).unref();
    return {
      [Symbol.dispose]: () => {
        this.#watchers.delete(watcher);
        if (this.#watchers.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  #take(transfer: VisibleTransfer): void {
    let entry = this.#entries.get(transfer);
    if (transfer.ended) {
      // Whatever is said of it after its end, it has ended once.
      if (entry === undefined) return;
      this.#entries.delete(transfer);
      this.#ends += 1;
      this.#ended.push(shortened(transfer.report()));
      if (this.#ended.length > MAX_ENDED) this.#ended.shift();
    } else {
      if (entry === undefined) {
        this.#begins += 1;
        entry = { transfer, order: this.#begins, version: 0, report: undefined };
        this.#entries.set(transfer, entry);
      }
      this.#changes += 1;
      entry.version = this.#changes;
      entry.report = undefined;
    }
    for (const watcher of this.#watchers) watcher();
  }

  #refresh(): void {
    for (const { transfer } of this.#entries.values()) if (transfer.isMoving) this.#take(transfer);
  }
}

const shortened = (report: TransferReport): TransferReport =>
  report.wantedBy.length <= MAX_WISHES ? report : { ...report, wantedBy: report.wantedBy.slice(0, MAX_WISHES) };
