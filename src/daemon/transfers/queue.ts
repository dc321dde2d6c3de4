import { AsyncLocalStorage } from 'node:async_hooks';
import PQueue from 'p-queue';
import type { Digest } from '../../protocol/digest.ts';
import type { TransferReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { noTracer, type Tracer } from '../tracing/tracer.ts';
import { splitCanonicalName } from '../../protocol/reference.ts';
import { secondsLeft, type Demand } from './demand.ts';
import type { Interest } from './interest.ts';
import { WaitingLine, type Candidate, type LineOptions } from './line.ts';
import { Rate } from './rate.ts';
import { TransferTrace } from './trace.ts';
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
  /** Aborted when nobody is left who wants the blob, or when the transfer is paused. */
  readonly signal: AbortSignal;
  /** On whose behalf, for whatever else has to wait for it. */
  readonly candidate: Candidate;
  update(status: Partial<Omit<TransferStatus, 'digest' | 'total'>>): void;
}

/** Moves the blob with one party's source until it is where it was to go. */
export type TransferWork<Source, Request extends TransferRequest = TransferRequest, Result = void> = (
  request: Request,
  source: Source,
  control: TransferControl,
) => Promise<Result>;

/** Is told what transfers do. `source` is the one in use, or the last party's before the work has begun. */
export interface TransferObserver<Source, Request extends TransferRequest = TransferRequest> {
  moved(request: Request, source: Source, bytes: number): void;
  /** `seconds`: since its first turn came. */
  ended(request: Request, source: Source, result: 'done' | 'failed' | 'cancelled', seconds: number): void;
}

/** What a queue is made of. */
export interface QueueOptions<Source, Request extends TransferRequest, Result> {
  readonly direction: TransferReport['direction'];
  /** Layers under way at once. */
  readonly concurrency: number;
  readonly work: TransferWork<Source, Request, Result>;
  /** The repository, with its registry, that a party would have the blob from, or in. */
  readonly repositoryOf: (request: Request, source: Source) => string;
  /** What is the same for requests that one transfer answers; without it, the digest. */
  readonly keyOf?: (request: Request) => string;
  readonly observer?: TransferObserver<Source, Request>;
  readonly tracer?: Tracer;
  /** Whether one that is stopped goes on where it was, so that it can be made to wait when a limit is lowered. */
  readonly isResumable?: boolean;
}

/** How many layers may be under way at once. */
export interface Concurrency {
  readonly total: number;
  /** Of a registry, by its host; those that are not named share what {@link ANY_REGISTRY} says, each by itself. */
  readonly registries: Readonly<Record<string, number>>;
}

/** In {@link Concurrency}, each registry that is not named. */
export const ANY_REGISTRY = '*';

/** A transfer as those see it who watch or steer it. */
export interface VisibleTransfer {
  /** Tells it from all others of the daemon. */
  readonly key: string;
  readonly digest: Digest;
  readonly direction: TransferReport['direction'];
  /** Whether it is over, well or not. */
  readonly ended: boolean;
  /** Whether bytes move, or should. */
  readonly isMoving: boolean;
  report(): TransferReport;
  /** Puts it at that priority, whatever those who want it have asked for. */
  prioritize(priority: number): void;
  /** Gives its place back; what has arrived stays. */
  pause(): void;
  resume(): void;
  /** Ends it for all who want it. Resolves when nothing writes to the blob's files any more. */
  cancel(): Promise<void>;
}

/** A queue as those see it who do not care what it moves. */
export interface VisibleQueue {
  /** Those that wait, run or are paused, in the order in which they were asked for. */
  transfers(): VisibleTransfer[];
  /** Is told of each change of a transfer, often; the result ends that. */
  watch(listener: (transfer: VisibleTransfer) => void): () => void;
}

/**
 * The daemon's one queue in a direction, downloads or uploads, whoever asks: at most one transfer of the same thing, at
 * most `concurrency` layers under way. {@link TransferState} tells a transfer's life.
 */
export class TransferQueue<
  Source,
  Request extends TransferRequest = TransferRequest,
  Result = void,
> implements VisibleQueue {
  readonly #options: QueueOptions<Source, Request, Result>;
  readonly #lanes: { readonly bulk: Lane; readonly document: Lane };
  #registryLimits: Concurrency['registries'] = {};
  readonly #transfers = new Map<string, Transfer<Source, Request, Result>>();
  readonly #listeners = new Set<(transfer: VisibleTransfer) => void>();

  constructor(options: QueueOptions<Source, Request, Result>) {
    this.#options = options;
    this.#lanes = {
      bulk: lane(options.concurrency, (registry) => this.#limitOf(registry)),
      document: lane(DOCUMENT_LANE, () => Infinity),
    };
  }

  /**
   * Takes other limits on. What is beyond them and can go on later where it is now waits for another turn, the least urgent
   * first and the youngest of those; anything else has its place until it ends.
   */
  set concurrency({ total, registries }: Concurrency) {
    this.#registryLimits = registries;
    this.#lanes.bulk.concurrency = total;
    if (this.#options.isResumable === true) this.#send(total);
  }

  /** How many transfers wait for their turn or are paused, and how many have it. */
  get counts(): { readonly waiting: number; readonly running: number } {
    const states = [...this.#transfers.values()].map(({ status }) => status.state);
    const waiting = states.filter((state) => state === 'waiting' || state === 'paused').length;
    return { waiting, running: states.length - waiting };
  }

  /** Joins the transfer of a blob, starting it if there is none. `observe` is told the latest status, often. */
  join(
    request: Request,
    source: Source,
    demand: Demand,
    observe: (status: TransferStatus) => void = () => undefined,
  ): Interest<Result> {
    const key = this.#options.keyOf?.(request) ?? request.digest;
    const present = this.#transfers.get(key);
    if (present !== undefined && !present.stopped) {
      const interest = present.join(source, demand, observe);
      // It may be had from a registry that is not at its limit now.
      poke(this.#lanes.bulk);
      return interest;
    }
    const transfer: Transfer<Source, Request, Result> = new Transfer({
      request,
      key: `${this.#options.direction} ${key}`,
      options: this.#options,
      predecessor: present?.wound,
      enqueue: () => this.#enqueue(key, transfer),
      changed: () => {
        for (const listener of this.#listeners) listener(transfer);
      },
      left: () => this.#forget(key, transfer),
    });
    this.#transfers.set(key, transfer);
    return transfer.join(source, demand, observe);
  }

  transfers(): VisibleTransfer[] {
    return [...this.#transfers.values()].filter(({ stopped }) => !stopped);
  }

  watch(listener: (transfer: VisibleTransfer) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Takes a place under the limit, on the candidate's behalf, for the movement of a blob that is no transfer of this
   * queue's, from or to the registry. Call the result to give it back. Rejects with the signal's reason while it waits.
   */
  async occupy(
    candidate: Pick<Candidate, 'priority' | 'isSmall' | 'clients'>,
    registry: string,
    signal: AbortSignal,
  ): Promise<() => void> {
    const taken = Promise.withResolvers<undefined>();
    const left = Promise.withResolvers<undefined>();
    const occupied = async (): Promise<void> => {
      taken.resolve(undefined);
      await left.promise;
    };
    const standIn: Candidate = {
      registries: [registry],
      get priority() {
        return candidate.priority;
      },
      get isSmall() {
        return candidate.isSmall;
      },
      get clients() {
        return candidate.clients;
      },
    };
    this.#lanes.bulk.add(occupied, { signal, candidate: standIn }).catch(taken.reject);
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

  async #enqueue(key: string, transfer: Transfer<Source, Request, Result>): Promise<void> {
    await this.#lanes[transfer.isDocument ? 'document' : 'bulk'].add(() => transfer.run(), { candidate: transfer });
    if (transfer.stopped) this.#forget(key, transfer);
  }

  #limitOf(registry: string): number {
    return this.#registryLimits[registry] ?? this.#registryLimits[ANY_REGISTRY] ?? Infinity;
  }

  /** Sends back into the line what is beyond the limits. */
  #send(total: number): void {
    const kept = new Map<string, number>();
    let all = 0;
    const running = [...this.#transfers.values()].filter((transfer) => transfer.holdsPlace);
    // A stable sort, of what is in the order in which it was asked for.
    for (const transfer of running.sort((a, b) => b.priority - a.priority)) {
      const registry = transfer.registry ?? '';
      const count = (kept.get(registry) ?? 0) + 1;
      if (transfer.isMoving && (all >= total || count > this.#limitOf(registry))) transfer.sendBack();
      else {
        kept.set(registry, count);
        all += 1;
      }
    }
  }

  /** Only its own entry: once stopped, another transfer of the same may have taken its place. */
  #forget(key: string, transfer: Transfer<Source, Request, Result>): void {
    if (this.#transfers.get(key) === transfer) this.#transfers.delete(key);
  }
}

type Lane = PQueue<WaitingLine, LineOptions>;

function lane(concurrency: number, limitOf: (registry: string) => number): Lane {
  const made: Lane = new PQueue({
    concurrency,
    queueClass: class extends WaitingLine {
      constructor() {
        super({ limitOf, poke: () => poke(made) });
      }
    },
  });
  return made;
}

/** Has a lane look for what may go now: setting its limit is how p-queue is told to. */
function poke(lane: Lane): void {
  const { concurrency } = lane;
  lane.concurrency = concurrency;
}

interface Party<Source, Result> {
  readonly source: Source;
  readonly demand: Demand;
  readonly since: string;
  readonly observe: (status: TransferStatus) => void;
  readonly resolve: (value: Result) => void;
  readonly reject: (error: unknown) => void;
  /** Works on this party's account, as what it does is logged, and not on that of whoever made room in the queue. */
  readonly within: <T>(work: () => T) => T;
  /** What came of this party's source. */
  failure?: Error;
}

/** What a transfer is made of. */
interface TransferParts<Source, Request extends TransferRequest, Result> {
  readonly request: Request;
  readonly key: string;
  readonly options: QueueOptions<Source, Request, Result>;
  /** End of a stopped transfer of the same, which still has the ingest's file open. */
  readonly predecessor: Promise<void> | undefined;
  /** Has {@link Transfer.run} called in its turn; resolves after it. */
  readonly enqueue: () => Promise<void>;
  /** Told of each change. */
  readonly changed: () => void;
  /** Told when it is over though it had no place in the queue. */
  readonly left: () => void;
}

class Transfer<Source, Request extends TransferRequest, Result> implements VisibleTransfer, Candidate {
  readonly key: string;
  readonly #parts: TransferParts<Source, Request, Result>;
  readonly #parties = new Set<Party<Source, Result>>();
  readonly #rate = new Rate();
  readonly #since = new Date().toISOString();
  readonly #trace: TransferTrace;
  /** Who came last, for what is told of it once nobody is left. */
  #last: Party<Source, Result> | undefined;
  #status: TransferStatus;
  #priority: number | undefined;
  #isBegun = false;
  #paused = false;
  #isStopped = false;
  /** Whether it waits in the queue, or has a place there. */
  #isQueued = false;
  /** Whether it gives its place back, to wait for another turn. */
  #isSentBack = false;
  #hasTurn = false;
  /** On whose account it has its place. */
  #registry: string | undefined;
  #attempt: AbortController | undefined;
  /** The source in use. */
  #source: Source | undefined;
  #startedAt: number | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: TransferParts<Source, Request, Result>) {
    this.#parts = parts;
    this.key = parts.key;
    this.#trace = new TransferTrace(parts.options.tracer ?? noTracer, parts.options.direction, parts.request);
    const { digest, size, remaining } = parts.request;
    this.#status = { digest, state: 'waiting', received: size - remaining, unpacked: 0, total: size, attempts: 0 };
  }

  get status(): TransferStatus {
    return this.#status;
  }

  get digest(): Digest {
    return this.#parts.request.digest;
  }

  get direction(): TransferReport['direction'] {
    return this.#parts.options.direction;
  }

  get isDocument(): boolean {
    return this.#parts.request.kind === 'document';
  }

  get isSmall(): boolean {
    return this.#status.total - this.#status.received <= NEARLY_COMPLETE_BYTES;
  }

  get priority(): number {
    // Folded without a spread: as many as there are pulls of the same base image.
    return (
      this.#priority ?? [...this.#parties].reduce((most, { demand }) => Math.max(most, demand.priority), -Infinity)
    );
  }

  get clients(): readonly string[] {
    return [...this.#parties].map(({ demand }) => demand.client);
  }

  /** Those that it can still be had from, or is to go to. */
  get registries(): readonly string[] {
    if (this.isDocument) return [];
    return [...new Set(this.#hopeful.map((party) => this.#registryOf(party)))];
  }

  /** Whether it has a place among the layers under way, and means to keep it. */
  get holdsPlace(): boolean {
    return this.#hasTurn && !this.isDocument && !this.stopped && !this.#paused && !this.#isSentBack;
  }

  get registry(): string | undefined {
    return this.#registry;
  }

  get isMoving(): boolean {
    const { state } = this.#status;
    return state === 'downloading' || state === 'uploading';
  }

  get ended(): boolean {
    return !isUnderWay(this.#status.state);
  }

  /** Whether nobody is left who wants it, or it has ended: nobody can join any more. */
  get stopped(): boolean {
    return this.#isStopped || this.ended;
  }

  /** Resolves when the work has let go of its files. One that was stopped before its turn has none. */
  get wound(): Promise<void> {
    return this.#running ?? this.#parts.predecessor ?? Promise.resolve();
  }

  join(source: Source, demand: Demand, observe: (status: TransferStatus) => void): Interest<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const party: Party<Source, Result> = {
      source,
      demand,
      since: new Date().toISOString(),
      observe,
      resolve,
      reject,
      within: AsyncLocalStorage.snapshot(),
    };
    // A party that has released its interest need not look at the end any more.
    promise.catch(() => undefined);
    this.#parties.add(party);
    this.#last = party;
    demand.joined(this.key, this);
    const before = this.#status;
    if (this.#isBegun) this.#trace.joined();
    // The first one begins it, and where it need not wait that is what is told.
    if (!this.#isBegun) this.#begin();
    if (this.#status === before) observe(this.#status);
    this.#parts.changed();
    const release = async (): Promise<void> => {
      if (this.#parties.delete(party)) {
        reject(new LayerdError('cancelled', `the transfer of ${this.digest} is no longer wanted`));
        if (this.#parties.size === 0) this.#stop();
        else this.#parts.changed();
      }
      if (this.stopped) await this.wound;
    };
    return { done: promise, release };
  }

  report(): TransferReport {
    const { digest, state, received, total, attempts, lastError, host } = this.#status;
    const [party = this.#last] = this.#parties;
    const rate = this.isMoving ? this.#rate.value : 0;
    return {
      digest,
      direction: this.direction,
      state,
      repository: party === undefined ? '' : this.#parts.options.repositoryOf(this.#parts.request, party.source),
      ...(host === undefined ? {} : { host }),
      size: total,
      received,
      rate,
      ...(rate > 0 ? { secondsLeft: secondsLeft(total - received, rate) } : {}),
      priority: this.#parties.size === 0 ? (this.#priority ?? this.#last?.demand.priority ?? 0) : this.priority,
      attempts,
      ...(lastError === undefined ? {} : { lastError }),
      since: this.#since,
      wantedBy: [...this.#parties].map(({ demand: { id, verb, reference, client }, since }) => ({
        id,
        verb,
        reference,
        client,
        since,
      })),
    };
  }

  prioritize(priority: number): void {
    this.#priority = priority;
    this.#parts.changed();
  }

  pause(): void {
    if (this.#paused || this.stopped) return;
    this.#paused = true;
    this.#attempt?.abort(new LayerdError('cancelled', `the transfer of ${this.digest} was paused`));
    this.#update({ state: 'paused' });
  }

  resume(): void {
    if (!this.#paused || this.stopped) return;
    this.#paused = false;
    if (this.#status.state === 'paused') this.#update({ state: 'waiting' });
    // One that has not let go of its place yet, or still has its turn before it, goes on there.
    if (!this.#isQueued) this.#begin();
  }

  granted(registry: string | undefined): void {
    this.#registry = registry;
  }

  /** Has it wait for another turn, as if it had just come. What has arrived stays. */
  sendBack(): void {
    if (this.#paused || this.stopped || !this.#hasTurn) return;
    this.#isSentBack = true;
    this.#attempt?.abort(new LayerdError('cancelled', `the transfer of ${this.digest} gives its place back`));
    this.#update({ state: 'waiting' });
  }

  async cancel(): Promise<void> {
    const names = [...new Set([...this.#parties].map(({ demand }) => demand.reference))].join(', ');
    const what = `the ${this.direction} of ${this.digest}`;
    this.stop(new LayerdError('cancelled', `${what} (${names}) was cancelled through the API; ask again to resume it`));
    await this.wound;
  }

  /** Rejects everybody and stops. */
  stop(error: unknown): void {
    for (const party of this.#parties) party.reject(error);
    this.#parties.clear();
    this.#stop();
  }

  /** Runs until the blob is where it was to go, every source has failed, it is paused or nobody is left. Never rejects. */
  run(): Promise<void> {
    // At once, since what the work does first may take a while: what is told as waiting really waits behind others.
    if (!this.stopped && !this.#paused) this.#update({ state: 'downloading' });
    this.#startedAt ??= performance.now();
    const before = this.wound;
    this.#hasTurn = true;
    this.#running = this.#run(before).finally(() => (this.#hasTurn = false));
    return this.#running;
  }

  async #run(before: Promise<void>): Promise<void> {
    await before;
    while (!this.stopped && !this.#paused && !this.#isSentBack) {
      const hopeful = this.#hopeful;
      const [first] = hopeful;
      if (first === undefined) {
        this.#fail();
        return;
      }
      const granted = this.#registry;
      const party = granted === undefined ? first : hopeful.find((each) => this.#registryOf(each) === granted);
      if (party === undefined) {
        // Its place counts for a registry that nobody is left to ask with.
        this.sendBack();
        return;
      }
      this.#source = party.source;
      const attempt = new AbortController();
      this.#attempt = attempt;
      const control: TransferControl = {
        signal: attempt.signal,
        candidate: this,
        update: (status) => {
          // What winds down says nothing any more: it is paused, or over.
          if (!attempt.signal.aborted) this.#update(status);
        },
      };
      try {
        const { work } = this.#parts.options;
        const result = await party.within(() =>
          this.#trace.within(() => work(this.#parts.request, party.source, control)),
        );
        this.#succeed(result);
        return;
      } catch (error) {
        if (attempt.signal.aborted) continue;
        // Another party may have other credentials or another mirror: the blob is the same wherever it comes from.
        party.failure = error instanceof Error ? error : new Error(String(error));
        this.#update({ lastError: party.failure.message });
      }
    }
  }

  /** Those whose source has not failed. */
  get #hopeful(): Party<Source, Result>[] {
    return [...this.#parties].filter(({ failure }) => failure === undefined);
  }

  #registryOf({ source }: Party<Source, Result>): string {
    return splitCanonicalName(this.#parts.options.repositoryOf(this.#parts.request, source)).registry;
  }

  #begin(): void {
    this.#isBegun = true;
    this.#isQueued = true;
    this.#isSentBack = false;
    void this.#parts.enqueue().then(() => {
      this.#isQueued = false;
      // Resumed after its work had ended and before its place was given back.
      if (!this.#paused && !this.stopped) this.#begin();
    });
  }

  #stop(): void {
    if (this.stopped) return;
    this.#isStopped = true;
    this.#attempt?.abort();
    this.#update({ state: 'cancelled' });
    if (!this.#isQueued) this.#parts.left();
  }

  #succeed(result: Result): void {
    // Done all the same, where it was told to stop too late; nobody waits for it then.
    if (!this.#isStopped) this.#update({ state: 'done' });
    for (const party of this.#parties) party.resolve(result);
    this.#parties.clear();
  }

  /** Each party hears what came of its own source. */
  #fail(): void {
    const [first] = this.#parties;
    this.#trace.fail(first?.failure);
    this.#update({ state: 'failed' });
    for (const party of this.#parties) party.reject(party.failure);
    this.#parties.clear();
  }

  #update(change: Parameters<TransferControl['update']>[0]): void {
    const hadMoved = this.isMoving;
    const before = this.#status;
    this.#status = { ...before, ...change };
    const { received } = this.#status;
    this.#observe(before);
    this.#trace.changed(before, this.#status);
    if (!hadMoved) this.#rate.restart();
    this.#rate.update(received);
    for (const party of this.#parties) party.observe(this.#status);
    this.#parts.changed();
  }

  #observe(before: TransferStatus): void {
    const { request, options } = this.#parts;
    const source = this.#source ?? this.#last?.source;
    if (options.observer === undefined || source === undefined) return;
    const { received, state } = this.#status;
    if (received > before.received) options.observer.moved(request, source, received - before.received);
    if (!isUnderWay(before.state) || (state !== 'done' && state !== 'failed' && state !== 'cancelled')) return;
    const seconds = this.#startedAt === undefined ? 0 : (performance.now() - this.#startedAt) / 1000;
    options.observer.ended(request, source, state, seconds);
  }
}

/** Whether a transfer in this state still has work to do. */
const isUnderWay = (state: TransferState): boolean => state !== 'done' && state !== 'failed' && state !== 'cancelled';
