import type {
  DeleteItem,
  DistributionInspect,
  GcReport,
  ImageInspect,
  LayerReport,
  PruneReport,
  PublishedManifest,
  ReferrerReport,
  SearchResult,
} from '../../protocol/engine.ts';
import { isKind, LayerdError, type ErrorKind } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Credentials, Registries, RemoteManifest, RequestOptions } from '../registry/registry.ts';
import type { AttestationRequest, Attestations, Attestor } from './attestations.ts';
import type { Copier, CopyRequest } from './copy.ts';
import type { RemoteImages } from './distribution.ts';
import type { Filters } from './filters.ts';
import type { GcRequest, ImageGc } from './gc/gc.ts';
import { imageHistory, type HistoryStep } from './history.ts';
import { inspectImage } from './inspect.ts';
import { layerReports } from './layer-report.ts';
import { listImages, type ListedSummary, type ListOptions } from './list.ts';
import { attestedDigests } from './manifest-summary.ts';
import { parsePlatform } from './platform.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { Importer, ImportRequest } from './import.ts';
import type { Loader, LoadRequest } from './load.ts';
import type { ProgressSink } from './progress.ts';
import type { Pruner } from './prune.ts';
import type { Publisher, PublishRequest } from './publish.ts';
import type { Puller } from './pull.ts';
import type { Pusher, PushRequest } from './push.ts';
import type { Reference } from '../../protocol/reference.ts';
import { imageReferrers, type ReferrersRequest } from './referrers.ts';
import type { Attested, ImageRemover } from './remove.ts';
import type { Saver } from './save.ts';
import { searchImages, type SearchRequest } from './search.ts';
import type { ImageStore } from './store.ts';
import type { Tagger } from './tag.ts';
import { diskUsage, type Usage, type UsageParts } from './usage.ts';

/** Is told of each operation that moves or removes images when it ends: `ok`, or the kind of error, and after how long. */
export type ObserveOperation = (operation: string, result: 'ok' | ErrorKind, seconds: number) => void;

/** The verbs of images, taking names and platforms as users write them. */
export class Images {
  readonly #store: ImageStore;
  readonly #puller: Puller;
  readonly #pusher: Pusher;
  readonly #remover: ImageRemover;
  readonly #pruner: Pruner;
  readonly #gc: ImageGc;
  readonly #tagger: Tagger;
  readonly #saver: Saver;
  readonly #loader: Loader;
  readonly #importer: Importer;
  readonly #attestor: Attestor;
  readonly #usage: UsageParts;
  readonly #remote: RemoteImages;
  readonly #registries: Registries;
  readonly #copier: Copier;
  readonly #publisher: Publisher;
  readonly #host: Platform;
  readonly #observe: ObserveOperation;

  constructor(parts: {
    store: ImageStore;
    puller: Puller;
    pusher: Pusher;
    remover: ImageRemover;
    pruner: Pruner;
    gc: ImageGc;
    tagger: Tagger;
    saver: Saver;
    loader: Loader;
    importer: Importer;
    attestor: Attestor;
    usage: UsageParts;
    remote: RemoteImages;
    registries: Registries;
    copier: Copier;
    publisher: Publisher;
    host: Platform;
    observe: ObserveOperation;
  }) {
    this.#store = parts.store;
    this.#puller = parts.puller;
    this.#pusher = parts.pusher;
    this.#remover = parts.remover;
    this.#pruner = parts.pruner;
    this.#gc = parts.gc;
    this.#tagger = parts.tagger;
    this.#saver = parts.saver;
    this.#loader = parts.loader;
    this.#importer = parts.importer;
    this.#attestor = parts.attestor;
    this.#usage = parts.usage;
    this.#remote = parts.remote;
    this.#registries = parts.registries;
    this.#copier = parts.copier;
    this.#publisher = parts.publisher;
    this.#host = parts.host;
    this.#observe = parts.observe;
  }

  list(options: ListOptions): Promise<ListedSummary[]> {
    return listImages(this.#store, options);
  }

  inspect(name: string, options: { platform?: Platform | undefined; manifests?: boolean }): Promise<ImageInspect> {
    return inspectImage(this.#store, name, options);
  }

  history(name: string, options: { platform?: Platform | undefined }): Promise<HistoryStep[]> {
    return imageHistory(this.#store, name, options);
  }

  async remove(
    name: string,
    options: { force: boolean; noPrune: boolean; platforms: readonly Platform[] },
  ): Promise<DeleteItem[]> {
    return this.#observed('remove', async () =>
      this.#remover.remove(name, { ...options, attested: await this.#attested(name, options) }),
    );
  }

  prune(filters: Filters, signal: AbortSignal): Promise<PruneReport> {
    return this.#observed('prune', () => this.#pruner.prune(filters, signal));
  }

  collect(request: GcRequest): Promise<GcReport> {
    return this.#gc.collect(request);
  }

  usage(options: { items: boolean }): Promise<Usage> {
    return diskUsage(this.#usage, options);
  }

  tag(name: string, reference: Reference): void {
    this.#tagger.tag(name, reference);
  }

  layers(name: string): LayerReport[] {
    return layerReports(this.#store, name);
  }

  attestations(name: string, request: AttestationRequest): Promise<Attestations> {
    return this.#attestor.find(name, request);
  }

  /** What refers to the image, as its registry says. */
  referrers(name: string, request: ReferrersRequest): Promise<ReferrerReport> {
    return imageReferrers(this.#store, this.#registries, name, request);
  }

  search(request: SearchRequest): Promise<SearchResult[]> {
    return searchImages(this.#registries, request);
  }

  pull(
    request: {
      readonly reference: Reference;
      readonly all: boolean;
      readonly allPlatforms: boolean;
      readonly platform: string | undefined;
      readonly credentials: Credentials | undefined;
      readonly client: string;
      readonly priority: number | undefined;
      readonly signal: AbortSignal;
    },
    progress: ProgressSink,
  ): Promise<void> {
    return this.#observed('pull', () =>
      this.#puller.pull(
        {
          reference: request.reference,
          allTags: request.all,
          allPlatforms: request.allPlatforms,
          platform: this.#platform(request.platform),
          credentials: request.credentials,
          client: request.client,
          priority: request.priority,
          signal: request.signal,
        },
        progress,
      ),
    );
  }

  push(request: PushRequest, progress: ProgressSink): Promise<void> {
    return this.#observed('push', () => this.#pusher.push(request, progress));
  }

  save(names: readonly string[], options: { platforms: readonly Platform[] }): Promise<AsyncGenerator<Uint8Array>> {
    return this.#saver.save(names, options.platforms);
  }

  load(request: LoadRequest, progress: ProgressSink): Promise<void> {
    return this.#observed('load', () => this.#loader.load(request, progress));
  }

  import(
    request: Omit<ImportRequest, 'platform'> & { readonly platform: string | undefined },
    progress: ProgressSink,
  ): Promise<Digest> {
    return this.#observed('import', () =>
      this.#importer.import({ ...request, platform: this.#platform(request.platform) }, progress),
    );
  }

  distribution(reference: Reference, options: RequestOptions): Promise<DistributionInspect> {
    return this.#remote.inspect(reference, options);
  }

  copy(request: CopyRequest, progress: ProgressSink): Promise<void> {
    return this.#observed('copy', () => this.#copier.copy(request, progress));
  }

  publish(request: PublishRequest): Promise<PublishedManifest> {
    return this.#observed('publish', () => this.#publisher.publish(request));
  }

  /** The manifest or index that a reference names in its registry, as it is served there. */
  remoteManifest(reference: Reference, options: RequestOptions): Promise<RemoteManifest> {
    return this.#remote.manifest(reference, options);
  }

  async #observed<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    let result: 'ok' | ErrorKind = 'ok';
    try {
      return await work();
    } catch (error) {
      result = error instanceof LayerdError ? error.kind : 'internal';
      throw error;
    } finally {
      this.#observe(operation, result, (performance.now() - began) / 1000);
    }
  }

  #platform(specifier: string | undefined): Platform | undefined {
    return specifier === undefined ? undefined : parsePlatform(specifier, this.#host);
  }

  /** What attestations are about, where only a part of an image may be to be removed. */
  async #attested(name: string, { platforms }: { platforms: readonly Platform[] }): Promise<Attested> {
    const { byId, target, listedId } = this.#store.resolve(name);
    if (platforms.length === 0 && !byId) return new Map();
    try {
      return await attestedDigests(this.#store, new Set([target, ...this.#store.targets(listedId)]));
    } catch (error) {
      // An image whose index is damaged can be removed all the same.
      if (isKind(error, 'corrupt')) return new Map();
      throw error;
    }
  }
}
