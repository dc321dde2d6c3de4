import { stat } from 'node:fs/promises';
import { hexOf, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { MediaType } from '../../protocol/media-types.ts';
import type { Descriptor, Index, Platform } from '../../protocol/oci.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  parseAnyReference,
  type Reference,
} from '../../protocol/reference.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Lease, Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import { blobPath, Member } from './archive/archive.ts';
import { NAME_ANNOTATION, REF_NAME_ANNOTATION } from './archive/contents.ts';
import { writeArchive, type Written } from './archive/writer.ts';
import { imageBlobs, layerBlobs, tagsOf } from './holdings.ts';
import { manifestSummaries } from './manifest-summary.ts';
import type { FoundImage, ImageStore, ManifestRow } from './store.ts';

/** What saving works with. */
export interface SaverParts {
  readonly content: ContentStore;
  readonly leases: Leases;
  readonly collector: GarbageCollector;
  readonly store: ImageStore;
  readonly events: { append(event: NewEvent): unknown };
}

/** An image that is to be saved, with the tags that it is saved under. */
interface SavedImage {
  readonly found: FoundImage;
  readonly tags: Reference[];
}

/** What is written of an image. */
interface Selected {
  readonly image: SavedImage;
  readonly blobs: readonly Digest[];
  /** The manifest that docker's own format has of it; an artifact has none. */
  readonly manifest: ManifestRow | undefined;
}

/** An entry of docker's `manifest.json`. */
interface DockerEntry {
  readonly Config: string;
  readonly RepoTags: string[] | null;
  readonly Layers: string[];
  /** The image ID of another image of the archive. */
  readonly Parent?: Digest;
}

/**
 * Saves images into an archive that is an OCI image layout and has docker's `manifest.json`, of the blobs as they were
 * pulled or loaded, so that all digests survive.
 */
export class Saver {
  readonly #parts: SaverParts;

  constructor(parts: SaverParts) {
    this.#parts = parts;
  }

  /**
   * Begins to save what the names stand for; a repository stands for all of its tags. Rejects with `not-found` before the
   * first byte. Until the iteration ends or is left, nothing is removed of what is saved.
   */
  async save(names: readonly string[], platforms: readonly Platform[]): Promise<AsyncGenerator<Uint8Array>> {
    const { leases, collector } = this.#parts;
    const lease = leases.acquire('save');
    try {
      const images = this.#find(names, lease);
      const selected: Selected[] = [];
      for (const image of images) selected.push(await this.#select(image, platforms));
      return this.#stream(await this.#files(selected), selected, lease);
    } catch (error) {
      collector.collect(lease.release());
      throw error;
    }
  }

  async *#stream(files: readonly Written[], selected: readonly Selected[], lease: Lease): AsyncGenerator<Uint8Array> {
    const { collector, events, store } = this.#parts;
    try {
      yield* writeArchive(files);
      for (const { image, manifest } of selected) {
        const { id, target } = image.found;
        store.db.transaction(() => {
          store.used(target);
          events.append({ type: 'image', action: 'save', actor: id, attributes: { ...manifest?.labels, name: id } });
        });
      }
    } finally {
      collector.collect(lease.release());
    }
  }

  /** Finds the images and names all they hold in the lease, in one turn, so that no removal comes in between. */
  #find(names: readonly string[], lease: Lease): SavedImage[] {
    const { store } = this.#parts;
    const images = new Map<Digest, SavedImage>();
    const add = (found: FoundImage, tag?: Reference): void => {
      const image = images.get(found.target) ?? { found, tags: [] };
      images.set(found.target, image);
      if (tag === undefined || image.tags.some((each) => canonicalString(each) === canonicalString(tag))) return;
      image.tags.push(tag);
    };
    for (const name of names) {
      const { reference } = parseAnyReference(name);
      const tags = reference === undefined ? [] : tagsOf(store.db, reference);
      for (const tag of tags) add(store.resolve(canonicalString(tag)), tag);
      if (tags.length === 0) add(store.resolve(name));
    }
    for (const [target, { tags }] of images) {
      lease.add(imageBlobs(store.db, target));
      tags.sort((one, other) => (canonicalString(one) < canonicalString(other) ? -1 : 1));
    }
    return [...images.values()].toSorted((one, other) => (one.found.target < other.found.target ? -1 : 1));
  }

  /** What is written of an image: all that is stored of it, or what is for the platforms. */
  async #select(image: SavedImage, platforms: readonly Platform[]): Promise<Selected> {
    const { store } = this.#parts;
    const { target, manifest: preferred } = image.found;
    const manifests = store.manifests(target);
    const [name = target] = image.tags.map(familiarString);
    // An archive has one target of an image, also of one that was found by its ID.
    const own = { ...image.found, byId: false };
    const chosen = platforms.map((platform) => store.manifestsFor(own, name, platform)[0].digest);
    const best = chosen.includes(preferred) ? preferred : (chosen[0] ?? preferred);
    const isImage = ({ kind, digest }: ManifestRow): boolean => kind === 'image' && digest === best;
    if (chosen.length === 0) {
      return { image, blobs: imageBlobs(store.db, target), manifest: manifests.find(isImage) };
    }
    const attesting = (await manifestSummaries(store, image.found))
      .filter(({ AttestationData }) => AttestationData !== undefined && chosen.includes(AttestationData.For))
      .map(({ ID }) => ID);
    const kept = new Set([...chosen, ...attesting]);
    const blobsOf = (isKept: boolean): Set<Digest> =>
      new Set(
        manifests
          .filter(({ digest }) => kept.has(digest) === isKept)
          .flatMap(({ digest, configDigest }) => [digest, configDigest, ...layerBlobs(store.db, digest)]),
      );
    const [wanted, others] = [blobsOf(true), blobsOf(false)];
    const blobs = imageBlobs(store.db, target).filter((digest) => wanted.has(digest) || !others.has(digest));
    return { image, blobs, manifest: manifests.find(isImage) };
  }

  /** The files of the archive: its documents, by which a reader knows the rest, then the blobs, each once, sorted. */
  async #files(selected: readonly Selected[]): Promise<Written[]> {
    const documents: [string, unknown][] = [
      [Member.layout, { imageLayoutVersion: '1.0.0' }],
      [Member.index, indexOf(selected)],
      [Member.manifest, this.#dockerManifest(selected)],
      [Member.repositories, this.#repositories(selected)],
    ];
    const files: Written[] = documents
      .filter(([, document]) => document !== undefined)
      .map(([path, document]) => ({ path, bytes: Buffer.from(JSON.stringify(document)) }));
    for (const digest of [...new Set(selected.flatMap(({ blobs }) => blobs))].toSorted()) {
      files.push({ path: blobPath(digest), ...(await this.#blob(digest)) });
    }
    return files;
  }

  /** A blob's file, which is looked at now: what has begun can only be cut off. */
  async #blob(digest: Digest): Promise<{ file: string; size: number }> {
    const { content } = this.#parts;
    const file = content.path(digest);
    const size = content.get(digest)?.size;
    const actual = await stat(file).then(
      (stats) => stats.size,
      () => undefined,
    );
    if (size === undefined || actual !== size) {
      throw new LayerdError(
        'corrupt',
        `blob ${digest} is missing from the disk, or damaged: pull or load its image again`,
      );
    }
    return { file, size };
  }

  #dockerManifest(selected: readonly Selected[]): DockerEntry[] {
    const ids = new Set(selected.map(({ manifest }) => manifest?.configDigest));
    return selected.flatMap(({ manifest, image }) => {
      if (manifest === undefined) return [];
      const parent = this.#parts.store.parent(manifest.configDigest);
      const layers = layerBlobs(this.#parts.store.db, manifest.digest);
      const tags = image.tags.map(familiarString);
      return [
        {
          Config: blobPath(manifest.configDigest),
          RepoTags: tags.length === 0 ? null : tags,
          Layers: layers.map(blobPath),
          ...(parent === undefined || !ids.has(parent) ? {} : { Parent: parent }),
        },
      ];
    });
  }

  /** Names by repository and tag, with the topmost layer of each; undefined where nothing has a name. */
  #repositories(selected: readonly Selected[]): Record<string, Record<string, string>> | undefined {
    const repositories = new Map<string, Record<string, string>>();
    for (const { manifest, image } of selected) {
      const top = manifest === undefined ? undefined : layerBlobs(this.#parts.store.db, manifest.digest).at(-1);
      if (top === undefined) continue;
      for (const reference of image.tags) {
        const name = familiarName(reference);
        repositories.set(name, { ...repositories.get(name), [reference.tag ?? '']: hexOf(top) });
      }
    }
    return repositories.size === 0 ? undefined : Object.fromEntries([...repositories].toSorted());
  }
}

/** An OCI index with an entry for each tag of each image, and one for an image without. */
function indexOf(selected: readonly Selected[]): Index {
  const manifests = selected.flatMap(({ image }): Descriptor[] => {
    const { target: digest, mediaType, bytes: size } = image.found;
    const descriptor = { mediaType, digest, size };
    if (image.tags.length === 0) return [descriptor];
    return image.tags.map((reference) => ({
      ...descriptor,
      annotations: { [NAME_ANNOTATION]: canonicalString(reference), [REF_NAME_ANNOTATION]: reference.tag ?? '' },
    }));
  });
  return { schemaVersion: 2, mediaType: MediaType.ociIndex, manifests };
}
