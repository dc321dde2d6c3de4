import { LayerdError } from '../../protocol/errors.ts';
import type { ImageSetMember, ImageSetReport, ImageSetUpdate } from '../../protocol/image-set.ts';
import type { Platform } from '../../protocol/oci.ts';
import { parseSpecText } from './files.ts';
import { stateOf } from './plan.ts';
import { isName, NAME_RULE, type ImageSet, type Member } from './set.ts';
import type { PutOutcome, SetStore } from './store.ts';
import { SetWatch } from './watch.ts';

/** The verbs of image sets. */
export class ImageSets {
  readonly #sets: SetStore;
  readonly #host: Platform;
  readonly #onPut: () => void;
  readonly #onDelete: () => void;
  readonly #closed = new AbortController();

  /** `onPut` and `onDelete` are told after a set was put, or deleted. */
  constructor(parts: { sets: SetStore; host: Platform; onPut: () => void; onDelete: () => void }) {
    this.#sets = parts.sets;
    this.#host = parts.host;
    this.#onPut = parts.onPut;
    this.#onDelete = parts.onDelete;
  }

  list(): ImageSetReport[] {
    return this.#sets.names().flatMap((name) => this.#report(name) ?? []);
  }

  /** @throws LayerdError of kind not-found. */
  get(name: string): ImageSetReport {
    const report = this.#report(name);
    if (report === undefined) throw missing(name);
    return report;
  }

  /**
   * Creates a set or replaces one.
   * @param json The spec.
   * @throws LayerdError of kind invalid, naming the field, or conflict for a set that comes from a file.
   */
  put(name: string, json: string): { readonly outcome: PutOutcome; readonly report: ImageSetReport } {
    if (!isName(name)) {
      throw new LayerdError('invalid', `${JSON.stringify(name)} is no name of an image set: expected ${NAME_RULE}`);
    }
    const outcome = this.#sets.put(name, parseSpecText(json, this.#host));
    if (outcome !== 'unchanged') this.#onPut();
    return { outcome, report: this.get(name) };
  }

  /**
   * Deletes a set. Its images stay.
   * @throws LayerdError of kind not-found, or conflict for a set that comes from a file.
   */
  delete(name: string): void {
    if (!this.#sets.delete(name)) throw missing(name);
    this.#onDelete();
  }

  /** All sets as they are, then what changes, until the signal is aborted or the daemon stops. */
  async *watch(signal: AbortSignal): AsyncGenerator<ImageSetUpdate[], void, undefined> {
    for await (const names of new SetWatch(this.#sets).names(AbortSignal.any([signal, this.#closed.signal]))) {
      yield names.map((name) => this.#report(name) ?? { name, deleted: true });
    }
  }

  /** Ends all watching. */
  close(): void {
    this.#closed.abort();
  }

  #report(name: string): ImageSetReport | undefined {
    const set = this.#sets.get(name);
    return set && this.#reportOf(set);
  }

  #reportOf(set: ImageSet): ImageSetReport {
    const { name, generation, observedGeneration, file, spec } = set;
    return {
      name,
      generation,
      observedGeneration,
      ...(file === undefined ? {} : { file }),
      createdAt: timeOf(set.createdAt),
      updatedAt: timeOf(set.updatedAt),
      spec,
      conditions: [...set.conditions],
      images: set.members.map((member) => this.#memberOf(member)),
    };
  }

  #memberOf(member: Member): ImageSetMember {
    const { wanted, state } = member;
    const { found, checkedAt, nextAt, failures, error } = state;
    const imageId = found === undefined ? undefined : this.#sets.imageId(found);
    return {
      reference: wanted.name,
      ...(wanted.platformName === '' ? {} : { platform: wanted.platformName }),
      pullPolicy: wanted.policy,
      state: stateOf(member),
      ...(found === undefined ? {} : { digest: found.target }),
      ...(imageId === undefined ? {} : { imageId }),
      ...(checkedAt === undefined ? {} : { lastChecked: timeOf(checkedAt) }),
      ...(nextAt === undefined ? {} : { nextCheck: timeOf(nextAt) }),
      failures,
      ...(error === undefined ? {} : { error: { ...error } }),
    };
  }
}

const timeOf = (milliseconds: number): string => new Date(milliseconds).toISOString();

const missing = (name: string): LayerdError =>
  new LayerdError('not-found', `there is no image set ${name}: GET /layerd/sets lists those that there are`);
