import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, Platform } from '../../protocol/oci.ts';
import { canonicalName, familiarName, familiarString, withTag, type Reference } from '../../protocol/reference.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Lease, Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import type { Credentials, Registries, Repository } from '../registry/registry.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { Demand, Demands } from '../transfers/demand.ts';
import { BlobDeliverer } from './deliver.ts';
import { formatPlatform, only } from './platform.ts';
import type { ProgressSink } from './progress.ts';
import { pushable, type Pushable } from './pushable.ts';
import type { FoundImage, ImageStore, ManifestRow } from './store.ts';
import { recordSources, type UploadQueue } from './upload.ts';

/** What a push works with. */
export interface PusherParts {
  readonly content: ContentStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly uploads: UploadQueue;
  readonly registries: Registries;
  readonly store: ImageStore;
  readonly demands: Demands;
  readonly events: { append(event: NewEvent): unknown };
  /** The platform that stands for an image of which not all platforms are stored. */
  readonly host: Platform;
  readonly tracer: Tracer;
}

/** What a client asks to be pushed. */
export interface PushRequest {
  /** Without a tag, all tags of the repository. */
  readonly reference: Reference;
  /** Only the manifest for this platform. */
  readonly platform?: Platform | undefined;
  readonly credentials?: Credentials | undefined;
  readonly client: string;
  readonly priority?: number | undefined;
  /** Aborted when the client goes away. Uploads that nobody else wants stop. */
  readonly signal: AbortSignal;
}

/** Pushes images: uploads what the registry lacks through the queue, blobs before manifests, manifests before indexes. */
export class Pusher {
  readonly #parts: PusherParts;

  constructor(parts: PusherParts) {
    this.#parts = parts;
  }

  /**
   * Pushes what was asked for. What is wrong with the request, or not stored, is thrown before the first line; what the
   * registry says, after it.
   */
  async push(request: PushRequest, progress: ProgressSink): Promise<void> {
    const { client, priority } = request;
    const images = this.#find(request);
    await this.#parts.demands.during(
      { verb: 'push', reference: familiarString(request.reference), client, priority },
      request.signal,
      (demand, signal) => this.#push({ ...request, signal }, images, demand, progress),
    );
  }

  async #push(request: PushRequest, images: readonly Pushed[], demand: Demand, progress: ProgressSink): Promise<void> {
    const { leases, collector } = this.#parts;
    const lease = leases.acquire(`push:${familiarString(request.reference)}`);
    try {
      const pushes: Push[] = [];
      for (const image of images)
        pushes.push(await Push.prepare(this.#parts, request, image, { lease, demand, progress }));
      progress({ status: `The push refers to repository [${canonicalName(request.reference)}]` });
      for (const push of pushes) await push.run();
    } finally {
      // What was removed while it was pushed goes now.
      collector.collect(lease.release());
    }
  }

  #find({ reference, platform }: PushRequest): Pushed[] {
    if (reference.digest !== undefined) throw new LayerdError('invalid', 'cannot push a digest reference');
    const { store } = this.#parts;
    const tags = store.db
      .all<{ tag: string }>('SELECT tag FROM tag WHERE repository = ? ORDER BY tag', canonicalName(reference))
      .map((row) => row.tag);
    if (tags.length === 0) {
      const name = familiarName(reference);
      throw new LayerdError('not-found', `An image does not exist locally with the tag: ${name}`);
    }
    if (reference.tag !== undefined && !tags.includes(reference.tag)) {
      throw new LayerdError('not-found', `tag does not exist: ${familiarString(reference)}`);
    }
    return tags
      .filter((tag) => reference.tag === undefined || tag === reference.tag)
      .map((tag) => {
        const tagged = withTag(reference, tag);
        const name = familiarString(tagged);
        return { reference: tagged, tag, image: store.resolve(name), only: platformRow(store, name, platform) };
      });
  }
}

/** The stored manifest for the platform. Throws `not-found` where there is none. */
function platformRow(store: ImageStore, name: string, platform: Platform | undefined): ManifestRow | undefined {
  return platform === undefined ? undefined : store.manifestsFor(store.resolve(name), name, platform)[0];
}

/** A tag with what is to be pushed under it. */
interface Pushed {
  readonly reference: Reference;
  readonly tag: string;
  readonly image: FoundImage;
  /** The one manifest that was asked for. */
  readonly only: ManifestRow | undefined;
}

/** What the tags of one push share. */
interface PushContext {
  readonly lease: Lease;
  readonly demand: Demand;
  readonly progress: ProgressSink;
}

/** One tag on its way to its registry. */
class Push {
  readonly #parts: PusherParts;
  readonly #request: PushRequest;
  readonly #pushed: Pushed;
  readonly #repository: Repository;
  readonly #lease: Lease;
  readonly #demand: Demand;
  readonly #progress: ProgressSink;
  #content: Pushable;

  private constructor(
    parts: PusherParts,
    request: PushRequest,
    pushed: Pushed,
    content: Pushable,
    { lease, demand, progress }: PushContext,
  ) {
    this.#parts = parts;
    this.#request = request;
    this.#pushed = pushed;
    this.#repository = { registry: pushed.reference.registry, path: pushed.reference.path };
    this.#content = content;
    this.#lease = lease;
    this.#demand = demand;
    this.#progress = progress;
  }

  static async prepare(parts: PusherParts, request: PushRequest, pushed: Pushed, context: PushContext): Promise<Push> {
    const { image, only: chosen, reference } = pushed;
    const target = chosen === undefined ? descriptorOf(image) : rowDescriptor(chosen);
    const content = await pushable(parts.content, context.lease, target);
    if (content.documents.length === 0) {
      throw new LayerdError('not-found', `missing content: ${familiarString(reference)} is not completely stored`);
    }
    return new Push(parts, request, pushed, content, context);
  }

  async run(): Promise<void> {
    const { tag, image } = this.#pushed;
    const instead = this.#content.missing.length === 0 ? undefined : await this.#instead();
    if (instead !== undefined) {
      this.#content = await pushable(this.#parts.content, this.#lease, rowDescriptor(instead));
    }
    const { credentials, signal } = this.#request;
    const to = { repository: this.#repository, credentials };
    await new BlobDeliverer(this.#parts, this.#demand, this.#progress).deliver(this.#content.blobs, to, { signal });
    const target = await this.#putManifests();
    this.#parts.tracer.during('commit', {}, () => this.#commit(target.digest));
    const { digest, bytes } = target;
    const size = bytes.byteLength;
    this.#progress({ status: `${tag}: digest: ${digest} size: ${size}` });
    this.#progress({ progressDetail: {}, aux: { Tag: tag, Digest: digest, Size: size } });
    if (instead !== undefined) {
      // What makes the docker CLI tell its user.
      const aux = {
        manifestPushedInsteadOfIndex: true,
        originalIndex: descriptorOf(image),
        selectedManifest: rowDescriptor(instead),
      };
      this.#progress({ progressDetail: {}, aux });
    }
  }

  /**
   * The manifest to push in place of an index of which not all is stored; undefined where the repository has the rest
   * already, so that the index can be pushed as it is.
   */
  async #instead(): Promise<ManifestRow | undefined> {
    const { registries, store, host } = this.#parts;
    const { image, reference } = this.#pushed;
    const { missing, documents } = this.#content;
    let absent: Descriptor | undefined;
    for (const descriptor of missing) {
      if (await registries.hasManifest(this.#repository, descriptor.digest, this.#options)) continue;
      absent = descriptor;
      break;
    }
    if (absent === undefined) return undefined;
    const complete = new Set(documents.map(({ digest }) => digest));
    const candidates = store
      .manifests(image.target)
      .filter(({ kind, digest }) => kind !== 'attestation' && complete.has(digest));
    const [first, ...others] = candidates;
    const forHost = candidates.find(({ digest }) => digest === image.manifest);
    if (first !== undefined && others.length === 0) return first;
    if (forHost?.platform !== undefined && only(host).rank(forHost.platform) !== undefined) return forHost;
    const lacking = missing.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
    throw new LayerdError(
      'conflict',
      `${familiarString(reference)} is an index of which neither the daemon nor the registry has everything: ` +
        `missing is ${lacking.length === 0 ? absent.digest : lacking.join(', ')}; pull that first, or choose a platform to push`,
    );
  }

  /** Puts all manifests, those that an index lists before it; returns what the tag points to now. */
  async #putManifests(): Promise<Pushable['documents'][number]> {
    const { registries } = this.#parts;
    const target = this.#content.documents.at(-1);
    if (target === undefined) throw new LayerdError('internal', 'a push without a manifest');
    for (const document of this.#content.documents.slice(0, -1)) {
      if (await registries.hasManifest(this.#repository, document.digest, this.#options)) continue;
      await registries.putManifest(this.#repository, document.digest, document, this.#options);
    }
    await registries.putManifest(this.#repository, this.#pushed.tag, target, this.#options);
    return target;
  }

  /** From now on the image is known by its digest in the repository, unless only a part of it was pushed. */
  #commit(pushed: Digest): void {
    const { store, events } = this.#parts;
    const { image, reference, only: chosen } = this.#pushed;
    const manifest = chosen?.digest ?? image.manifest;
    const labels = store.manifests(image.target).find(({ digest }) => digest === manifest)?.labels ?? {};
    store.db.transaction(() => {
      store.changed();
      recordSources(
        store.db,
        this.#content.blobs.map(({ digest }) => digest),
        this.#repository,
      );
      store.used(image.target);
      // The image may have been removed meanwhile.
      store.db.run(
        'INSERT OR IGNORE INTO repo_digest (repository, target) SELECT ?, target FROM image WHERE target = ?',
        canonicalName(reference),
        pushed,
      );
      events.append({
        type: 'image',
        action: 'push',
        actor: familiarString(reference),
        attributes: { ...labels, name: familiarName(reference) },
      });
    });
  }

  get #options(): Pick<PushRequest, 'credentials' | 'signal'> {
    return { credentials: this.#request.credentials, signal: this.#request.signal };
  }
}

const descriptorOf = ({ target, mediaType, bytes }: FoundImage): Descriptor => ({
  mediaType,
  digest: target,
  size: bytes,
});

const rowDescriptor = ({ digest, mediaType, bytes }: ManifestRow): Descriptor => ({ mediaType, digest, size: bytes });
