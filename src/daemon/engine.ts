import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { RegistryReport } from '../protocol/engine.ts';
import { messageOf } from '../protocol/errors.ts';
import { canonicalName } from '../protocol/reference.ts';
import type { Handler } from './api/listeners.ts';
import { createHandler } from './api/server.ts';
import { SystemInfo } from './api/system-info.ts';
import { readBuild } from './build.ts';
import { tlsFiles, type Config } from './config/config.ts';
import { formatHost } from './config/host.ts';
import { GarbageCollector } from './content/garbage.ts';
import { Leases } from './content/leases.ts';
import { ContentStore } from './content/store.ts';
import { EventLog, type EventLogLimits } from './events/log.ts';
import {
  check,
  databaseReads,
  databaseWrites,
  dataRootWrites,
  eventLoopTurns,
  ping,
  reserveHolds,
} from './health/checks.ts';
import { EventLoopDelay } from './health/event-loop.ts';
import { Health } from './health/health.ts';
import { Attestor } from './images/attestations.ts';
import { Copier } from './images/copy.ts';
import { RemoteImages } from './images/distribution.ts';
import { Downloader, type BlobSource } from './images/download.ts';
import { Fetcher } from './images/fetch.ts';
import { Images } from './images/images.ts';
import { Importer } from './images/import.ts';
import { unpackStored } from './images/archive/intake.ts';
import { LayoutIndex } from './images/layout.ts';
import { Loader } from './images/load.ts';
import { hostPlatform } from './images/platform.ts';
import { Pruner } from './images/prune.ts';
import { Publisher } from './images/publish.ts';
import { Puller } from './images/pull.ts';
import { Pusher } from './images/push.ts';
import { ImageRemover } from './images/remove.ts';
import { Restorer } from './images/restore.ts';
import { Saver } from './images/save.ts';
import { ImageStore } from './images/store.ts';
import { Tagger } from './images/tag.ts';
import { Uploader, uploadKey, type UploadQueue, type UploadRequest } from './images/upload.ts';
import { kernelSupport, type KernelSupport } from './layers/mount.ts';
import { LayerStore } from './layers/store.ts';
import { Unpacker } from './layers/unpacker.ts';
import type { ContextLog, Log } from './log.ts';
import type { Database } from './metadata/database.ts';
import { createRegistries, type ReconfigurableRegistries } from './registry/client.ts';
import { DaemonMetrics, type Direction } from './metrics/daemon.ts';
import type { Reserve } from './metadata/reserve.ts';
import type { RegistryOptions } from './registry/registry.ts';
import { Bandwidth } from './transfers/bandwidth.ts';
import { Demands } from './transfers/demand.ts';
import { TransferQueue, type TransferObserver, type TransferRequest } from './transfers/queue.ts';
import { Transfers } from './transfers/transfers.ts';

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** Layers of archives that are unpacked at once. */
const LOADED_AT_ONCE = 2;

/** Leases that have expired are looked for this often, in milliseconds. */
const COLLECTION_INTERVAL = 60 * 60 * 1000;

export interface EngineOptions {
  readonly config: Config;
  readonly db: Database;
  readonly reserve: Pick<Reserve, 'shortage'>;
  readonly dataRoot: string;
  readonly version: string;
  readonly log: ContextLog;
}

/** Everything behind the socket: the parts that store and move images, wired together, and the API on top of them. */
export class Engine {
  readonly handler: Handler;
  readonly health: { readonly livez: Health; readonly readyz: Health };
  readonly #log: Log;
  readonly #db: Database;
  readonly #version: string;
  readonly #id: string;
  readonly #events: EventLog;
  readonly #transfers: TransferQueue<BlobSource>;
  readonly #uploads: UploadQueue;
  readonly #bandwidth: { readonly download: Bandwidth; readonly upload: Bandwidth };
  readonly #steered: Transfers;
  readonly #registries: ReconfigurableRegistries;
  readonly #unpacker: Unpacker;
  readonly #loadUnpacker: Unpacker;
  readonly #loader: Loader;
  readonly #importer: Importer;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #leases: Leases;
  readonly #collector: GarbageCollector;
  readonly #restorer: Restorer;
  readonly #store: ImageStore;
  readonly #layout: LayoutIndex;
  readonly #timer: NodeJS.Timeout;
  #config: Config;
  readonly #eventLoop: EventLoopDelay;
  #reconciling: Promise<void> = Promise.resolve();
  /** Why the store is not in order. */
  #disorder: string | undefined = 'the start has not come to it yet';

  constructor({ config, db, reserve, dataRoot, version, log }: EngineOptions) {
    this.#config = config;
    this.#log = log;
    this.#db = db;
    this.#version = version;
    const build = readBuild();
    const host = hostPlatform();
    const metrics: DaemonMetrics = new DaemonMetrics({
      build: { version, commit: build.commit, node_version: process.versions.node },
      transfers: (direction) => (direction === 'download' ? transfers : uploads).counts,
      events: () => ({ subscribers: events.subscribers, lag: events.lag, end: events.end }),
      stored: () => {
        const [blob, layer] = [content.totals(), layers.totals()];
        const bytes = { blobBytes: blob.bytes, layerBytes: layer.bytes };
        return { images: store.count(), blobs: blob.count, layers: layer.count, ...bytes };
      },
    });
    const events = new EventLog({ db, limits: eventLimits(config), onAppend: ({ type }) => metrics.appended(type) });
    const content = new ContentStore({ db, root: dataRoot });
    const layers = new LayerStore({ db, root: dataRoot, events });
    // It writes where a pull was under way when the daemon died, which may be because the disk is full.
    const leases = db.essential(() => new Leases({ db }));
    const collector = new GarbageCollector({
      db,
      content,
      removeLayers: (diffIds) => layers.remove(diffIds),
      onFreed: (freed) => metrics.freed(freed),
    });
    const store = new ImageStore({
      db,
      host,
      readBlob: (digest) => content.read(digest),
      layerPath: (diffId) => layers.path(diffId),
    });
    const registries = createRegistries(registryOptions(config, version), {
      logger: log,
      observe: ({ host, status }) => metrics.asked(host, status),
    });
    const unpacker = new Unpacker({ concurrency: config.maxConcurrentDownloads });
    // Of its own: a client that stops sending its archive halfway must not hold up any pull.
    const loadUnpacker = new Unpacker({ concurrency: LOADED_AT_ONCE });
    const bandwidth = {
      download: new Bandwidth(config.downloadBandwidth),
      upload: new Bandwidth(config.uploadBandwidth),
    };
    const downloader = new Downloader({
      bandwidth: bandwidth.download,
      registries,
      maxAttempts: () => this.#config.maxDownloadAttempts,
      logger: log,
    });
    const fetcher = new Fetcher({ db, content, layers, unpacker, downloader, logger: log });
    const transfers = new TransferQueue<BlobSource>({
      concurrency: config.maxConcurrentDownloads,
      direction: 'download',
      work: (request, source, control) => fetcher.fetch(request, source, control),
      repositoryOf: (_request, { repository }) => canonicalName(repository),
      observer: transferObserver(metrics, 'download', (_request, { repository }: BlobSource) => repository.registry),
    });
    const uploader = new Uploader({
      db,
      content,
      registries,
      downloader,
      bandwidth: bandwidth.upload,
      downloads: transfers,
    });
    const uploads: UploadQueue = new TransferQueue({
      direction: 'upload',
      concurrency: config.maxConcurrentUploads,
      repositoryOf: ({ repository }) => canonicalName(repository),
      work: (request, source, control) => uploader.upload(request, source, control),
      keyOf: uploadKey,
      observer: transferObserver(metrics, 'upload', ({ repository }: UploadRequest) => repository.registry),
    });
    const demands = new Demands();
    const steered = new Transfers({ queues: [transfers, uploads], demands });
    const layout = new LayoutIndex({
      db,
      root: dataRoot,
      onError: (error) => log.error(`cannot write index.json: ${messageOf(error)}`),
    });
    const restorer = new Restorer({
      db,
      content,
      layers,
      transfers,
      demands,
      log,
      unpack: (blob) => unpackStored({ content, layers, unpacker: loadUnpacker }, blob),
    });
    const onCommit = (): void => {
      layout.changed();
      restorer.syncLater();
    };
    const puller = new Puller({
      db,
      content,
      layers,
      leases,
      collector,
      transfers,
      demands,
      fetcher,
      registries,
      store,
      events,
      host,
      log,
      onCommit,
    });
    const remover = new ImageRemover({
      store,
      events,
      collect: (candidates) => {
        layout.changed();
        return collector.collect(candidates);
      },
    });
    const pruner = new Pruner({ store, remover, content, leases, collector, events });
    const pusher = new Pusher({ content, leases, collector, uploads, registries, store, demands, events, host });
    const tagger = new Tagger({ store, events, onChange: () => layout.changed() });
    const saver = new Saver({ content, leases, collector, store, events });
    const intake = { db, content, layers, unpacker: loadUnpacker, leases, collector, store, events, host, onCommit };
    const loader = new Loader(intake);
    const importer = new Importer({ ...intake, registries });
    const attestor = new Attestor({ content, leases, collector, store, host });
    const remote = new RemoteImages(registries);
    const copier = new Copier({ leases, collector, uploads, registries, demands, host });
    const publisher = new Publisher({ leases, collector, uploads, registries, demands });
    this.#events = events;
    this.#content = content;
    this.#layers = layers;
    this.#leases = leases;
    this.#collector = collector;
    this.#restorer = restorer;
    this.#registries = registries;
    this.#unpacker = unpacker;
    this.#loadUnpacker = loadUnpacker;
    this.#loader = loader;
    this.#importer = importer;
    this.#transfers = transfers;
    this.#uploads = uploads;
    this.#bandwidth = bandwidth;
    this.#steered = steered;
    this.#store = store;
    this.#layout = layout;
    const id = storeId(db);
    this.#id = id;
    this.#eventLoop = new EventLoopDelay((seconds) => metrics.delayed(seconds));
    const turns = eventLoopTurns(this.#eventLoop);
    this.health = {
      livez: new Health([ping, turns, databaseReads(db)]),
      readyz: new Health([
        ping,
        turns,
        databaseWrites(db),
        dataRootWrites(dataRoot),
        reserveHolds(reserve),
        check('reconciliation', () => {
          if (this.#disorder !== undefined) throw new Error(this.#disorder);
        }),
        // Told alone: images are stored, pushed and saved without.
        check('layer-mounts', async () => mountsOf(await kernelSupport())),
      ]),
    };
    this.handler = createHandler({
      version,
      log,
      health: this.health,
      metrics,
      images: new Images({
        usage: { store, content, layers, leases },
        store,
        puller,
        pusher,
        remover,
        pruner,
        tagger,
        saver,
        loader,
        importer,
        attestor,
        remote,
        copier,
        publisher,
        registries,
        host,
        observe: (...operation) => metrics.operated(...operation),
      }),
      transfers: steered,
      events,
      storeId: id,
      registries: {
        reports: () => this.#registryReports(),
        logIn: (registry, options) => registries.logIn(registry, options),
      },
      hostNames: config.hosts.flatMap((address) => (address.kind === 'tcp' ? [address.host] : [])),
      system: new SystemInfo({
        version,
        gitCommit: build.commit,
        buildTime: build.time,
        id,
        dataRoot,
        config: () => systemConfig(this.#config),
        images: () => store.count(),
        eventSubscribers: () => events.subscribers,
        storeStatus: async () => [
          ['Layer Decompression', unpacker.inflater],
          ['Layer Mounts', mountsOf(await kernelSupport())],
        ],
        warnings: () => openListeners(config),
      }),
    });
    this.#timer = setInterval(() => this.#collect(), COLLECTION_INTERVAL).unref();
  }

  /**
   * Brings the disk and the metadata together after a start, in the background: what a crash left over goes, what is
   * missing is named and made again where it can be.
   */
  reconcile(): void {
    this.#tell('start');
    this.#disorder = 'the disk and the metadata are being brought together after the start';
    this.#reconciling = this.#reconcile().then(
      () => {
        this.#disorder = undefined;
      },
      (error: unknown) => {
        this.#disorder = `the store could not be brought in order: ${messageOf(error)}`;
        this.#log.error(this.#disorder);
      },
    );
  }

  reload(config: Config): void {
    this.#config = config;
    this.#transfers.concurrency = config.maxConcurrentDownloads;
    this.#uploads.concurrency = config.maxConcurrentUploads;
    this.#bandwidth.download.rules = config.downloadBandwidth;
    this.#bandwidth.upload.rules = config.uploadBandwidth;
    this.#events.limits = eventLimits(config);
    this.#unpacker.concurrency = config.maxConcurrentDownloads;
    this.#registries.reconfigure(registryOptions(config, this.#version));
    this.#tell('reload');
  }

  /** Ends what would go on by itself, so that the requests that wait for it end: event streams, transfers. */
  async interrupt(): Promise<void> {
    clearInterval(this.#timer);
    this.#restorer.stop();
    this.#tell('stop');
    this.#events.close();
    this.#steered.close();
    await Promise.all([this.#transfers.close(), this.#uploads.close()]);
  }

  /** Lets go of everything, once no request is under way any more. */
  async close(): Promise<void> {
    this.#eventLoop[Symbol.dispose]();
    await this.#reconciling;
    await Promise.all([this.#unpacker.close(), this.#loadUnpacker.close()]);
    await Promise.all([this.#loader.close(), this.#importer.close()]);
    await this.#registries.close();
    await this.#layout.close();
  }

  /** Tells of the daemon itself. On a full disk it starts and stops all the same. */
  #tell(action: 'start' | 'reload' | 'stop'): void {
    const attributes = { name: hostname(), version: this.#version };
    try {
      this.#events.append({ type: 'daemon', action, actor: this.#id, attributes });
    } catch (error) {
      this.#log.warn(`the ${action} of the daemon could not be logged as an event: ${messageOf(error)}`);
    }
  }

  async #reconcile(): Promise<void> {
    const missing = await this.#content.sweep((digest) => this.#leases.holds(digest));
    for (const digest of missing) this.#log.error('a stored blob is missing from the disk', { digest });
    await this.#layers.sweep();
    this.#collect();
    this.#layout.changed();
    await this.#restorer.restore();
    // What was listed meanwhile was listed without the layers that have been restored.
    this.#store.changed();
  }

  #collect(): void {
    const { blobs, layers } = this.#db.essential(() => {
      this.#leases.expire();
      // By age, where nothing happens by which the log would be pruned.
      this.#events.prune();
      return this.#collector.collectAll();
    });
    this.#content.sweepIngests((digest) => this.#leases.holds(digest));
    if (blobs.length > 0) this.#log.info('collected garbage', { blobs: blobs.length, layers: layers.length });
  }

  #registryReports(): RegistryReport[] {
    return [...this.#registries.rateLimits()].map(([registry, { at, ...rateLimit }]) => ({
      registry,
      rateLimit: { ...rateLimit, at: new Date(at).toISOString() },
    }));
  }
}

/** Has the metrics told of transfers, by the registry that the work is with. */
function transferObserver<Source, Request extends TransferRequest>(
  metrics: DaemonMetrics,
  direction: Direction,
  registryOf: (request: Request, source: Source) => string,
): TransferObserver<Source, Request> {
  return {
    moved: (request, source, bytes) => metrics.moved(direction, registryOf(request, source), bytes),
    ended: (request, source, result, seconds) =>
      metrics.transferred(direction, registryOf(request, source), result, seconds),
  };
}

/** How layers can be mounted on this host, in words. */
function mountsOf({ erofs, fileBacked, loop, overlay }: KernelSupport): string {
  if (!erofs || !overlay) return `not possible: the kernel lacks ${erofs ? 'overlayfs' : 'EROFS'}`;
  if (fileBacked) return 'file-backed';
  return loop ? 'loop devices' : 'not possible: the kernel lacks loop devices';
}

/** Warns of listeners through which anybody who reaches them is root. */
function openListeners(config: Config): string[] {
  if (tlsFiles(config) !== undefined) return [];
  return config.hosts.flatMap((host) =>
    host.kind === 'tcp'
      ? [
          `WARNING: API is accessible on ${formatHost(host)} without encryption; whoever reaches it is as powerful as root here`,
        ]
      : [],
  );
}

/** What identifies the store, made once. */
function storeId(db: Database): string {
  db.run(`INSERT OR IGNORE INTO fact (key, value) VALUES ('store id', ?)`, randomUUID());
  return db.get<{ value: string }>(`SELECT value FROM fact WHERE key = 'store id'`)?.value ?? '';
}

function eventLimits({ eventsMaxAge, eventsMaxCount, eventsMaxSize }: Config): EventLogLimits {
  return { age: BigInt(eventsMaxAge) * NANOSECONDS_PER_MILLISECOND, events: eventsMaxCount, bytes: eventsMaxSize };
}

function systemConfig(config: Config) {
  const { debug, insecureRegistries, registryMirrors } = config;
  return { debug, insecureRegistries, mirrors: registryMirrors, proxies: proxiesOf(config) };
}

function proxiesOf({ httpProxy, httpsProxy, noProxy }: Config): RegistryOptions['proxies'] {
  return {
    ...(httpProxy === undefined ? {} : { http: httpProxy }),
    ...(httpsProxy === undefined ? {} : { https: httpsProxy }),
    ...(noProxy === undefined ? {} : { no: noProxy }),
  };
}

function registryOptions(config: Config, version: string): RegistryOptions {
  return {
    insecureRegistries: config.insecureRegistries,
    mirrors: config.registryMirrors,
    certsDirs: config.certsDirs,
    maxAttempts: config.maxDownloadAttempts,
    proxies: proxiesOf(config),
    userAgent: `layerd/${version} (linux)`,
  };
}
