import type { PruneReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { NewEvent } from '../events/event.ts';
import { booleanFilter, filterValues, type Filters } from './filters.ts';
import type { ImageHolds } from './holds.ts';
import { imageFilter } from './image-filter.ts';
import type { Removal } from './remove.ts';
import { abandonInterrupted, inTurns, isWanted, sumOf, type SweepParts } from './sweep.ts';

/** What a prune works with. */
export interface PrunerParts extends SweepParts {
  readonly holds: ImageHolds;
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
    const { store, holds } = this.#parts;
    const select = imageFilter(store, whichImages(filters));
    using watch = store.watch();
    const candidates = store.listing().filter((image) => select(image) !== undefined);
    const isFiltered = ['label', 'label!', 'until'].some((name) => filterValues(filters, name).length > 0);
    const removals = await inTurns<Removal>(store.db, {
      count: candidates.length,
      isOver: () => signal.aborted,
      step: (at) => {
        const id = candidates[at]?.id;
        if (id === undefined || holds.holders(id).length > 0 || isWanted(this.#parts, id, watch.targets))
          return undefined;
        return this.#parts.remover.removeListed(id);
      },
      end: (told) => {
        const last = isFiltered || signal.aborted ? undefined : abandonInterrupted(this.#parts);
        this.#tell(sumOf(told) + (last?.bytes ?? 0));
        return last;
      },
    });
    return {
      ImagesDeleted: removals.flatMap(({ done }) => done),
      SpaceReclaimed: sumOf(removals),
    };
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
