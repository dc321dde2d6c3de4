import { randomUUID } from 'node:crypto';
import type { DemandReport, TransferReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';

/** Priorities go from here to there, in whole numbers; a higher one goes first. */
export const PRIORITIES = { min: -100, max: 100 };

/** Whether it is one that there is. */
export const isPriority = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= PRIORITIES.min && value <= PRIORITIES.max;

/** Characters of an identifier: enough to be typed, and never twice among what is under way. */
const ID_LENGTH = 12;

/** What somebody asks for. */
export interface NewDemand {
  readonly verb: DemandReport['verb'];
  /** The image's reference, as users write it. */
  readonly reference: string;
  readonly client: string;
  /** Default 0. */
  readonly priority?: number | undefined;
}

/** A transfer, as far as a demand looks at it. */
interface DemandedTransfer {
  report(): TransferReport;
}

/**
 * A pull, push or copy under way: on whose behalf transfers are joined, and with which priority. It *begins* when its request
 * is understood, gathers the transfers that it joins, and *ends* with the request.
 */
export class Demand implements Disposable {
  readonly id = randomUUID().replaceAll('-', '').slice(0, ID_LENGTH);
  readonly verb: DemandReport['verb'];
  readonly reference: string;
  readonly client: string;
  readonly since = new Date().toISOString();
  /** Order among what waits. */
  priority: number;
  readonly #transfers = new Map<string, DemandedTransfer>();
  readonly #end: (demand: Demand) => void;
  readonly #abort = new AbortController();

  constructor({ verb, reference, client, priority = 0 }: NewDemand, end: (demand: Demand) => void) {
    this.verb = verb;
    this.reference = reference;
    this.client = client;
    this.priority = priority;
    this.#end = end;
  }

  /** Aborted when somebody cancels it. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Ends it for whoever waits for it. What has arrived stays for a resume. */
  cancel(): void {
    const message = `the ${this.verb} of ${this.reference} was cancelled through the API; the same ${this.verb} resumes it`;
    this.#abort.abort(new LayerdError('cancelled', message));
  }

  /** Takes note of a transfer that was joined for it. */
  joined(key: string, transfer: DemandedTransfer): void {
    this.#transfers.set(key, transfer);
  }

  report(): DemandReport {
    const { id, verb, reference, client, since, priority } = this;
    const transfers = [...this.#transfers.values()].map((transfer) => transfer.report());
    const sum = (of: (report: TransferReport) => number): number =>
      transfers.reduce((total, report) => total + of(report), 0);
    const [size, received, rate] = [sum((one) => one.size), sum((one) => one.received), sum((one) => one.rate)];
    return {
      id,
      verb,
      reference,
      client,
      since,
      priority,
      size,
      received,
      rate,
      ...(rate > 0 ? { secondsLeft: secondsLeft(size - received, rate) } : {}),
      transfers: transfers.map(({ digest, state }) => ({ digest, state })),
    };
  }

  [Symbol.dispose](): void {
    this.#end(this);
  }
}

/** All demands under way. */
export class Demands {
  readonly #demands = new Map<string, Demand>();

  /**
   * Does the work of one, which is under way as long. The work's signal is aborted when the given one is, or when somebody
   * cancels it, which is what is thrown then.
   */
  async during<T>(
    demand: NewDemand,
    signal: AbortSignal,
    work: (demand: Demand, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using begun = this.begin(demand);
    try {
      return await work(begun, AbortSignal.any([signal, begun.signal]));
    } catch (error) {
      begun.signal.throwIfAborted();
      throw error;
    }
  }

  /** Begins one; to be disposed of when it has ended. */
  begin(demand: NewDemand): Demand {
    const begun = new Demand(demand, ({ id }) => this.#demands.delete(id));
    this.#demands.set(begun.id, begun);
    return begun;
  }

  /** In the order in which they began. */
  all(): Demand[] {
    return [...this.#demands.values()];
  }

  /** @throws LayerdError of kind not-found */
  find(id: string): Demand {
    const found = this.#demands.get(id);
    if (found !== undefined) return found;
    throw new LayerdError(
      'not-found',
      `no pull, push or copy ${id} is under way: GET /layerd/pulls lists those that are`,
    );
  }
}

/** Seconds until the rest has arrived at the rate, rounded up. */
export const secondsLeft = (bytes: number, rate: number): number => Math.ceil(bytes / rate);
