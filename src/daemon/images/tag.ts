import { LayerdError } from '../../protocol/errors.ts';
import {
  canonicalName,
  familiarName,
  familiarString,
  withDefaultTag,
  type Reference,
} from '../../protocol/reference.ts';
import type { NewEvent } from '../events/event.ts';
import type { ImageStore } from './store.ts';

/** Would read as a digest wherever an image is named: `sha256:7`. */
const DIGEST_ALGORITHM = 'sha256';

/**
 * Gives images names. A tag says nothing of where an image came from: it is not known by its digest in the new
 * repository until it is pushed there or pulled from there.
 */
export class Tagger {
  readonly #store: ImageStore;
  readonly #events: { append(event: NewEvent): unknown };
  readonly #onChange: () => void;

  /** `onChange` is told after a tag was written. */
  constructor(options: { store: ImageStore; events: { append(event: NewEvent): unknown }; onChange: () => void }) {
    this.#store = options.store;
    this.#events = options.events;
    this.#onChange = options.onChange;
  }

  /**
   * Gives the image that `name` stands for another name. A tag that pointed elsewhere moves, and the image that it leaves
   * stays, dangling if this was its last name. Throws `invalid` or `not-found`, and has changed nothing then.
   */
  tag(name: string, given: Reference): void {
    if (given.digest !== undefined) {
      throw new LayerdError('invalid', 'refusing to create a tag with a digest reference');
    }
    if (familiarName(given) === DIGEST_ALGORITHM) {
      throw new LayerdError('invalid', 'refusing to create an ambiguous tag using digest algorithm as name');
    }
    const reference = withDefaultTag(given);
    this.#store.db.transaction(() => {
      const { target, manifest, listedId } = this.#store.resolve(name);
      this.#store.tag(canonicalName(reference), reference.tag ?? '', target);
      const labels = this.#store.manifests(target).find(({ digest }) => digest === manifest)?.labels ?? {};
      this.#events.append({
        type: 'image',
        action: 'tag',
        actor: listedId,
        attributes: { ...labels, name: familiarString(reference) },
      });
    });
    this.#onChange();
  }
}
