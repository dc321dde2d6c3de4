import { canonicalName } from '../../protocol/reference.ts';
import type { Config } from '../config/config.ts';
import { Downloader, type BlobSource } from '../images/download.ts';
import { Fetcher } from '../images/fetch.ts';
import { Uploader, uploadKey, type UploadQueue, type UploadRequest } from '../images/upload.ts';
import { Unpacker } from '../layers/unpacker.ts';
import type { Log } from '../log.ts';
import type { DaemonMetrics, Direction } from '../metrics/daemon.ts';
import { createRegistries, type ReconfigurableRegistries } from '../registry/client.ts';
import type { Tracer } from '../tracing/tracer.ts';
import { Bandwidth } from '../transfers/bandwidth.ts';
import { Demands } from '../transfers/demand.ts';
import { TransferQueue, type TransferObserver, type TransferRequest } from '../transfers/queue.ts';
import { Limits } from '../transfers/limits.ts';
import { Transfers } from '../transfers/transfers.ts';
import { registryOptions, transferLimits } from './settings.ts';
import type { Stores } from './stores.ts';

/** Layers of archives that are unpacked at once. */
const LOADED_AT_ONCE = 2;

export interface MoversOptions {
  readonly config: Config;
  readonly version: string;
  readonly stores: Stores;
  readonly metrics: DaemonMetrics;
  readonly log: Log;
  readonly tracer: Tracer;
}

/** What moves content between registries and the stores: the clients of registries, the queues, and the threads that unpack. */
export class Movers {
  readonly registries: ReconfigurableRegistries;
  readonly downloads: TransferQueue<BlobSource>;
  readonly uploads: UploadQueue;
  readonly demands = new Demands();
  readonly steered: Transfers;
  readonly limits: Limits;
  readonly fetcher: Fetcher;
  /** Of pulls. */
  readonly unpacker: Unpacker;
  /** Of its own: a client that stops sending its archive halfway must not hold up any pull. */
  readonly loadUnpacker = new Unpacker({ concurrency: LOADED_AT_ONCE });
  readonly #version: string;
  #config: Config;

  constructor({ config, version, stores: { db, content, layers }, metrics, log, tracer }: MoversOptions) {
    this.#config = config;
    this.#version = version;
    this.registries = createRegistries(registryOptions(config, version), {
      logger: log,
      observe: ({ host, status }) => metrics.asked(host, status),
      tracer,
    });
    this.unpacker = new Unpacker({ concurrency: config.maxConcurrentDownloads });
    const bandwidth = { downloads: new Bandwidth([]), uploads: new Bandwidth([]) };
    const downloader = new Downloader({
      bandwidth: bandwidth.downloads,
      registries: this.registries,
      maxAttempts: () => this.#config.maxDownloadAttempts,
      logger: log,
    });
    this.fetcher = new Fetcher({ db, content, layers, unpacker: this.unpacker, downloader, logger: log });
    this.downloads = new TransferQueue<BlobSource>({
      concurrency: config.maxConcurrentDownloads,
      direction: 'download',
      isResumable: true,
      work: (request, source, control) => this.fetcher.fetch(request, source, control),
      repositoryOf: (_request, { repository }) => canonicalName(repository),
      observer: transferObserver(metrics, 'download', (_request, { repository }: BlobSource) => repository.registry),
      tracer,
    });
    const uploader = new Uploader({
      db,
      content,
      registries: this.registries,
      downloader,
      bandwidth: bandwidth.uploads,
      downloads: this.downloads,
    });
    this.uploads = new TransferQueue({
      direction: 'upload',
      concurrency: config.maxConcurrentUploads,
      repositoryOf: ({ repository }) => canonicalName(repository),
      work: (request, source, control) => uploader.upload(request, source, control),
      keyOf: uploadKey,
      observer: transferObserver(metrics, 'upload', ({ repository }: UploadRequest) => repository.registry),
      tracer,
    });
    this.limits = new Limits(transferLimits(config), (limits) => {
      this.downloads.concurrency = limits.downloads;
      this.uploads.concurrency = limits.uploads;
      this.unpacker.concurrency = limits.downloads.total;
      bandwidth.downloads.rules = limits.downloads.bandwidth;
      bandwidth.uploads.rules = limits.uploads.bandwidth;
    });
    this.steered = new Transfers({ queues: [this.downloads, this.uploads], demands: this.demands });
  }

  /** Takes another configuration on, for what is under way too. */
  set config(config: Config) {
    this.#config = config;
    this.limits.current = transferLimits(config);
    this.registries.reconfigure(registryOptions(config, this.#version));
  }

  /** Ends what moves by itself; what has arrived stays on the disk. */
  async interrupt(): Promise<void> {
    this.steered.close();
    await Promise.all([this.downloads.close(), this.uploads.close()]);
  }

  /** Ends the threads, once nobody unpacks any more. */
  async closeUnpackers(): Promise<void> {
    await Promise.all([this.unpacker.close(), this.loadUnpacker.close()]);
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
