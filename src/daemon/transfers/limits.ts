import type { BandwidthRule } from './bandwidth.ts';
import type { Concurrency } from './queue.ts';

/** What limits the transfers of a direction. */
export interface DirectionLimits extends Concurrency {
  readonly bandwidth: readonly BandwidthRule[];
}

/** The limits of both directions. */
export interface TransferLimits {
  readonly downloads: DirectionLimits;
  readonly uploads: DirectionLimits;
}

/**
 * The limits in force. They are set with the configuration, and may be changed while the daemon runs; the next start or reload
 * sets them anew.
 */
export class Limits {
  readonly #apply: (limits: TransferLimits) => void;
  #current: TransferLimits;

  /** `apply`: has the queues and the bandwidth keep to them, for what is under way too. */
  constructor(initial: TransferLimits, apply: (limits: TransferLimits) => void) {
    this.#apply = apply;
    this.#current = initial;
    apply(initial);
  }

  get current(): TransferLimits {
    return this.#current;
  }

  set current(limits: TransferLimits) {
    this.#current = limits;
    this.#apply(limits);
  }
}
