import type { Digest } from '../../protocol/digest.ts';
import type { DemandReport, TransferReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Demands } from './demand.ts';
import type { VisibleQueue, VisibleTransfer } from './queue.ts';
import { Reports } from './reports.ts';
import { Watch, type Changes } from './watch.ts';

/** What is changed of transfers; what is left out stays. */
export interface Steering {
  readonly priority?: number | undefined;
  readonly paused?: boolean | undefined;
}

/** All transfers of the daemon, in both directions, and what they are for: to be listed, watched and steered. */
export class Transfers {
  readonly #queues: readonly VisibleQueue[];
  readonly #demands: Demands;
  readonly #reports: Reports;
  readonly #closed = new AbortController();

  constructor(parts: { queues: readonly VisibleQueue[]; demands: Demands }) {
    this.#queues = parts.queues;
    this.#demands = parts.demands;
    this.#reports = new Reports(parts.queues);
  }

  list(): TransferReport[] {
    return this.#all().map((transfer) => transfer.report());
  }

  /** All transfers as they are, then what changes, until the signal is aborted or the daemon stops. */
  watch(signal: AbortSignal): AsyncGenerator<Changes, void, undefined> {
    return this.progress().changes(AbortSignal.any([signal, this.#closed.signal]));
  }

  /** A reader of all transfers as they are, then of what changes. */
  progress(): Watch {
    return new Watch(this.#reports);
  }

  /**
   * Changes all transfers of the digest: one may be downloaded, and uploaded to several repositories.
   * @throws LayerdError of kind not-found
   */
  steer(digest: Digest, { priority, paused }: Steering): TransferReport[] {
    const found = this.#find(digest);
    for (const transfer of found) {
      if (priority !== undefined) transfer.prioritize(priority);
      if (paused === true) transfer.pause();
      if (paused === false) transfer.resume();
    }
    return found.map((transfer) => transfer.report());
  }

  /**
   * Ends all transfers of the digest for all who want them. Resolves when they have ended.
   * @throws LayerdError of kind not-found
   */
  async cancel(digest: Digest): Promise<void> {
    await Promise.all(this.#find(digest).map((transfer) => transfer.cancel()));
  }

  pulls(): DemandReport[] {
    return this.#demands.all().map((demand) => demand.report());
  }

  /** @throws LayerdError of kind not-found */
  prioritizePull(id: string, priority: number): DemandReport {
    const demand = this.#demands.find(id);
    demand.prioritize(priority);
    return demand.report();
  }

  /** @throws LayerdError of kind not-found */
  cancelPull(id: string): void {
    this.#demands.find(id).cancel();
  }

  /** Ends all watching. */
  close(): void {
    this.#closed.abort();
  }

  #all(): VisibleTransfer[] {
    return this.#queues.flatMap((queue) => queue.transfers());
  }

  #find(digest: Digest): VisibleTransfer[] {
    const found = this.#all().filter((transfer) => transfer.digest === digest);
    if (found.length > 0) return found;
    throw new LayerdError(
      'not-found',
      `no transfer of ${digest} is waiting, running or paused: GET /layerd/transfers lists those that are`,
    );
  }
}
