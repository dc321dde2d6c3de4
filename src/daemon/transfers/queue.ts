import { AsyncLocalStorage } from 'node:async_hooks';
import PQueue from 'p-queue';
import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { TransferState, TransferStatus } from './transfer.ts';

/** A transfer with this much or less to go, in bytes, goes before larger ones: it ends before they would notice. */
const NEARLY_COMPLETE_BYTES = 1024 * 1024;

/** Documents (configs and the like) have a lane of their own, this wide, so that they never wait behind layers. */
const DOCUMENT_LANE = 8;

/** What is to be transferred. */
export interface TransferRequest {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Bytes still to be moved, as far as is known: what an earlier transfer left is not fetched again. */
  readonly remaining: number;
  /** What is done with the bytes. Documents do not count against the limit on layers. */
  readonly kind: 'layer' | 'blob' | 'document';
}

/** What the work on a transfer can say and must heed. */
export interface TransferControl {
  /** Aborted when nobody is left who wants the blob. */
  readonly signal: AbortSignal;
  update(status: Partial<Pick<TransferStatus, 'state' | 'received' | 'unpacked' | 'attempts' | 'lastError'>>): void;
}

/** Moves the blob with one party's source until it is where it was to go. */
export type TransferWork<Source, Request extends TransferRequest = TransferRequest, Result = void> = (
  request: Request,
  source: Source,
  control: TransferControl,
) => Promise<Result>;

/** Is told what transfers do. `source` is the one in use, or the first party's before the work has begun. */
export interface TransferObserver<Source, Request extends TransferRequest = TransferRequest> {
  moved(request: Request, source: Source, bytes: number): void;
  ended(request: Request, source: Source, result: 'done' | 'failed' | 'cancelled', seconds: number): void;
}

/** One party's wish for a transfer. */
export interface Interest<Result = void> {
  /** Settles with the transfer: rejects when it failed for every source, or when the interest was released. */
  readonly done: Promise<Result>;
  /**
   * Lets go of the transfer; it stops when this was the last interest. Resolves when it has stopped then, and nothing
   * writes to the blob's files any more. Harmless after the end.
   */
  release(): Promise<void>;
}

/**
 * The daemon's one queue in a direction, downloads or uploads, whoever asks: at most one transfer of the same thing, at
 * most `concurrency` layers under way. {@link TransferState} tells a transfer's life.
 */
export class TransferQueue<Source, Request extends TransferRequest = TransferRequest, Result = void> {
  readonly #work: TransferWork<Source, Request, Result>;
  readonly #keyOf: (request: Request) => string;
  readonly #observer: TransferObserver<Source, Request> | undefined;
  readonly #lanes: { readonly bulk: PQueue; readonly document: PQueue };
  readonly #transfers = new Map<string, Transfer<Source, Request, Result>>();

  /** `keyOf`: what is the same for requests that one transfer answers; without it, the digest. */
  constructor(options: {
    concurrency: number;
    work: TransferWork<Source, Request, Result>;
    keyOf?: (request: Request) => string;
    observer?: TransferObserver<Source, Request>;
  }) {
    this.#work = options.work;
    this.#observer = options.observer;
    this.#keyOf = options.keyOf ?? ((request) => request.digest);
    this.#lanes = {
      bulk: new PQueue({ concurrency: options.concurrency }),
      document: new PQueue({ concurrency: DOCUMENT_LANE }),
    };
  }

  /** How many layers may be under way at once. Takes effect as running ones end. */
  set concurrency(value: number) {
    this.#lanes.bulk.concurrency = value;
  }

  /** How many transfers wait for their turn, and how many have it. */
  get counts(): { readonly waiting: number; readonly running: number } {
    const states = [...this.#transfers.values()].map(({ status }) => status.state);
    const waiting = states.filter((state) => state === 'waiting').length;
    return { waiting, running: states.length - waiting };
  }

  /** Joins the transfer of a blob, starting it if there is none. `observe` is told the latest status, often. */
  join(request: Request, source: Source, observe: (status: TransferStatus) => void): Interest<Result> {
    const key = this.#keyOf(request);
    const present = this.#transfers.get(key);
    if (present !== undefined && !present.stopped) return present.join(source, observe);
    const transfer = new Transfer({
      request,
      source,
      work: this.#work,
      observer: this.#observer,
      predecessor: present?.ended,
    });
    this.#transfers.set(key, transfer);
    const priority = request.remaining <= NEARLY_COMPLETE_BYTES ? 1 : 0;
    void this.#lanes[request.kind === 'document' ? 'document' : 'bulk']
      .add(() => transfer.run(), { priority })
      .then(() => {
        // Only its own entry: once stopped, another transfer of the same may have taken its place.
        if (this.#transfers.get(key) === transfer) this.#transfers.delete(key);
      });
    return transfer.join(source, observe);
  }

  /**
   * Takes a place under the limit for the movement of a blob that is no transfer of this queue's. Call the result to give it
   * back. Rejects with the signal's reason while it waits.
   */
  async occupy(signal: AbortSignal): Promise<() => void> {
    const taken = Promise.withResolvers<undefined>();
    const left = Promise.withResolvers<undefined>();
    const occupied = async (): Promise<void> => {
      taken.resolve(undefined);
      await left.promise;
    };
    this.#lanes.bulk.add(occupied, { signal }).catch(taken.reject);
    await taken.promise;
    return () => left.resolve(undefined);
  }

  /** Stops every transfer; what arrived stays on disk. Resolves when the last one has let go of its files. */
  async close(): Promise<void> {
    for (const transfer of this.#transfers.values()) {
      transfer.stop(
        new LayerdError('unavailable', 'the daemon is shutting down; run the same command again to resume'),
      );
    }
    await Promise.all(Object.values(this.#lanes).map((lane) => lane.onIdle()));
  }
}

interface Party<Source, Result> {
  readonly source: Source;
  readonly observe: (status: TransferStatus) => void;
  readonly resolve: (value: Result) => void;
  readonly reject: (error: unknown) => void;
  /** Works on this party's account, as what it does is logged, and not on that of whoever made room in the queue. */
  readonly within: <T>(work: () => T) => T;
  /** What came of this party's source. */
  failure?: Error;
}

class Transfer<Source, Request extends TransferRequest, Result> {
  readonly #request: Request;
  readonly #work: TransferWork<Source, Request, Result>;
  readonly #abort = new AbortController();
  readonly #parties = new Set<Party<Source, Result>>();
  #status: TransferStatus;
  readonly #observer: TransferObserver<Source, Request> | undefined;
  readonly #predecessor: Promise<void>;
  #source: Source;
  #running: Promise<void> | undefined;

  /** `predecessor`: end of a stopped transfer of the same, which still has the ingest's file open. */
  constructor(options: {
    request: Request;
    source: Source;
    work: TransferWork<Source, Request, Result>;
    observer: TransferObserver<Source, Request> | undefined;
    predecessor: Promise<void> | undefined;
  }) {
    const { request } = options;
    this.#request = request;
    this.#source = options.source;
    this.#work = options.work;
    this.#observer = options.observer;
    this.#predecessor = options.predecessor ?? Promise.resolve();
    this.#status = {
      digest: request.digest,
      state: 'waiting',
      received: request.size - request.remaining,
      unpacked: 0,
      total: request.size,
      attempts: 0,
    };
  }

  get status(): TransferStatus {
    return this.#status;
  }

  /** Whether nobody is left who wants it, or it has ended: nobody can join any more. */
  get stopped(): boolean {
    return this.#abort.signal.aborted || !isUnderWay(this.#status.state);
  }

  /** Resolves when the work has let go of its files. One that was stopped before its turn has none. */
  get ended(): Promise<void> {
    return this.#running ?? this.#predecessor;
  }

  join(source: Source, observe: (status: TransferStatus) => void): Interest<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const party: Party<Source, Result> = { source, observe, resolve, reject, within: AsyncLocalStorage.snapshot() };
    // A party that has released its interest need not look at the end any more.
    promise.catch(() => undefined);
    this.#parties.add(party);
    observe(this.#status);
    const release = async (): Promise<void> => {
      if (this.#parties.delete(party)) {
        reject(new LayerdError('cancelled', `the transfer of ${this.#request.digest} is no longer wanted`));
        if (this.#parties.size === 0) this.#abort.abort();
      }
      if (this.stopped) await this.ended;
    };
    return { done: promise, release };
  }

  /** Rejects everybody and stops. */
  stop(error: unknown): void {
    for (const party of this.#parties) party.reject(error);
    this.#parties.clear();
    this.#abort.abort();
  }

  /** Runs until the blob is where it was to go, every source has failed, or nobody is left. Never rejects. */
  run(): Promise<void> {
    // At once, since what the work does first may take a while: what is told as waiting really waits behind others.
    if (!this.#abort.signal.aborted) this.#update({ state: 'downloading' });
    this.#running = this.#observed();
    return this.#running;
  }

  async #observed(): Promise<void> {
    const began = performance.now();
    await this.#run();
    const { state } = this.#status;
    const result = state === 'done' || state === 'failed' ? state : 'cancelled';
    this.#observer?.ended(this.#request, this.#source, result, (performance.now() - began) / 1000);
  }

  async #run(): Promise<void> {
    await this.#predecessor;
    while (!this.#abort.signal.aborted) {
      const party = [...this.#parties].find((candidate) => candidate.failure === undefined);
      if (party === undefined) {
        this.#fail();
        return;
      }
      this.#source = party.source;
      try {
        const control: TransferControl = { signal: this.#abort.signal, update: (status) => this.#update(status) };
        const result = await party.within(() => this.#work(this.#request, party.source, control));
        this.#succeed(result);
        return;
      } catch (error) {
        // Another party may have other credentials or another mirror: the blob is the same wherever it comes from.
        party.failure = error instanceof Error ? error : new Error(String(error));
        this.#update({ lastError: party.failure.message });
      }
    }
  }

  #succeed(result: Result): void {
    this.#update({ state: 'done' });
    for (const party of this.#parties) party.resolve(result);
    this.#parties.clear();
  }

  /** Each party hears what came of its own source. */
  #fail(): void {
    this.#update({ state: 'failed' });
    for (const party of this.#parties) party.reject(party.failure);
    this.#parties.clear();
  }

  #update(change: Parameters<TransferControl['update']>[0]): void {
    const moved = (change.received ?? 0) - this.#status.received;
    if (moved > 0) this.#observer?.moved(this.#request, this.#source, moved);
    this.#status = { ...this.#status, ...change };
    for (const party of this.#parties) party.observe(this.#status);
  }
}

/** Whether a transfer in this state still has work to do. */
const isUnderWay = (state: TransferState): boolean => state !== 'done' && state !== 'failed';
