import { setTimeout as sleep } from 'node:timers/promises';
import type { TransferReport } from '../../protocol/engine.ts';
import type { VisibleQueue, VisibleTransfer } from './queue.ts';

/** A transfer is told of at most this often, in milliseconds. */
const INTERVAL = 100;

/** What moves is told of at least this often, in milliseconds: a rate falls also when nothing arrives any more. */
const REFRESH_INTERVAL = 1000;

/** Transfers that have ended and wait for a slow reader to be told; of more only the number is kept. */
const MAX_ENDED = 1000;

/** What has changed since the last time. */
export interface Changes {
  readonly reports: TransferReport[];
  /** Transfers that ended meanwhile and are not told of: more than is kept for a reader that does not read. */
  readonly missed: number;
}

/**
 * One reader's view of the transfers. It holds which of them have changed and not how: what is told is the latest, whenever
 * the reader is ready for more, and the last of each that ended.
 */
export class Watch {
  readonly #queues: readonly VisibleQueue[];
  readonly #changed = new Set<VisibleTransfer>();
  readonly #ended = new Set<VisibleTransfer>();
  #missed = 0;
  #wake: (() => void) | undefined;

  constructor(queues: readonly VisibleQueue[]) {
    this.#queues = queues;
  }

  /** All transfers as they are, then what changes, until the signal is aborted. Taking the next is being ready for more. */
  async *changes(signal: AbortSignal): AsyncGenerator<Changes, void, undefined> {
    const stops = this.#queues.map((queue) => queue.watch((transfer) => this.#take(transfer)));
    const wake = (): void => this.#wake?.();
    signal.addEventListener('abort', wake);
    try {
      yield { reports: this.#queues.flatMap((queue) => queue.transfers()).map((each) => each.report()), missed: 0 };
      while (!signal.aborted) {
        await this.#rest(signal);
        if (!this.#hasNews) continue;
        const changed = [...this.#changed, ...this.#ended];
        const changes = { reports: changed.map((each) => each.report()), missed: this.#missed };
        this.#changed.clear();
        this.#ended.clear();
        this.#missed = 0;
        yield changes;
        await sleep(INTERVAL, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      signal.removeEventListener('abort', wake);
      for (const stop of stops) stop();
    }
  }

  get #hasNews(): boolean {
    return this.#changed.size > 0 || this.#ended.size > 0;
  }

  #take(transfer: VisibleTransfer): void {
    if (transfer.ended) {
      this.#changed.delete(transfer);
      if (this.#ended.size < MAX_ENDED) this.#ended.add(transfer);
      else this.#missed += 1;
    } else this.#changed.add(transfer);
    this.#wake?.();
  }

  /** Waits for something to have changed, or for the time to tell of what moves again. */
  async #rest(signal: AbortSignal): Promise<void> {
    if (this.#hasNews || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#wake = () => resolve(undefined);
    const timer = setTimeout(() => {
      for (const queue of this.#queues) {
        for (const transfer of queue.transfers()) if (transfer.isMoving) this.#changed.add(transfer);
      }
      resolve(undefined);
    }, REFRESH_INTERVAL);
    await promise;
    clearTimeout(timer);
    this.#wake = undefined;
  }
}
