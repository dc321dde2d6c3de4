import type { Digest } from '../../../protocol/digest.ts';
import type { DiskReport, GcImage, GcKept, GcRemoved, GcReport } from '../../../protocol/engine.ts';
import { LayerdError } from '../../../protocol/errors.ts';
import type { NewEvent } from '../../events/event.ts';
import type { Disk } from '../../metadata/disk.ts';
import type { ImageHolds } from '../holds.ts';
import type { ListedImage } from '../listing.ts';
import { abandonInterrupted, inTurns, isWanted, sumOf, Turns, type SweepParts } from '../sweep.ts';
import { Forecast } from './forecast.ts';
import { bytesToFree, isPressed, termsOf, usePercent, type GcPolicy, type GcTerms, type GcWish } from './policy.ts';

/** What has a collection run. */
export type GcTrigger = 'request' | 'high-threshold' | 'maximum-age';

/** What is told of each collection, however it ended. */
export interface GcOutcome {
  readonly trigger: GcTrigger;
  /** `short`: less could be freed than was wanted. */
  readonly result: 'ok' | 'short' | 'failed';
  readonly removed: number;
  readonly bytes: number;
}

/** What a collection works with. */
export interface ImageGcParts extends SweepParts {
  readonly holds: ImageHolds;
  readonly events: { append(event: NewEvent): unknown };
  readonly log: GcLog;
  /** The disk that the images are on. */
  disk(): Disk;
  observe(outcome: GcOutcome): void;
}

interface GcLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): unknown;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): unknown;
}

/** A collection that is asked for. */
export interface GcRequest extends GcWish {
  /** Only tells what would be done. */
  readonly dryRun: boolean;
  /** Ends it early; what was removed until then stays so. */
  readonly signal: AbortSignal;
}

/** An image that may go. */
interface Candidate {
  readonly image: ListedImage;
  readonly usedAt: number;
  readonly reason: GcRemoved['reason'];
}

interface Plan {
  /** In the order in which they go. */
  readonly candidates: readonly Candidate[];
  readonly kept: readonly GcKept[];
}

/** What came of one step, and the bytes that it freed. */
interface Step {
  readonly bytes: number;
  readonly removed?: GcRemoved;
  readonly kept?: GcKept;
}

/**
 * Removes images so that the disk does not fill up, as Kubernetes's kubelet does: what was not used for longer than the
 * maximum age; then, while more of the disk is in use than is wanted, dangling images and after them all others, the least
 * recently used first; at last what interrupted pulls have kept. What somebody holds or works with stays, and what was used a
 * moment ago. {@link GcPolicy} tells when.
 */
export class ImageGc {
  readonly #parts: ImageGcParts;
  #policy: GcPolicy;
  #isRunning = false;
  /** Whether the last collection of its own came short: it is told once, not whenever it is tried again. */
  #isShort = false;

  constructor(parts: ImageGcParts, policy: GcPolicy) {
    this.#parts = parts;
    this.#policy = policy;
  }

  get policy(): GcPolicy {
    return this.#policy;
  }

  set policy(policy: GcPolicy) {
    this.#policy = policy;
    this.#isShort = false;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Whether so much of the disk is in use that images are to be collected. */
  get isPressed(): boolean {
    return this.#policy.highThreshold !== undefined && isPressed(this.#policy, this.#parts.disk());
  }

  /**
   * Collects as the policy says, but for what the request says otherwise.
   * @throws LayerdError of kind invalid, or conflict while another collection is running.
   */
  collect({ dryRun, signal, ...asked }: GcRequest): Promise<GcReport> {
    const terms = termsOf(this.#policy, asked);
    return dryRun ? this.#foresee(terms) : this.#run(terms, 'request', signal);
  }

  /** Collects on the daemon's own account. */
  collectByItself(signal: AbortSignal): Promise<GcReport> {
    const trigger = this.isPressed ? 'high-threshold' : 'maximum-age';
    return this.#run({ ...this.#policy, free: undefined }, trigger, signal);
  }

  async #foresee(terms: GcTerms): Promise<GcReport> {
    const { store } = this.#parts;
    const before = this.#parts.disk();
    const wanted = bytesToFree(terms, before);
    const { candidates, kept } = await this.#plan(terms);
    const forecast = new Forecast(this.#parts);
    const turns = new Turns();
    const removed: GcRemoved[] = [];
    for (const candidate of candidates) {
      if (isSpared(candidate, sumOf(removed), wanted)) break;
      const bytes = forecast.remove(store.targets(candidate.image.id));
      removed.push({ ...told(candidate), bytes, reason: candidate.reason });
      await turns.pause();
    }
    const interrupted = sumOf(removed) < wanted ? forecast.abandonInterrupted() : 0;
    const spared = candidates.slice(removed.length).map((candidate) => keptFor(candidate, { reason: 'enough' }));
    return reportOf({ dryRun: true, before, wanted, removed, kept: [...kept, ...spared], interrupted });
  }

  async #run(terms: GcTerms, trigger: GcTrigger, signal: AbortSignal): Promise<GcReport> {
    if (this.#isRunning) {
      throw new LayerdError('conflict', 'a collection of images is already running: wait until it has ended');
    }
    this.#isRunning = true;
    try {
      const report = await this.#remove(terms, trigger, signal);
      const { removed, reclaimed: bytes, missing } = report;
      const isShort = missing > 0 && !signal.aborted;
      this.#parts.observe({ trigger, result: isShort ? 'short' : 'ok', removed: removed.length, bytes });
      if (trigger !== 'request') this.#told(report, isShort);
      return report;
    } catch (error) {
      this.#parts.observe({ trigger, result: 'failed', removed: 0, bytes: 0 });
      throw error;
    } finally {
      this.#isRunning = false;
    }
  }

  async #remove(terms: GcTerms, trigger: GcTrigger, signal: AbortSignal): Promise<GcReport> {
    const { store } = this.#parts;
    using watch = store.watch();
    const before = this.#parts.disk();
    const wanted = bytesToFree(terms, before);
    const { candidates, kept } = await this.#plan(terms);
    const steps = await inTurns<Step>(store.db, {
      count: candidates.length,
      isOver: (at, bytes) => {
        const candidate = candidates[at];
        return signal.aborted || candidate === undefined || isSpared(candidate, bytes, wanted);
      },
      step: (at) => this.#step(candidates[at], watch.targets),
      end: (done) => {
        const bytes = sumOf(done);
        const last = bytes < wanted && !signal.aborted ? abandonInterrupted(this.#parts).bytes : 0;
        const count = done.filter(({ removed }) => removed !== undefined).length;
        const missing = signal.aborted ? 0 : Math.max(0, wanted - bytes - last);
        this.#append({ trigger, count, reclaimed: bytes + last, missing, before });
        return { bytes: last };
      },
    });
    const done = steps.slice(0, -1);
    const spared = candidates.slice(done.length).map((candidate) => keptFor(candidate, { reason: 'enough' }));
    const report = reportOf({
      dryRun: false,
      before,
      wanted,
      removed: done.flatMap(({ removed }) => removed ?? []),
      kept: [...kept, ...done.flatMap((step) => step.kept ?? []), ...spared],
      interrupted: steps.at(-1)?.bytes ?? 0,
    });
    this.#log(report, trigger);
    return report;
  }

  #step(candidate: Candidate | undefined, touched: ReadonlySet<Digest>): Step {
    if (candidate === undefined) return { bytes: 0 };
    const { image } = candidate;
    // Anything may have happened since it was chosen.
    const kept = isWanted(this.#parts, image.id, touched) ? ({ reason: 'in-use' } as const) : this.#hindrance(image.id);
    if (kept !== undefined) return { bytes: 0, kept: keptFor(candidate, kept) };
    const { done, bytes } = this.#parts.remover.removeListed(image.id);
    if (done.length === 0) return { bytes: 0 };
    return { bytes, removed: { ...told(candidate), bytes, reason: candidate.reason } };
  }

  /** Tells all images that may go from those that are kept whatever the disk is like. */
  async #plan(terms: GcTerms): Promise<Plan> {
    const { store } = this.#parts;
    const uses = store.lastUses();
    const images = store.listing();
    const now = store.now();
    const turns = new Turns();
    const candidates: Candidate[] = [];
    const kept: GcKept[] = [];
    for (const image of images) {
      const usedAt = uses.get(image.id) ?? now;
      const age = now - usedAt;
      const why =
        this.#hindrance(image.id) ??
        (age < terms.minimumAge ? YOUNG : !terms.localImages && this.#isLocal(image) ? LOCAL : undefined);
      const isOld = terms.maximumAge !== undefined && age > terms.maximumAge;
      const reason = isOld ? 'maximum-age' : image.tags.length === 0 ? 'dangling' : 'least-recently-used';
      if (why === undefined) candidates.push({ image, usedAt, reason });
      else kept.push(keptFor({ image, usedAt }, why));
      await turns.pause();
    }
    const rank = ({ reason }: Candidate): number => ORDER.indexOf(reason);
    candidates.sort((one, other) => rank(one) - rank(other) || one.usedAt - other.usedAt);
    return { candidates, kept };
  }

  /** Why an image cannot go, however old it is. */
  #hindrance(id: Digest): Why | undefined {
    const { holds, store } = this.#parts;
    const holders = holds.holders(id);
    if (holders.length > 0) return { reason: 'held', holders };
    if (isWanted(this.#parts, id, NOBODY)) return { reason: 'in-use' };
    return store.hasChildren(id) ? { reason: 'parent' } : undefined;
  }

  /** Whether any of what is one image to the user is known to no registry by its digest. */
  #isLocal({ id, names }: ListedImage): boolean {
    const known = new Set(names.flatMap(({ reference, target }) => (reference.digest === undefined ? [] : [target])));
    return this.#parts.store.targets(id).some((target) => !known.has(target));
  }

  /** The event of a collection, in its last transaction. */
  #append({ trigger, count, reclaimed, missing, before }: Ending): void {
    if (trigger !== 'request' && reclaimed === 0 && (missing === 0 || this.#isShort)) return;
    this.#parts.events.append({
      type: 'image',
      action: 'gc',
      actor: '',
      attributes: {
        trigger,
        removed: String(count),
        reclaimed: String(reclaimed),
        use: String(usePercent(before)),
        ...(missing > 0 ? { missing: String(missing) } : {}),
      },
    });
  }

  #log({ removed, interrupted, reclaimed, before, after }: GcReport, trigger: GcTrigger): void {
    const { log } = this.#parts;
    for (const { id, names, bytes, reason, lastUsed } of removed) {
      log.info('removed an image to free space', { image: names[0] ?? id, id, bytes, reason, lastUsed });
    }
    if (reclaimed > 0) {
      const use = `${before.percent}% to ${after.percent}%`;
      log.info('collected images', { trigger, removed: removed.length, reclaimed, interrupted, use });
    }
  }

  /** Says of a collection of its own that it came short, once. */
  #told({ after, missing }: GcReport, isShort: boolean): void {
    if (isShort && !this.#isShort) {
      this.#parts.log.warn(
        `the disk of the data root is used to ${after.percent}%, and there are no more images that may be removed: remove some, or other files; layerctl gc --dry-run tells why each is kept`,
        { missing },
      );
    }
    this.#isShort = isShort;
  }
}

const NOBODY: ReadonlySet<Digest> = new Set();
/** Reasons in the order in which images go. */
const ORDER: readonly GcRemoved['reason'][] = ['maximum-age', 'dangling', 'least-recently-used'];

/** Why an image is kept. */
interface Why {
  readonly reason: GcKept['reason'];
  readonly holders?: readonly string[];
}

const YOUNG: Why = { reason: 'young' };
const LOCAL: Why = { reason: 'local' };

interface Ending {
  readonly trigger: GcTrigger;
  readonly count: number;
  readonly reclaimed: number;
  readonly missing: number;
  readonly before: Disk;
}

/** Whether an image stays since enough was freed; one that is beyond the maximum age goes all the same. */
function isSpared({ reason }: Candidate, freed: number, wanted: number): boolean {
  return reason !== 'maximum-age' && freed >= wanted;
}

function told({ image, usedAt }: Pick<Candidate, 'image' | 'usedAt'>): GcImage {
  const { id, tags, digests } = image;
  return { id, names: [...(tags.length > 0 ? tags : digests)], lastUsed: new Date(usedAt).toISOString() };
}

function keptFor(candidate: Pick<Candidate, 'image' | 'usedAt'>, { reason, holders = [] }: Why): GcKept {
  return { ...told(candidate), bytes: candidate.image.size, reason, holders: [...holders] };
}

function reportOf(
  collection: Pick<GcReport, 'dryRun' | 'wanted' | 'removed' | 'kept' | 'interrupted'> & { readonly before: Disk },
): GcReport {
  const { before, wanted, removed, interrupted } = collection;
  const reclaimed = sumOf(removed) + interrupted;
  const after = { capacity: before.capacity, available: before.available + reclaimed };
  const missing = Math.max(0, wanted - reclaimed);
  return { ...collection, before: diskReport(before), after: diskReport(after), reclaimed, missing };
}

const diskReport = (disk: Disk): DiskReport => ({ ...disk, percent: usePercent(disk) });
