import { isKind } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Lease, Leases } from '../content/leases.ts';
import type { NewEvent } from '../events/event.ts';
import type { Database } from '../metadata/database.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { Admission } from './admission.ts';
import { unusable } from './archive/archive.ts';
import { Contents } from './archive/contents.ts';
import { decompressed } from './archive/decompress.ts';
import { readEntries } from './archive/entries.ts';
import { Intake, type IntakeParts } from './archive/intake.ts';
import { putArrived, type ArrivedImage } from './arrival.ts';
import type { ProgressSink } from './progress.ts';
import type { ImageStore } from './store.ts';
import { UnderWay } from './under-way.ts';

/** What loading works with. */
export interface LoaderParts extends IntakeParts {
  readonly db: Database;
  readonly leases: Leases;
  readonly admission: Pick<Admission, 'admitArchive'>;
  readonly collector: GarbageCollector;
  readonly store: ImageStore;
  readonly events: { append(event: NewEvent): unknown };
  readonly host: Platform;
  readonly tracer: Tracer;
  /** Told after images were committed. */
  onCommit(): void;
}

/** An archive to be loaded. */
export interface LoadRequest {
  /** Its bytes. Leaving the iteration must not close what they come from, which is still to be answered. */
  readonly archive: AsyncIterable<Uint8Array>;
  /** Without the bars of layers. */
  readonly quiet: boolean;
  /** Only these platforms of each image; none for all. */
  readonly platforms: readonly Platform[];
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

/** Loads images from archives. {@link Member} tells the life of an archive. */
export class Loader {
  readonly #parts: LoaderParts;
  readonly #underWay = new UnderWay();

  constructor(parts: LoaderParts) {
    this.#parts = parts;
  }

  /** Resolves when all images of the archive are visible; when it rejects, nothing is. */
  load(request: LoadRequest, progress: ProgressSink): Promise<void> {
    return this.#underWay.track(this.#load(request, progress));
  }

  /** Waits until nothing is under way, once no bytes come any more. */
  close(): Promise<void> {
    return this.#underWay.ended();
  }

  async #load({ archive, quiet, platforms, signal }: LoadRequest, progress: ProgressSink): Promise<void> {
    const { leases, collector, host, content, layers, admission, tracer } = this.#parts;
    const lease = leases.acquire('load');
    try {
      const intake = new Intake(this.#parts, lease, quiet ? () => undefined : progress);
      await intake.takeAll(readEntries(decompressed(archive)));
      const contents = new Contents({ content, layers, intake, lease, host, platforms });
      const images = await contents.images();
      for (const { target } of images) await admission.admitArchive(contents.transport, 'load', target.digest);
      signal.throwIfAborted();
      const said = tracer.during('commit', {}, () => this.#commit(images, lease));
      for (const line of said) progress({ stream: `${line}\n` });
    } catch (error) {
      collector.collect(lease.release());
      // What breaks its own format is the client's to mend: the archive is what it sent.
      throw isKind(error, 'corrupt') ? unusable(error.message, error) : error;
    }
    this.#parts.onCommit();
  }

  /** Makes all images visible in one transaction, and lets go of what none of them needs; returns what is said of it. */
  #commit(images: readonly ArrivedImage[], lease: Lease): string[] {
    const { db, collector, store } = this.#parts;
    return db.transaction(() => {
      const said = images.flatMap((image) => this.#put(image));
      for (const { target, parent } of images) {
        if (parent !== undefined) store.setParent(store.resolve(target.digest).listedId, parent);
      }
      collector.collect(lease.release());
      return said;
    });
  }

  #put(image: ArrivedImage): string[] {
    const { id, names } = putArrived(this.#parts, image, 'load');
    if (names.length === 0) return [`Loaded image ID: ${id}`];
    return names.flatMap(({ name, from }) => [
      ...(from === undefined
        ? []
        : [`The image ${name} already exists, renaming the old one with ID ${from} to empty string`]),
      `Loaded image: ${name}`,
    ]);
  }
}
