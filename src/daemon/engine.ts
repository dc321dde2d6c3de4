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
import { Uploader, uploadKey, type UploadQueue } from './images/upload.ts';
import { kernelSupport, type KernelSupport } from './layers/mount.ts';
import { LayerStore } from './layers/store.ts';
import { Unpacker } from './layers/unpacker.ts';
import type { Log } from './log.ts';
import type { Database } from './metadata/database.ts';
import { createRegistries, type ReconfigurableRegistries } from './registry/client.ts';
import type { RegistryOptions } from './registry/registry.ts';
import { Bandwidth } from './transfers/bandwidth.ts';
import { Demands } from './transfers/demand.ts';
import { TransferQueue } from './transfers/queue.ts';
import { Transfers } from './transfers/transfers.ts';

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** Layers of archives that are unpacked at once. */
const LOADED_AT_ONCE = 2;

/** Leases that have expired are looked for this often, in milliseconds. */
const COLLECTION_INTERVAL = 60 * 60 * 1000;

export interface EngineOptions {
  readonly config: Config;
  readonly db: Database;
  readonly dataRoot: string;
  readonly version: string;
  readonly log: Log;
}

/** Everything behind the socket: the parts that store and move images, wired together, and the API on top of them. */
export class Engine {
  readonly handler: Handler;
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
  #reconciling: Promise<void> = Promise.resolve();

  constructor({ config, db, dataRoot, version, log }: EngineOptions) {
    this.#config = config;
    this.#log = log;
    this.#db = db;
    this.#version = version;
    const build = readBuild();
    const host = hostPlatform();
    const events = new EventLog({ db, limits: eventLimits(config) });
    const content = new ContentStore({ db, root: dataRoot });
    const layers = new LayerStore({ db, root: dataRoot, events });
    // It writes where a pull was under way when the daemon died, which may be because the disk is full.
    const leases = db.essential(() => new Leases({ db }));
    const collector = new GarbageCollector({ db, content, removeLayers: (diffIds) => layers.remove(diffIds) });
    const store = new ImageStore({
      db,
      host,
      readBlob: (digest) => content.read(digest),
      layerPath: (diffId) => layers.path(diffId),
    });
    const registries = createRegistries(registryOptions(config, version), { logger: log });
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
    this.handler = createHandler({
      version,
      log,
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
    this.#reconciling = this.#reconcile().catch((error: unknown) => {
      this.#log.error(`the store could not be brought in order: ${messageOf(error)}`);
    });
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
    certsDirs: ['/etc/docker/certs.d', '/etc/layerd/certs.d'],
    maxAttempts: config.maxDownloadAttempts,
    proxies: proxiesOf(config),
    userAgent: `layerd/${version} (linux)`,
  };
}
