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
  /** Bytes still to be received, as far as is known: what an earlier transfer left is not fetched again. */
  readonly remaining: number;
  /** What is done with the bytes. Documents do not count against the limit on downloads. */
  readonly kind: 'layer' | 'blob' | 'document';
}

/** What the work on a transfer can say and must heed. */
export interface TransferControl {
  /** Aborted when nobody is left who wants the blob. */
  readonly signal: AbortSignal;
  update(status: Partial<Pick<TransferStatus, 'state' | 'received' | 'unpacked' | 'attempts' | 'lastError'>>): void;
}

/** Fetches the blob from one source until it is committed. */
export type TransferWork<Source> = (
  request: TransferRequest,
  source: Source,
  control: TransferControl,
) => Promise<void>;

/** One party's wish for a transfer. */
export interface Interest {
  /** Settles with the transfer: rejects when it failed for every source, or when the interest was released. */
  readonly done: Promise<void>;
  /**
   * Lets go of the transfer; it stops when this was the last interest. Resolves when it has stopped then, and nothing
   * writes to the blob's files any more. Harmless after the end.
   */
  release(): Promise<void>;
}

/**
 * The daemon's one queue of downloads, whoever asks: at most one transfer per digest, at most `concurrency` layers under
 * way. {@link TransferState} tells a transfer's life.
 */
export class TransferQueue<Source> {
  readonly #work: TransferWork<Source>;
  readonly #lanes: { readonly bulk: PQueue; readonly document: PQueue };
  readonly #transfers = new Map<Digest, Transfer<Source>>();

  constructor(options: { concurrency: number; work: TransferWork<Source> }) {
    this.#work = options.work;
    this.#lanes = {
      bulk: new PQueue({ concurrency: options.concurrency }),
      document: new PQueue({ concurrency: DOCUMENT_LANE }),
    };
  }

  /** How many layers may be under way at once. Takes effect as running ones end. */
  set concurrency(value: number) {
    this.#lanes.bulk.concurrency = value;
  }

  /** Joins the transfer of a blob, starting it if there is none. `observe` is told the latest status, often. */
  join(request: TransferRequest, source: Source, observe: (status: TransferStatus) => void): Interest {
    const present = this.#transfers.get(request.digest);
    if (present !== undefined && !present.stopped) return present.join(source, observe);
    const transfer = new Transfer(request, this.#work, present?.ended);
    this.#transfers.set(request.digest, transfer);
    const priority = request.remaining <= NEARLY_COMPLETE_BYTES ? 1 : 0;
    void this.#lanes[request.kind === 'document' ? 'document' : 'bulk']
      .add(() => transfer.run(), { priority })
      .then(() => {
        // Only its own entry: once stopped, another transfer of the digest may have taken its place.
        if (this.#transfers.get(request.digest) === transfer) this.#transfers.delete(request.digest);
      });
    return transfer.join(source, observe);
  }

  /** Stops every transfer; what arrived stays on disk. Resolves when the last one has let go of its files. */
  async close(): Promise<void> {
    for (const transfer of this.#transfers.values()) {
      transfer.stop(new LayerdError('unavailable', 'the daemon is shutting down; pull again to resume'));
    }
    await Promise.all(Object.values(this.#lanes).map((lane) => lane.onIdle()));
  }
}

interface Party<Source> {
  readonly source: Source;
  readonly observe: (status: TransferStatus) => void;
  readonly resolve: (value: undefined) => void;
  readonly reject: (error: unknown) => void;
  /** What came of this party's source. */
  failure?: Error;
}

class Transfer<Source> {
  readonly #request: TransferRequest;
  readonly #work: TransferWork<Source>;
  readonly #abort = new AbortController();
  readonly #parties = new Set<Party<Source>>();
  #status: TransferStatus;
  readonly #predecessor: Promise<void>;
  #running: Promise<void> | undefined;

  /** `predecessor`: end of a stopped transfer of the same digest, which still has the ingest's file open. */
  constructor(request: TransferRequest, work: TransferWork<Source>, predecessor: Promise<void> = Promise.resolve()) {
    this.#request = request;
    this.#work = work;
    this.#predecessor = predecessor;
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

  join(source: Source, observe: (status: TransferStatus) => void): Interest {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const party: Party<Source> = { source, observe, resolve, reject };
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

  /** Runs until the blob is committed, every source has failed, or nobody is left. Never rejects. */
  run(): Promise<void> {
    // At once, since what the work does first may take a while: what is told as waiting really waits behind others.
    if (!this.#abort.signal.aborted) this.#update({ state: 'downloading' });
    this.#running = this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    await this.#predecessor;
    while (!this.#abort.signal.aborted) {
      const party = [...this.#parties].find((candidate) => candidate.failure === undefined);
      if (party === undefined) {
        this.#fail();
        return;
      }
      try {
        await this.#work(this.#request, party.source, {
          signal: this.#abort.signal,
          update: (status) => this.#update(status),
        });
        this.#succeed();
        return;
      } catch (error) {
        // Another party may have other credentials or another mirror: the blob is the same wherever it comes from.
        party.failure = error instanceof Error ? error : new Error(String(error));
        this.#update({ lastError: party.failure.message });
      }
    }
  }

  #succeed(): void {
    this.#update({ state: 'done' });
    for (const party of this.#parties) party.resolve(undefined);
    this.#parties.clear();
  }

  /** Each party hears what came of its own source. */
  #fail(): void {
    this.#update({ state: 'failed' });
    for (const party of this.#parties) party.reject(party.failure);
    this.#parties.clear();
  }

  #update(change: Parameters<TransferControl['update']>[0]): void {
    this.#status = { ...this.#status, ...change };
    for (const party of this.#parties) party.observe(this.#status);
  }
}

/** Whether a transfer in this state still has work to do. */
const isUnderWay = (state: TransferState): boolean => state !== 'done' && state !== 'failed';
