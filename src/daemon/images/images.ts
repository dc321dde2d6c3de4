import type {
  DeleteItem,
  DistributionInspect,
  ImageInspect,
  LayerReport,
  PublishedManifest,
} from '../../protocol/engine.ts';
import { isKind } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Credentials, RemoteManifest, RequestOptions } from '../registry/registry.ts';
import type { Copier, CopyRequest } from './copy.ts';
import type { RemoteImages } from './distribution.ts';
import { imageHistory, type HistoryStep } from './history.ts';
import { inspectImage } from './inspect.ts';
import { layerReports } from './layer-report.ts';
import { listImages, type ListedSummary, type ListOptions } from './list.ts';
import { attestedDigests } from './manifest-summary.ts';
import { parsePlatform } from './platform.ts';
import type { Loader, LoadRequest } from './load.ts';
import type { ProgressSink } from './progress.ts';
import type { Publisher, PublishRequest } from './publish.ts';
import type { Puller } from './pull.ts';
import type { Pusher, PushRequest } from './push.ts';
import type { Reference } from '../../protocol/reference.ts';
import type { Attested, ImageRemover } from './remove.ts';
import type { Saver } from './save.ts';
import type { ImageStore } from './store.ts';
import type { Tagger } from './tag.ts';

/** The verbs of images, taking names and platforms as users write them. */
export class Images {
  readonly #store: ImageStore;
  readonly #puller: Puller;
  readonly #pusher: Pusher;
  readonly #remover: ImageRemover;
  readonly #tagger: Tagger;
  readonly #saver: Saver;
  readonly #loader: Loader;
  readonly #remote: RemoteImages;
  readonly #copier: Copier;
  readonly #publisher: Publisher;
  readonly #host: Platform;

  constructor(parts: {
    store: ImageStore;
    puller: Puller;
    pusher: Pusher;
    remover: ImageRemover;
    tagger: Tagger;
    saver: Saver;
    loader: Loader;
    remote: RemoteImages;
    copier: Copier;
    publisher: Publisher;
    host: Platform;
  }) {
    this.#store = parts.store;
    this.#puller = parts.puller;
    this.#pusher = parts.pusher;
    this.#remover = parts.remover;
    this.#tagger = parts.tagger;
    this.#saver = parts.saver;
    this.#loader = parts.loader;
    this.#remote = parts.remote;
    this.#copier = parts.copier;
    this.#publisher = parts.publisher;
    this.#host = parts.host;
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

  async remove(name: string, options: { force: boolean; platforms: readonly Platform[] }): Promise<DeleteItem[]> {
    return this.#remover.remove(name, { ...options, attested: await this.#attested(name, options) });
  }

  tag(name: string, reference: Reference): void {
    this.#tagger.tag(name, reference);
  }

  layers(name: string): LayerReport[] {
    return layerReports(this.#store, name);
  }

  pull(
    request: {
      readonly reference: Reference;
      readonly all: boolean;
      readonly allPlatforms: boolean;
      readonly platform: string | undefined;
      readonly credentials: Credentials | undefined;
      readonly signal: AbortSignal;
    },
    progress: ProgressSink,
  ): Promise<void> {
    return this.#puller.pull(
      {
        reference: request.reference,
        allTags: request.all,
        allPlatforms: request.allPlatforms,
        platform: request.platform === undefined ? undefined : parsePlatform(request.platform, this.#host),
        credentials: request.credentials,
        signal: request.signal,
      },
      progress,
    );
  }

  push(request: PushRequest, progress: ProgressSink): Promise<void> {
    return this.#pusher.push(request, progress);
  }

  save(names: readonly string[], options: { platforms: readonly Platform[] }): Promise<AsyncGenerator<Uint8Array>> {
    return this.#saver.save(names, options.platforms);
  }

  load(request: LoadRequest, progress: ProgressSink): Promise<void> {
    return this.#loader.load(request, progress);
  }

  distribution(reference: Reference, options: RequestOptions): Promise<DistributionInspect> {
    return this.#remote.inspect(reference, options);
  }

  copy(request: CopyRequest, progress: ProgressSink): Promise<void> {
    return this.#copier.copy(request, progress);
  }

  publish(request: PublishRequest): Promise<PublishedManifest> {
    return this.#publisher.publish(request);
  }

  /** The manifest or index that a reference names in its registry, as it is served there. */
  remoteManifest(reference: Reference, options: RequestOptions): Promise<RemoteManifest> {
    return this.#remote.manifest(reference, options);
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
