import type { Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import { isImageConfigType } from '../../protocol/media-types.ts';
import type { Descriptor, ImageConfig, Platform } from '../../protocol/oci.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Lease, Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { EventLog } from '../events/log.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Database } from '../metadata/database.ts';
import type { Credentials, Registries, RemoteManifest, Repository } from '../registry/registry.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { Demand, Demands } from '../transfers/demand.ts';
import { untilAborted } from '../transfers/interest.ts';
import type { TransferQueue, TransferRequest } from '../transfers/queue.ts';
import type { Admission } from './admission.ts';
import { blobsOf, checkLayerCount, checkLayers, describeManifest, refuseUnusable } from './composition.ts';
import { parseImageConfig } from './config.ts';
import type { BlobSource } from './download.ts';
import type { Fetcher } from './fetch.ts';
import type { StoredManifest } from './image.ts';
import { choosePlatform, formatPlatform, provides } from './platform.ts';
import { LayerProgress, type ProgressSink } from './progress.ts';
import {
  canonicalName,
  canonicalString,
  DEFAULT_TAG,
  familiarName,
  familiarString,
  withDefaultTag,
  withTag,
  type Reference,
} from '../../protocol/reference.ts';
import {
  platformOf,
  select,
  statePlatforms,
  type GetDocument,
  type SelectedManifest,
  type Selection,
} from './selection.ts';
import { together } from './together.ts';
import { imageIdOf, type ImageStore } from './store.ts';

interface PullerLog {
  info(message: string, fields?: Record<string, unknown>): void;
}

/** What a pull works with. */
export interface PullerParts {
  readonly db: Database;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly transfers: TransferQueue<BlobSource>;
  readonly demands: Demands;
  readonly fetcher: Fetcher;
  readonly registries: Registries;
  readonly admission: Pick<Admission, 'checkOf'>;
  readonly store: ImageStore;
  readonly events: EventLog;
  /** The platform that is chosen where none is asked for. */
  readonly host: Platform;
  readonly log: PullerLog;
  readonly tracer: Tracer;
  /** Told after an image was committed. */
  onCommit(): void;
}

/** What a client asks to be pulled. */
export interface PullRequest {
  readonly reference: Reference;
  /** Without it, what fits this host best. */
  readonly platform?: Platform | undefined;
  /** Every tag of the repository. */
  readonly allTags?: boolean;
  /** All that an index lists, for whatever platform. */
  readonly allPlatforms?: boolean;
  readonly credentials?: Credentials | undefined;
  readonly client: string;
  /** From -100 to 100, default 0; a higher one waits less. */
  readonly priority?: number | undefined;
  /** On whose behalf, where that began before and goes on after; without it, it begins and ends with the pull. */
  readonly demand?: Demand | undefined;
  /** Aborted when the client goes away. What has arrived by then stays, and the same pull resumes it. */
  readonly signal: AbortSignal;
}

/** A blob that a pull would bring. */
export interface MissingBlob {
  readonly digest: Digest;
  /** Bytes, and of those the ones that are here. */
  readonly size: number;
  readonly received: number;
  /** Whether an EROFS image is made of it. */
  readonly unpacks: boolean;
}

/** What a pull would have to do. */
export interface Survey {
  readonly missing: readonly MissingBlob[];
}

/** Pulls images: resolves the reference, fetches what is missing through the transfers, and commits the image. */
export class Puller {
  readonly #parts: PullerParts;

  constructor(parts: PullerParts) {
    this.#parts = parts;
  }

  /** Pulls what was asked for. Resolves when the image is committed; `progress` is told the lines that clients show. */
  async pull(request: PullRequest, progress: ProgressSink): Promise<void> {
    const { reference, allTags, client, priority } = request;
    const shown = allTags === true ? familiarName(reference) : familiarString(withDefaultTag(reference));
    try {
      const work = (demand: Demand, signal: AbortSignal): Promise<boolean> =>
        this.#pull({ ...request, signal }, demand, progress);
      const updated =
        request.demand === undefined
          ? await this.#parts.demands.during({ verb: 'pull', reference: shown, client, priority }, request.signal, work)
          : await request.demand.during(request.signal, work);
      progress({ status: `Status: ${updated ? 'Downloaded newer image' : 'Image is up to date'} for ${shown}` });
    } catch (error) {
      this.#parts.log.info('a pull failed', { reference: shown, reason: messageOf(error) });
      throw error;
    }
  }

  /**
   * Begins a pull of one reference: stores what documents it needs, and tells which blobs are missing. The same pull goes on
   * from there.
   */
  async survey(request: PullRequest): Promise<Survey> {
    const { client, priority } = request;
    const reference = withDefaultTag(request.reference);
    return this.#parts.demands.during(
      { verb: 'pull', reference: familiarString(reference), client, priority },
      request.signal,
      (demand, signal) =>
        this.#leased(
          { ...request, signal },
          reference,
          demand,
          () => undefined,
          async (pull, lease) => {
            const survey = await pull.survey();
            lease.keep();
            return survey;
          },
        ),
    );
  }

  /** Whether anything changed. */
  async #pull(request: PullRequest, demand: Demand, progress: ProgressSink): Promise<boolean> {
    const { reference, credentials, signal } = request;
    if (request.allTags !== true) {
      return this.#pullOne(request, withDefaultTag(reference), demand, progress);
    }
    const repository: Repository = { registry: reference.registry, path: reference.path };
    let found = false;
    let updated = false;
    for await (const tag of this.#parts.registries.tags(repository, { credentials, signal })) {
      found = true;
      updated = (await this.#pullOne(request, withTag(reference, tag), demand, progress)) || updated;
    }
    if (!found) throw new LayerdError('not-found', `no tags found for ${familiarName(reference)}`);
    return updated;
  }

  /** Whether anything changed. */
  async #pullOne(request: PullRequest, reference: Reference, demand: Demand, progress: ProgressSink): Promise<boolean> {
    return this.#leased(request, reference, demand, progress, async (pull) => {
      const { target, changed } = await pull.run();
      progress({ status: `Digest: ${target}` });
      return changed;
    });
  }

  /** Works on a pull under a lease, which the work ends; where it fails, what has arrived is kept for a resume. */
  async #leased<T>(
    request: PullRequest,
    reference: Reference,
    demand: Demand,
    progress: ProgressSink,
    work: (pull: Pull, lease: Lease) => Promise<T>,
  ): Promise<T> {
    const { leases } = this.#parts;
    const repository: Repository = { registry: reference.registry, path: reference.path };
    const platform = request.platform === undefined ? '' : formatPlatform(request.platform);
    const lease = leases.acquire(`pull:${familiarString(reference)}:${request.allPlatforms === true ? '*' : platform}`);
    try {
      return await work(new Pull(this.#parts, request, { repository, reference, lease, demand, progress }), lease);
    } catch (error) {
      // A reference that is not found this once says nothing of what an earlier pull of it has here already.
      if (isBeyondResume(error) && !lease.isEmpty) this.#parts.collector.abandon(lease.release());
      else lease.keep();
      throw request.signal.aborted && !isKind(error, 'cancelled')
        ? new LayerdError(
            'cancelled',
            `the pull of ${familiarString(reference)} was cancelled; the same pull resumes it`,
            {
              cause: error,
            },
          )
        : error;
    }
  }
}

/** Whether the same pull would fail again, however much of it is here: nothing is worth being kept for a resume. */
function isBeyondResume(error: unknown): boolean {
  return isKind(error, 'corrupt') || isKind(error, 'invalid') || isKind(error, 'not-found');
}

/** What one reference of a pull is, and goes with. */
interface PullContext {
  readonly repository: Repository;
  readonly reference: Reference;
  readonly lease: Lease;
  readonly demand: Demand;
  readonly progress: ProgressSink;
}

/** One reference on its way into the store. */
class Pull {
  readonly #parts: PullerParts;
  readonly #request: PullRequest;
  readonly #repository: Repository;
  readonly #reference: Reference;
  readonly #lease: Lease;
  readonly #demand: Demand;
  readonly #progress: ProgressSink;
  readonly #source: BlobSource;

  constructor(
    parts: PullerParts,
    request: PullRequest,
    { repository, reference, lease, demand, progress }: PullContext,
  ) {
    this.#parts = parts;
    this.#request = request;
    this.#repository = repository;
    this.#reference = reference;
    this.#lease = lease;
    this.#demand = demand;
    this.#progress = progress;
    this.#source = { repository, credentials: request.credentials };
  }

  async run(): Promise<{ target: Digest; changed: boolean }> {
    const selection = await this.#select();
    const { signal } = this.#request;
    const manifests: StoredManifest[] = [];
    // Those of other platforms with it, so that the queue is never short of layers; what attests to them is small.
    await together(
      signal,
      [selection.chosen, ...selection.others].map((document, index) => async (stop: AbortSignal) => {
        manifests[index] = await this.#fetchManifest(document, stop);
      }),
    );
    for (const attestation of selection.attestations) {
      manifests.push(await this.#fetchManifest(attestation, signal, 'attestation'));
    }
    signal.throwIfAborted();
    return this.#parts.tracer.during('commit', {}, () => this.#commit(selection, manifests));
  }

  /** Stores the documents that the reference leads to, and tells which blobs are missing. */
  async survey(): Promise<Survey> {
    const { content, fetcher } = this.#parts;
    const { chosen, others, attestations } = await this.#select();
    const missing = new Map<Digest, MissingBlob>();
    const attesting = new Set(attestations);
    for (const document of [chosen, ...others, ...attestations]) {
      const { manifest } = document;
      const isImage = isImageConfigType(manifest.config.mediaType) && !attesting.has(document);
      for (const { digest, size } of [manifest.config, ...manifest.layers]) {
        const unpacks = isImage && digest !== manifest.config.digest;
        if (fetcher.isComplete({ digest, kind: unpacks ? 'layer' : 'blob' })) continue;
        const received = content.has(digest) ? size : Math.min(size, content.ingestSize(digest));
        missing.set(digest, { digest, size, received, unpacks });
      }
    }
    return { missing: [...missing.values()] };
  }

  /** Chooses what makes up the image, and stores the documents that say so. */
  async #select(): Promise<Selection> {
    const { registries, content, tracer } = this.#parts;
    const { credentials, signal } = this.#request;
    const { digest, tag = DEFAULT_TAG, path } = this.#reference;
    const wanted = digest ?? tag;
    const check = this.#parts.admission.checkOf(this.#reference);
    const resolved = await tracer.during('resolve', { 'layerd.reference': familiarString(this.#reference) }, (span) =>
      registries.resolve(this.#repository, wanted, { credentials, signal }).then((descriptor) => {
        span.set({ 'layerd.digest': descriptor.digest, 'layerd.media_type': descriptor.mediaType });
        return descriptor;
      }),
    );
    // As dockerd: a digest alone would not say whose it is.
    const shown = digest === undefined ? tag : canonicalString(this.#reference);
    const begin = (): void => this.#progress({ status: `Pulling from ${path}`, id: shown });
    // With the first line the status of the answer is given, and a refusal has one of its own.
    if (check === undefined) begin();
    this.#lease.add([resolved.digest]);
    const target = await this.#document(resolved);
    const selection = await select(
      target,
      (descriptor) => this.#document(descriptor),
      (...candidates) => this.#choose(...candidates),
      { all: this.#request.allPlatforms === true },
    );
    if (check !== undefined) {
      const manifests = [selection.chosen, ...selection.others].map(({ descriptor }) => descriptor.digest);
      await check.admit({ target: resolved.digest, manifests, credentials, signal });
      begin();
    }
    for (const { descriptor, bytes } of selection.documents) await content.putDocument(descriptor.digest, bytes);
    return selection;
  }

  /** A manifest or index, from the store if it is there. */
  async #document(descriptor: Descriptor): Promise<RemoteManifest> {
    const { content, registries } = this.#parts;
    this.#lease.add([descriptor.digest]);
    if (content.has(descriptor.digest)) return { descriptor, bytes: await content.read(descriptor.digest) };
    const { credentials, signal } = this.#request;
    return registries.manifest(this.#repository, descriptor.digest, { credentials, signal });
  }

  /** Chooses by the platforms that the index states, and where it states none, by those in the configs. */
  async #choose(candidates: readonly Descriptor[], getDocument: GetDocument): Promise<Descriptor> {
    const stated = await statePlatforms(candidates, getDocument, async (config) =>
      platformOf(await this.#config(config, this.#request.signal)),
    );
    const { host } = this.#parts;
    const { platform, allPlatforms } = this.#request;
    try {
      return choosePlatform(stated, host, platform);
    } catch (error) {
      // Of all platforms, one that is not this host's may be the first.
      const [first] = stated;
      if (allPlatforms !== true || first === undefined || !isKind(error, 'not-found')) throw error;
      return first;
    }
  }

  async #config(descriptor: Descriptor, signal: AbortSignal): Promise<ImageConfig> {
    await this.#obtain(descriptor, 'document', signal);
    this.#parts.fetcher.refuseOtherSize(descriptor);
    return parseImageConfig(await this.#parts.content.read(descriptor.digest), descriptor.digest);
  }

  /** Brings in all of a manifest's blobs, and tells what is stored of it. */
  async #fetchManifest(document: SelectedManifest, signal: AbortSignal, as?: 'attestation'): Promise<StoredManifest> {
    const { manifest } = document;
    const blobs = [manifest.config, ...manifest.layers];
    const kind = as ?? (isImageConfigType(manifest.config.mediaType) ? 'image' : 'artifact');
    this.#lease.add(blobs.map((blob) => blob.digest));
    this.#checkSizes(blobs);
    let config: ImageConfig | undefined;
    if (kind === 'image') {
      manifest.layers.forEach((layer) => refuseUnusable(layer, familiarString(this.#reference)));
      config = await this.#obtainImage(document, signal);
      checkLayers(this.#parts.layers, config, manifest);
    } else {
      await together(signal, [
        (stop) => this.#obtain(manifest.config, 'document', stop),
        ...manifest.layers.map(
          (layer) => (stop: AbortSignal) => this.#obtain(layer, as === undefined ? 'blob' : 'document', stop),
        ),
      ]);
    }
    // Again, for what another party's transfer has brought meanwhile, and for what is listed twice.
    this.#checkSizes(blobs);
    return describeManifest(this.#parts.layers, document, kind, config);
  }

  #checkSizes(blobs: readonly Descriptor[]): void {
    for (const blob of blobs) this.#parts.fetcher.refuseOtherSize(blob);
  }

  /** Brings in the config of an image, and refuses an image that it shows to be broken or for another platform. */
  async #imageConfig({ manifest, descriptor }: SelectedManifest, signal: AbortSignal): Promise<ImageConfig> {
    const config = await this.#config(manifest.config, signal);
    checkLayerCount(config, manifest, descriptor.digest);
    const { platform } = this.#request;
    if (platform !== undefined && !provides(platformOf(config), platform)) {
      throw new LayerdError(
        'not-found',
        `image with reference ${familiarString(this.#reference)} was found but does not provide the specified platform (${formatPlatform(platform)}); it is for ${formatPlatform(platformOf(config))}`,
      );
    }
    return config;
  }

  /**
   * Brings in the config and all layers, together. Where a platform was asked for, no layer is fetched before the config
   * says that the image is for it; elsewhere that would only cost the time of a request, and the layers of an image whose
   * config is refused are let go of as soon as it is.
   */
  async #obtainImage(document: SelectedManifest, signal: AbortSignal): Promise<ImageConfig> {
    const { fetcher, store } = this.#parts;
    const { platform } = this.#request;
    const { manifest } = document;
    if (platform !== undefined) await this.#imageConfig(document, signal);
    // As dockerd: of an image that is stored already the layers are not told, whatever it is called here.
    const isNew = !store.hasConfig(manifest.config.digest);
    const bars = new Map<Digest, LayerProgress>();
    const missing: Descriptor[] = [];
    for (const layer of manifest.layers) {
      if (bars.has(layer.digest)) continue;
      const bar = new LayerProgress(layer.digest, this.#progress);
      bars.set(layer.digest, bar);
      if (!fetcher.isComplete({ digest: layer.digest, kind: 'layer' })) {
        missing.push(layer);
        bar.begin();
      } else if (isNew) bar.exists();
    }
    // The largest first: it decides when the pull ends.
    missing.sort((a, b) => b.size - a.size);
    await together(signal, [
      (stop) => this.#imageConfig(document, stop),
      ...missing.map((layer) => (stop: AbortSignal) => this.#obtain(layer, 'layer', stop, bars.get(layer.digest))),
    ]);
    return this.#imageConfig(document, signal);
  }

  /** Joins the transfer of a blob that is missing and waits for it. */
  async #obtain(
    { digest, size }: Descriptor,
    kind: TransferRequest['kind'],
    signal: AbortSignal,
    bar?: LayerProgress,
  ): Promise<void> {
    const { content, fetcher, transfers } = this.#parts;
    this.#lease.add([digest]);
    const remaining = size - Math.min(size, content.ingestSize(digest));
    // More than once where another party had the same blob fetched as something else, or as of another size.
    while (!fetcher.isComplete({ digest, kind })) {
      signal.throwIfAborted();
      const request = { digest, size, remaining, kind };
      let total = size;
      const interest = transfers.join(request, this.#source, this.#demand, (status) => {
        ({ total } = status);
        bar?.update(status);
      });
      try {
        await untilAborted(interest, signal);
      } catch (error) {
        // A transfer that fails for the size that another party's manifest states says nothing of ours.
        if (total === size || !isKind(error, 'corrupt')) throw error;
      } finally {
        bar?.end();
      }
    }
    bar?.complete();
  }

  /** Makes the image visible: image, tag, event and the end of the lease are one transaction. */
  #commit(
    selection: Selection,
    manifests: readonly StoredManifest[],
  ): { readonly target: Digest; readonly changed: boolean } {
    const { db, store, events } = this.#parts;
    const [target] = selection.documents;
    const [chosen] = manifests;
    if (target === undefined || chosen === undefined) throw new LayerdError('internal', 'a pull without a manifest');
    const changed = db.transaction(() => {
      const { changed } = store.put({
        target: target.descriptor,
        manifests,
        blobs: [...selection.documents.map((document) => document.descriptor.digest), ...manifests.flatMap(blobsOf)],
        repository: canonicalName(this.#reference),
        tag: this.#reference.digest === undefined ? this.#reference.tag : undefined,
        imageId: imageIdOf(chosen),
        manifest: chosen.digest,
        byDigest: true,
      });
      events.append({
        type: 'image',
        action: 'pull',
        actor: familiarString(this.#reference),
        attributes: { ...chosen.labels, name: familiarName(this.#reference) },
      });
      this.#lease.release();
      return changed;
    });
    this.#parts.onCommit();
    return { target: target.descriptor.digest, changed };
  }
}
