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
  /** Of one that goes on after a restart. */
  readonly id?: string;
  readonly since?: string;
}

/** Is told what becomes of a detached demand, before it does: what is thrown keeps it from that. */
export interface DemandKeeper {
  cancelled(message: string): void;
  prioritized(priority: number): void;
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
  readonly id: string;
  readonly verb: DemandReport['verb'];
  readonly reference: string;
  readonly client: string;
  readonly since: string;
  /** Why it waits to be tried again; undefined while it does not. */
  setback: string | undefined;
  readonly #keeper: DemandKeeper | undefined;
  #priority: number;
  readonly #transfers = new Map<string, DemandedTransfer>();
  readonly #end: (demand: Demand) => void;
  readonly #abort = new AbortController();

  /** `keeper`: of one that is detached. */
  constructor(demand: NewDemand, end: (demand: Demand) => void, keeper?: DemandKeeper) {
    const { verb, reference, client, priority = 0, id, since } = demand;
    this.id = id ?? randomUUID().replaceAll('-', '').slice(0, ID_LENGTH);
    this.since = since ?? new Date().toISOString();
    this.verb = verb;
    this.reference = reference;
    this.client = client;
    this.#priority = priority;
    this.#end = end;
    this.#keeper = keeper;
  }

  /** Order among what waits. */
  get priority(): number {
    return this.#priority;
  }

  prioritize(priority: number): void {
    this.#keeper?.prioritized(priority);
    this.#priority = priority;
  }

  /** Aborted when somebody cancels it. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Ends it for whoever waits for it. What has arrived stays for a resume. */
  cancel(): void {
    const message = `the ${this.verb} of ${this.reference} was cancelled through the API; the same ${this.verb} resumes it`;
    this.#keeper?.cancelled(message);
    this.#abort.abort(new LayerdError('cancelled', message));
  }

  /** Takes note of a transfer that was joined for it. */
  joined(key: string, transfer: DemandedTransfer): void {
    this.#transfers.set(key, transfer);
  }

  /**
   * Does work for it. The work's signal is aborted when the given one is, or when somebody cancels it, which is what is
   * thrown then.
   */
  async during<T>(signal: AbortSignal, work: (demand: Demand, signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await work(this, AbortSignal.any([signal, this.signal]));
    } catch (error) {
      this.signal.throwIfAborted();
      throw error;
    }
  }

  report(): DemandReport {
    const { id, verb, reference, client, since, priority, setback } = this;
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
      detached: this.#keeper !== undefined,
      state: setback === undefined ? 'running' : 'retrying',
      ...(setback === undefined ? {} : { lastError: setback }),
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

  /** Does the work of one, which is under way as long; as {@link Demand.during}. */
  async during<T>(
    demand: NewDemand,
    signal: AbortSignal,
    work: (demand: Demand, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using begun = this.begin(demand);
    return await begun.during(signal, work);
  }

  /** Begins one; to be disposed of when it has ended. `keeper`: of one that is detached. */
  begin(demand: NewDemand, keeper?: DemandKeeper): Demand {
    const begun = new Demand(demand, ({ id }) => this.#demands.delete(id), keeper);
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
