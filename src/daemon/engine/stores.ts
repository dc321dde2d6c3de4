import { messageOf } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import { GarbageCollector, type Freed } from '../content/garbage.ts';
import { Leases } from '../content/leases.ts';
import { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import { EventLog, type EventLogLimits } from '../events/log.ts';
import { SetStore } from '../sets/store.ts';
import { LayoutIndex } from '../images/layout.ts';
import { ImageStore } from '../images/store.ts';
import { LayerStore } from '../layers/store.ts';
import type { Log } from '../log.ts';
import { hasRebooted } from '../metadata/boot.ts';
import type { Database } from '../metadata/database.ts';

export interface StoresOptions {
  readonly db: Database;
  readonly dataRoot: string;
  readonly host: Platform;
  readonly log: Log;
  readonly eventLimits: EventLogLimits;
  /** Is told of each event once it is in the log. */
  readonly onEvent: (event: NewEvent) => void;
  readonly onFreed: (freed: Freed) => void;
}

/** What the daemon keeps on the disk: blobs, layers, images and the log of events, in one database and one data root. */
export class Stores {
  readonly db: Database;
  readonly events: EventLog;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly images: ImageStore;
  readonly layout: LayoutIndex;
  readonly sets: SetStore;
  readonly #log: Log;

  constructor({ db, dataRoot, host, log, eventLimits, onEvent, onFreed }: StoresOptions) {
    this.db = db;
    this.#log = log;
    this.events = new EventLog({ db, limits: eventLimits, rebooted: hasRebooted(db), onAppend: onEvent });
    this.content = new ContentStore({ db, root: dataRoot, events: this.events });
    this.layers = new LayerStore({ db, root: dataRoot, events: this.events });
    // It writes where a pull was under way when the daemon died, which may be because the disk is full.
    this.leases = db.essential(() => new Leases({ db }));
    this.collector = new GarbageCollector({
      db,
      content: this.content,
      removeLayers: (diffIds) => this.layers.remove(diffIds),
      onFreed,
    });
    this.images = new ImageStore({
      db,
      host,
      readBlob: (digest) => this.content.read(digest),
      layerPath: (diffId) => this.layers.path(diffId),
    });
    this.sets = new SetStore({ images: this.images, events: this.events, host });
    this.layout = new LayoutIndex({
      db,
      root: dataRoot,
      onError: (error) => log.error(`cannot write index.json: ${messageOf(error)}`),
    });
  }

  /** Brings the disk and the metadata together: what a crash left over goes, and what is missing is named. */
  async sweep(): Promise<void> {
    const missing = await this.content.sweep((digest) => this.leases.holds(digest));
    for (const digest of missing) this.#log.error('a stored blob is missing from the disk', { digest });
    await this.layers.sweep();
    this.collect();
    this.layout.changed();
  }

  /** Frees what has expired and what nothing holds. */
  collect(): void {
    const { blobs, layers } = this.db.essential(() => {
      this.leases.expire();
      // By age, where nothing happens by which the log would be pruned.
      this.events.prune();
      return this.collector.collectAll();
    });
    this.content.sweepIngests((digest) => this.leases.holds(digest));
    if (blobs.length > 0) this.#log.info('collected garbage', { blobs: blobs.length, layers: layers.length });
  }
}
