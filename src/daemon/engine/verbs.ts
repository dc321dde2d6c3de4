import type { Digest } from '../../protocol/digest.ts';
import type { Platform } from '../../protocol/oci.ts';
import { Checksums } from '../content/checksum.ts';
import { unpackStored } from '../images/archive/intake.ts';
import { Admission, type AdmissionSettings } from '../images/admission.ts';
import { Attestor } from '../images/attestations.ts';
import { Copier } from '../images/copy.ts';
import { DetachedPulls } from '../images/detached.ts';
import { RemoteImages } from '../images/distribution.ts';
import { ImageGc } from '../images/gc/gc.ts';
import type { GcPolicy } from '../images/gc/policy.ts';
import { GcSchedule } from '../images/gc/schedule.ts';
import { Images } from '../images/images.ts';
import { Importer } from '../images/import.ts';
import { Loader } from '../images/load.ts';
import { Pruner } from '../images/prune.ts';
import { Publisher } from '../images/publish.ts';
import { Puller } from '../images/pull.ts';
import { Pusher } from '../images/push.ts';
import { ImageRemover } from '../images/remove.ts';
import { Repairer } from '../images/repair.ts';
import { Restorer } from '../images/restore.ts';
import { Saver } from '../images/save.ts';
import { Scrubber, type ScrubSettings } from '../images/scrub.ts';
import { Soundness } from '../images/soundness.ts';
import { Tagger } from '../images/tag.ts';
import { Verifier } from '../images/verify.ts';
import type { ContextLog } from '../log.ts';
import type { Disk } from '../metadata/disk.ts';
import type { DaemonMetrics } from '../metrics/daemon.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { Movers } from './movers.ts';
import type { Stores } from './stores.ts';

export interface VerbsOptions {
  readonly stores: Stores;
  readonly movers: Movers;
  readonly metrics: DaemonMetrics;
  readonly host: Platform;
  readonly log: ContextLog;
  readonly tracer: Tracer;
  readonly scrub: ScrubSettings;
  /** The disk of the data root. */
  readonly disk: () => Disk;
  readonly gcPolicy: GcPolicy;
  readonly admission: AdmissionSettings;
  /** Resolves once the store is in order after a start. */
  readonly settled: () => Promise<unknown>;
}

/** What can be done with images, on top of the stores and the movers. */
export class Verbs {
  readonly images: Images;
  readonly admission: Admission;
  readonly restorer: Restorer;
  readonly scrubber: Scrubber;
  readonly gc: GcSchedule;
  readonly detached: DetachedPulls;
  readonly #checksums: readonly Checksums[];
  readonly #loader: Loader;
  readonly #importer: Importer;

  constructor({
    stores,
    movers,
    metrics,
    host,
    log,
    tracer,
    disk,
    gcPolicy,
    scrub,
    admission: settings,
    settled,
  }: VerbsOptions) {
    const { db, events, content, layers, leases, collector, images: store, layout, sets } = stores;
    const { registries, downloads: transfers, uploads, demands, fetcher, loadUnpacker } = movers;
    const unpack = (blob: { digest: Digest; size: number }): Promise<void> =>
      unpackStored({ content, layers, unpacker: loadUnpacker }, blob);
    const restorer = new Restorer({ db, content, layers, transfers, demands, log, unpack });
    const repairer = new Repairer({ db, content, layers, transfers, demands, registries, unpack });
    // Each its own, so that nobody who asks waits for what is read slowly in the background.
    const [asked, background] = [new Checksums(), new Checksums()];
    const sound = (checksums: Checksums): Soundness => new Soundness({ db, content, layers, checksums });
    const scrubber = new Scrubber({
      db,
      store,
      soundness: sound(background),
      repairer,
      isBusy: () => transfers.counts.running + uploads.counts.running > 0,
      log,
      settings: scrub,
    });
    const onCommit = (): void => {
      layout.changed();
      restorer.syncLater();
      scrubber.recordLater();
      gc.check();
    };
    const remover = new ImageRemover({
      store,
      events,
      collect: (candidates) => {
        layout.changed();
        return collector.collect(candidates);
      },
      pins: sets,
    });
    const sweep = { store, remover, content, leases, collector };
    const imageGc = new ImageGc(
      {
        ...sweep,
        events,
        log,
        disk,
        holds: sets,
        observe: (outcome) => metrics.collected(outcome),
      },
      gcPolicy,
    );
    const gc = new GcSchedule(imageGc, log);
    const unpacker = loadUnpacker;
    const admission = new Admission({ registries, events, log }, settings);
    this.admission = admission;
    const intake = {
      db,
      admission,
      content,
      layers,
      unpacker,
      leases,
      collector,
      store,
      events,
      host,
      tracer,
      onCommit,
    };
    this.restorer = restorer;
    this.scrubber = scrubber;
    this.#checksums = [asked, background];
    this.gc = gc;
    this.#loader = new Loader(intake);
    this.#importer = new Importer({ ...intake, registries });
    this.images = new Images({
      usage: { store, content, layers, leases },
      store,
      puller: new Puller({
        db,
        content,
        layers,
        leases,
        collector,
        transfers,
        demands,
        fetcher,
        registries,
        admission,
        store,
        events,
        host,
        log,
        tracer,
        onCommit,
      }),
      pusher: new Pusher({ content, leases, collector, uploads, registries, store, demands, events, host, tracer }),
      remover,
      pruner: new Pruner({ ...sweep, holds: sets, events }),
      gc: imageGc,
      tagger: new Tagger({ store, events, onChange: () => layout.changed() }),
      saver: new Saver({ content, leases, collector, store, events }),
      loader: this.#loader,
      importer: this.#importer,
      attestor: new Attestor({ content, leases, collector, store, host }),
      remote: new RemoteImages(registries),
      copier: new Copier({ leases, collector, uploads, registries, demands, host }),
      publisher: new Publisher({ leases, collector, uploads, registries, demands }),
      verifier: new Verifier({ store, content, layers, soundness: sound(asked), repairer, events, settled }),
      registries,
      host,
      observe: (...operation) => metrics.operated(...operation),
      tracer,
    });
    this.detached = new DetachedPulls({
      db,
      events,
      demands,
      host,
      log,
      pull: (request) => this.images.pull({ ...request, all: false }, () => undefined),
    });
  }

  /** Waits for archives that are still being read, and ends the threads that verify. */
  async close(): Promise<void> {
    await Promise.all([this.#loader.close(), this.#importer.close(), this.scrubber.close()]);
    await Promise.all(this.#checksums.map((checksums) => checksums.close()));
  }
}
