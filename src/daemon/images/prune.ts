import type { Digest } from '../../protocol/digest.ts';
import type { DeleteItem, PruneReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import { booleanFilter, filterValues, type Filters } from './filters.ts';
import type { ImageHolds } from './holds.ts';
import { imageFilter } from './image-filter.ts';
import type { ImageRemover, Removal } from './remove.ts';
import type { ImageStore } from './store.ts';

/** Images are removed for this long in one turn of the event loop, in milliseconds; at least one is. */
const TURN = 2;

/** What a prune works with. */
export interface PrunerParts {
  readonly store: ImageStore;
  readonly remover: ImageRemover;
  readonly holds: ImageHolds;
  readonly content: ContentStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly events: { append(event: NewEvent): unknown };
}

/**
 * Removes the images that nothing uses, one prune at a time. It goes on for many turns of the event loop: each is a
 * transaction of its own with the events of what it removes, and the last one has the event of the prune.
 */
export class Pruner {
  readonly #parts: PrunerParts;
  #isRunning = false;

  constructor(parts: PrunerParts) {
    this.#parts = parts;
  }

  /**
   * Removes dangling images, or with `dangling=false` all, as far as the filters match. Without any other filter what
   * interrupted pulls have left goes too: of that there is nothing that a filter could match.
   * @param signal Ends it early; what was removed until then is told.
   * @throws LayerdError of kind invalid, or conflict while another prune is running.
   */
  async prune(filters: Filters, signal: AbortSignal): Promise<PruneReport> {
    if (this.#isRunning) {
      throw new LayerdError('conflict', 'a prune operation is already running: wait until it has ended');
    }
    this.#isRunning = true;
    try {
      return await this.#prune(filters, signal);
    } finally {
      this.#isRunning = false;
    }
  }

  async #prune(filters: Filters, signal: AbortSignal): Promise<PruneReport> {
    const { store } = this.#parts;
    const select = imageFilter(store, whichImages(filters));
    using watch = store.watch();
    const candidates = store.listing().filter((image) => select(image) !== undefined);
    const isFiltered = ['label', 'label!', 'until'].some((name) => filterValues(filters, name).length > 0);
    const report: PruneReport = { ImagesDeleted: [], SpaceReclaimed: 0 };
    let next = 0;
    for (let isLast = false; !isLast;) {
      // On a full disk the body may run twice: it has no effect but on the database.
      const turn = store.db.essential(() => {
        const until = performance.now() + TURN;
        const removals: Removal[] = [];
        let at = next;
        for (; at < candidates.length && !signal.aborted; at += 1) {
          if (removals.length > 0 && performance.now() > until) break;
          const id = candidates[at]?.id;
          if (id !== undefined && !this.#isWanted(id, watch.targets)) {
            removals.push(this.#parts.remover.removeListed(id));
          }
        }
        const isEnd = at === candidates.length || signal.aborted;
        if (isEnd && !isFiltered && !signal.aborted) removals.push(this.#abandonInterrupted());
        const freed = removals.reduce((sum, { bytes }) => sum + bytes, 0);
        if (isEnd) this.#tell(report.SpaceReclaimed + freed);
        return { done: removals.flatMap(({ done }) => done), freed, at, isEnd };
      });
      report.ImagesDeleted.push(...turn.done);
      report.SpaceReclaimed += turn.freed;
      next = turn.at;
      isLast = turn.isEnd;
      if (!isLast) await new Promise(setImmediate);
    }
    return report;
  }

  /** Whether somebody holds the image, works with it, or has pulled, loaded or tagged it since it was chosen. */
  #isWanted(listedId: Digest, touched: ReadonlySet<Digest>): boolean {
    const { store, leases, holds } = this.#parts;
    if (holds.holders(listedId).length > 0) return true;
    return store.targets(listedId).some((target) => touched.has(target) || leases.isInUse(target));
  }

  /** Lets go of what interrupted pulls have kept for a resume. */
  #abandonInterrupted(): Removal {
    const { content, leases, collector } = this.#parts;
    const kept = leases.endKept();
    const begun = new Set(kept.filter((digest) => content.has(digest) || content.ingestSize(digest) > 0));
    const { blobs, bytes } = collector.abandon(kept);
    const done: DeleteItem[] = blobs.filter((digest) => begun.has(digest)).map((digest) => ({ Deleted: digest }));
    return { done, bytes };
  }

  #tell(reclaimed: number): void {
    this.#parts.events.append({
      type: 'image',
      action: 'prune',
      actor: '',
      attributes: { reclaimed: String(reclaimed) },
    });
  }
}

/** The filters of the images that are to go: a list has with `dangling=false` those with a name, a prune all. */
function whichImages(filters: Filters): Filters {
  const wanted = new Map(filters);
  if (booleanFilter(filters, 'dangling') === false) wanted.delete('dangling');
  else wanted.set('dangling', ['true']);
  return wanted;
}
