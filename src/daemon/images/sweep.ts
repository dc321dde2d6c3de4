import type { Digest } from '../../protocol/digest.ts';
import type { DeleteItem } from '../../protocol/engine.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { Database } from '../metadata/database.ts';
import type { ImageRemover, Removal } from './remove.ts';
import type { ImageStore } from './store.ts';

/** Work goes on for this long in one turn of the event loop, in milliseconds; one step is done at least. */
const TURN = 2;

/** What removes many images at once works with. */
export interface SweepParts {
  readonly store: ImageStore;
  readonly remover: ImageRemover;
  readonly content: ContentStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
}

/** Whether somebody works with the image, or is among those who have pulled, loaded or tagged it. */
export function isWanted(
  { store, leases }: Pick<SweepParts, 'store' | 'leases'>,
  listedId: Digest,
  touched: ReadonlySet<Digest>,
): boolean {
  return store.targets(listedId).some((target) => touched.has(target) || leases.isInUse(target));
}

/** Lets go of what interrupted pulls have kept for a resume. Part of the caller's transaction. */
export function abandonInterrupted({ content, leases, collector }: SweepParts): Removal {
  const kept = leases.endKept();
  const begun = new Set(kept.filter((digest) => content.has(digest) || content.ingestSize(digest) > 0));
  const { blobs, bytes } = collector.abandon(kept);
  const done: DeleteItem[] = blobs.filter((digest) => begun.has(digest)).map((digest) => ({ Deleted: digest }));
  return { done, bytes };
}

/** Removals, one step after the other. On a full disk a step may run twice: it has no effect but on the database. */
export interface Steps<T> {
  readonly count: number;
  /** Whether to end before a step, so many bytes having been freed. */
  isOver(at: number, bytes: number): boolean;
  /** Does one; undefined where there is nothing to tell of it. */
  step(at: number): T | undefined;
  /** What there is to do in the transaction of the last step, after all that is told so far. */
  end(told: readonly T[]): T | undefined;
}

/** The bytes that all of them freed. */
export const sumOf = (told: readonly { readonly bytes: number }[]): number =>
  told.reduce((sum, { bytes }) => sum + bytes, 0);

/** Has everybody else come to their turn of the event loop from time to time, in work that goes over many images. */
export class Turns {
  #until = performance.now() + TURN;

  async pause(): Promise<void> {
    if (performance.now() < this.#until) return;
    await new Promise(setImmediate);
    this.#until = performance.now() + TURN;
  }
}

/** Does them in many turns of the event loop, each a transaction of its own; returns what they have to tell. */
export async function inTurns<T extends { readonly bytes: number }>(db: Database, steps: Steps<T>): Promise<T[]> {
  const told: T[] = [];
  let from = 0;
  let bytes = 0;
  for (let isEnd = false; !isEnd;) {
    const turn = db.essential(() => {
      const until = performance.now() + TURN;
      const results: T[] = [];
      let freed = bytes;
      const tell = (result: T | undefined): void => {
        if (result === undefined) return;
        results.push(result);
        freed += result.bytes;
      };
      let at = from;
      for (; at < steps.count && !steps.isOver(at, freed); at += 1) {
        if (at > from && performance.now() > until) return { results, freed, at, isEnd: false };
        tell(steps.step(at));
      }
      tell(steps.end([...told, ...results]));
      return { results, freed, at, isEnd: true };
    });
    told.push(...turn.results);
    bytes = turn.freed;
    from = turn.at;
    isEnd = turn.isEnd;
    if (!isEnd) await new Promise(setImmediate);
  }
  return told;
}
