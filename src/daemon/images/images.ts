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
  VerifyReport,
} from '../../protocol/engine.ts';
import { isKind, LayerdError, type ErrorKind } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Demand } from '../transfers/demand.ts';
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
import { formatPlatform, parsePlatform } from './platform.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { Importer, ImportRequest } from './import.ts';
import type { Loader, LoadRequest } from './load.ts';
import type { ProgressSink } from './progress.ts';
import type { Pruner } from './prune.ts';
import type { Publisher, PublishRequest } from './publish.ts';
import type { Puller, PullRequest, Survey } from './pull.ts';
import type { Pusher, PushRequest } from './push.ts';
import { familiarString, type Reference } from '../../protocol/reference.ts';
import type { Attributes, Span, Tracer } from '../tracing/tracer.ts';
import { imageReferrers, type ReferrersRequest } from './referrers.ts';
import type { Attested, ImageRemover } from './remove.ts';
import type { Saver } from './save.ts';
import { searchImages, type SearchRequest } from './search.ts';
import type { ImageStore } from './store.ts';
import type { Tagger } from './tag.ts';
import type { Verifier, VerifyRequest } from './verify.ts';
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
  readonly #verifier: Verifier;
  readonly #host: Platform;
  readonly #observe: ObserveOperation;
  readonly #tracer: Tracer;

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
    verifier: Verifier;
    host: Platform;
    observe: ObserveOperation;
    tracer: Tracer;
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
    this.#verifier = parts.verifier;
    this.#host = parts.host;
    this.#observe = parts.observe;
    this.#tracer = parts.tracer;
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
    const attributes = { 'layerd.image': name, 'layerd.platform': options.platforms.map(formatPlatform) };
    return this.#observed('remove', attributes, async () =>
      this.#remover.remove(name, { ...options, attested: await this.#attested(name, options) }),
    );
  }

  prune(filters: Filters, signal: AbortSignal): Promise<PruneReport> {
    return this.#observed('prune', {}, () => this.#pruner.prune(filters, signal));
  }

  collect(request: GcRequest): Promise<GcReport> {
    return this.#gc.collect(request);
  }

  usage(options: { items: boolean }): Promise<Usage> {
    return diskUsage(this.#usage, options);
  }

  tag(name: string, reference: Reference): void {
    const attributes = { 'layerd.image': name, 'layerd.reference': familiarString(reference) };
    this.#tracer.during('tag', attributes, () => this.#tagger.tag(name, reference));
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
      readonly demand?: Demand | undefined;
      readonly signal: AbortSignal;
    },
    progress: ProgressSink,
  ): Promise<void> {
    return this.#observed('pull', attributesOf(request), () =>
      this.#puller.pull(
        {
          reference: request.reference,
          allTags: request.all,
          allPlatforms: request.allPlatforms,
          platform: this.#platform(request.platform),
          credentials: request.credentials,
          client: request.client,
          priority: request.priority,
          demand: request.demand,
          signal: request.signal,
        },
        progress,
      ),
    );
  }

  /** What a pull would have to do; the same pull goes on from there. */
  survey(request: PullRequest): Promise<Survey> {
    return this.#puller.survey(request);
  }

  push(request: PushRequest, progress: ProgressSink): Promise<void> {
    const platform = request.platform && formatPlatform(request.platform);
    return this.#observed('push', attributesOf({ ...request, platform }), () => this.#pusher.push(request, progress));
  }

  async save(
    names: readonly string[],
    options: { platforms: readonly Platform[] },
  ): Promise<AsyncGenerator<Uint8Array>> {
    const attributes = { 'layerd.image': names, 'layerd.platform': options.platforms.map(formatPlatform) };
    const span = this.#tracer.begin('save', { attributes });
    try {
      return endingWith(span, await span.within(() => this.#saver.save(names, options.platforms)));
    } catch (error) {
      span.fail(error);
      span.end();
      throw error;
    }
  }

  load(request: LoadRequest, progress: ProgressSink): Promise<void> {
    return this.#observed('load', { 'layerd.platform': request.platforms.map(formatPlatform) }, () =>
      this.#loader.load(request, progress),
    );
  }

  import(
    request: Omit<ImportRequest, 'platform'> & { readonly platform: string | undefined },
    progress: ProgressSink,
  ): Promise<Digest> {
    const { name, platform } = request;
    const attributes = { 'layerd.reference': name && familiarString(name), 'layerd.platform': platform };
    return this.#observed('import', attributes, () =>
      this.#importer.import({ ...request, platform: this.#platform(request.platform) }, progress),
    );
  }

  distribution(reference: Reference, options: RequestOptions): Promise<DistributionInspect> {
    return this.#remote.inspect(reference, options);
  }

  copy(request: CopyRequest, progress: ProgressSink): Promise<void> {
    const { from, to } = request;
    const attributes = { 'layerd.source': familiarString(from), 'layerd.reference': familiarString(to) };
    return this.#observed('copy', attributes, () => this.#copier.copy(request, progress));
  }

  publish(request: PublishRequest): Promise<PublishedManifest> {
    return this.#observed('publish', attributesOf(request), () => this.#publisher.publish(request));
  }

  verify(request: VerifyRequest, progress: ProgressSink): Promise<VerifyReport> {
    const attributes = { 'layerd.image': request.image, 'layerd.repair': request.repair };
    return this.#observed('verify', attributes, () => this.#verifier.verify(request, progress));
  }

  /** The manifest or index that a reference names in its registry, as it is served there. */
  remoteManifest(reference: Reference, options: RequestOptions): Promise<RemoteManifest> {
    return this.#remote.manifest(reference, options);
  }

  #observed<T>(operation: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
    return this.#tracer.during(operation, attributes, async (span) => {
      const began = performance.now();
      let result: 'ok' | ErrorKind = 'ok';
      try {
        return await work();
      } catch (error) {
        result = error instanceof LayerdError ? error.kind : 'internal';
        throw error;
      } finally {
        span.set({ 'layerd.result': result });
        this.#observe(operation, result, (performance.now() - began) / 1000);
      }
    });
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

function attributesOf({ reference, platform }: { reference: Reference; platform?: string | undefined }): Attributes {
  return { 'layerd.reference': familiarString(reference), 'layerd.platform': platform };
}

/** The archive, with whose end the span ends. */
async function* endingWith(span: Span, archive: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* archive;
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
  }
}
