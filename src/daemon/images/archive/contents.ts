import { isDeepStrictEqual } from 'node:util';
import type { Digest } from '../../../protocol/digest.ts';
import { isImageConfigType, isIndexType, isManifestType, MediaType } from '../../../protocol/media-types.ts';
import {
  MAX_DOCUMENT_BYTES,
  type Descriptor,
  type ImageConfig,
  type Manifest,
  type Platform,
} from '../../../protocol/oci.ts';
import { canonicalString, type Reference } from '../../../protocol/reference.ts';
import type { Lease } from '../../content/leases.ts';
import type { ContentStore } from '../../content/store.ts';
import type { LayerStore } from '../../layers/store.ts';
import { isIndex, MAX_INDEX_DEPTH, parseManifest } from '../../registry/manifest.ts';
import type { ArrivedImage } from '../arrival.ts';
import { checkLayerCount, checkLayers, describeManifest, refuseUnusable } from '../composition.ts';
import { parseImageConfig } from '../config.ts';
import type { StoredManifest } from '../image.ts';
import { choosePlatform, isAttestation } from '../platform.ts';
import { platformOf } from '../selection.ts';
import { Member, unusable } from './archive.ts';
import { makeManifest, parseDockerManifest, parseMember, tagOf, type DockerImage } from './docker-manifest.ts';
import type { TakenIn } from './intake.ts';

/** Annotations by which an index names its images: containerd's whole name, and OCI's, which may be a tag alone. */
export const NAME_ANNOTATION = 'io.containerd.image.name';
export const REF_NAME_ANNOTATION = 'org.opencontainers.image.ref.name';

/** What an attestation is about, by an annotation of its descriptor. */
const ATTESTED_DIGEST = 'vnd.docker.reference.digest';
/** Manifests that are listed by one image's indexes in all; documents are read one after the other. */
const MAX_LISTED = 1000;

/** A manifest with its descriptor, which may state a platform. */
interface Listed {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
}

/** Finds the images of an archive that has been taken in, and makes sure that each is complete and fits together. */
export class Contents {
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #intake: TakenIn;
  readonly #lease: Lease;
  readonly #host: Platform;
  readonly #platforms: readonly Platform[];

  constructor(parts: {
    content: ContentStore;
    layers: LayerStore;
    intake: TakenIn;
    lease: Lease;
    host: Platform;
    /** The platforms that are wanted; without one, all. */
    platforms: readonly Platform[];
  }) {
    this.#content = parts.content;
    this.#layers = parts.layers;
    this.#intake = parts.intake;
    this.#lease = parts.lease;
    this.#host = parts.host;
    this.#platforms = parts.platforms;
  }

  /** What the archive is called in a signature policy. */
  get transport(): 'oci-archive' | 'docker-archive' {
    return this.#intake.document(Member.index) === undefined || this.#intake.document(Member.layout) === undefined
      ? 'docker-archive'
      : 'oci-archive';
  }

  /** All images, each once, in the order of the archive. */
  async images(): Promise<ArrivedImage[]> {
    const index = this.#intake.document(Member.index);
    const manifest = this.#intake.document(Member.manifest);
    const listed = manifest === undefined ? [] : parseDockerManifest(manifest);
    if (index !== undefined && this.transport === 'oci-archive')
      return this.#withParents(await this.#ofLayout(index, listed), listed);
    if (manifest !== undefined) return this.#withParents(merged(await this.#ofDocker(listed)), listed);
    if (index !== undefined)
      throw unusable(`it has an ${Member.index} but no ${Member.layout}, so it is no OCI image layout`);
    throw unusable(
      this.#intake.document(Member.repositories) === undefined
        ? `it has neither ${Member.manifest} nor ${Member.index}: it is neither of docker save nor an OCI image layout`
        : `it is of a docker older than 1.10 (${Member.repositories}, but no ${Member.manifest}): load it with docker 1.10 to 26 and save it again`,
    );
  }

  async #ofLayout(bytes: Buffer, tagged: readonly DockerImage[]): Promise<ArrivedImage[]> {
    this.#checkLayout();
    const index = parseManifest(bytes, MediaType.ociIndex);
    if (!isIndex(index)) throw unusable(`its ${Member.index} is a manifest`);
    const images: ArrivedImage[] = [];
    for (const descriptor of index.manifests) {
      // The specification lets an index list more than images, which readers leave alone.
      if (!isIndexType(descriptor.mediaType) && !isManifestType(descriptor.mediaType)) continue;
      const known = images.find(({ target }) => target.digest === descriptor.digest);
      const names = namesOf(descriptor);
      images.push({ ...(known ?? (await this.#ofDescriptor(descriptor))), names });
    }
    if (images.length === 0) throw unusable(`its ${Member.index} lists no image`);
    return merged(images).map((image) => withTags(image, tagged, this.#intake));
  }

  #checkLayout(): void {
    const layout = parseMember(this.#intake.document(Member.layout) ?? Buffer.alloc(0), Member.layout);
    const version = (layout as { imageLayoutVersion?: unknown } | null)?.imageLayoutVersion;
    if (typeof version !== 'string' || !version.startsWith('1.')) {
      throw unusable(`its ${Member.layout} has no imageLayoutVersion that is known (1.0.0)`);
    }
  }

  /** What a descriptor of `index.json` names. */
  async #ofDescriptor(target: Descriptor): Promise<Omit<ArrivedImage, 'names'>> {
    const indexes: Digest[] = [];
    const listed: Listed[] = [];
    await this.#follow(target, indexes, listed, 1);
    if (listed.length === 0) {
      throw unusable(`none of the manifests that index ${target.digest} lists is in it`);
    }
    const manifests: StoredManifest[] = [];
    for (const each of await this.#wanted(listed)) manifests.push(await this.#complete(each));
    const { mediaType, digest, size } = target;
    return { target: { mediaType, digest, size }, indexes, manifests };
  }

  /** Gathers the manifests below a descriptor that are in the archive. An archive need not have all platforms of an index. */
  async #follow(descriptor: Descriptor, indexes: Digest[], listed: Listed[], depth: number): Promise<void> {
    if (depth > MAX_INDEX_DEPTH || indexes.length + listed.length > MAX_LISTED) {
      throw unusable(`its indexes nest more than ${MAX_INDEX_DEPTH} deep, or list more than ${MAX_LISTED} manifests`);
    }
    const document = parseManifest(await this.#read(descriptor, 'manifest'), descriptor.mediaType);
    if (!isIndex(document)) {
      if (!listed.some((each) => each.descriptor.digest === descriptor.digest))
        listed.push({ descriptor, manifest: document });
      return;
    }
    if (indexes.includes(descriptor.digest)) return;
    indexes.push(descriptor.digest);
    for (const child of document.manifests) {
      if (this.#intake.has(child.digest)) await this.#follow(child, indexes, listed, depth + 1);
    }
  }

  /** The manifests for the wanted platforms, and what attests to them. */
  async #wanted(listed: readonly Listed[]): Promise<readonly Listed[]> {
    if (this.#platforms.length === 0) return listed;
    const candidates: Descriptor[] = [];
    for (const { descriptor, manifest } of listed) {
      if (isAttestation(descriptor) || !isImageConfigType(manifest.config.mediaType)) continue;
      candidates.push({ ...descriptor, platform: descriptor.platform ?? platformOf(await this.#config(manifest)) });
    }
    const chosen = new Set(
      this.#platforms.map((platform) => choosePlatform(candidates, this.#host, platform).digest as string),
    );
    return listed.filter(
      ({ descriptor }) => chosen.has(descriptor.digest) || chosen.has(descriptor.annotations?.[ATTESTED_DIGEST] ?? ''),
    );
  }

  /** Makes sure that everything a manifest needs is stored and fits. */
  async #complete(listed: Listed): Promise<StoredManifest> {
    const { descriptor, manifest } = listed;
    const name = `manifest ${descriptor.digest}`;
    const isImage = isImageConfigType(manifest.config.mediaType);
    const kind = isAttestation(descriptor) ? 'attestation' : isImage ? 'image' : 'artifact';
    if (kind !== 'image') {
      for (const blob of [manifest.config, ...manifest.layers]) this.#need(blob, name);
      return describeManifest(this.#layers, listed, kind, undefined);
    }
    const config = await this.#config(manifest);
    checkLayerCount(config, manifest, descriptor.digest);
    for (const layer of manifest.layers) {
      refuseUnusable(layer, name);
      this.#need(layer, name);
      await this.#intake.ensureLayer(layer);
    }
    checkLayers(this.#layers, config, manifest);
    return describeManifest(this.#layers, listed, kind, config);
  }

  async #ofDocker(images: readonly DockerImage[]): Promise<ArrivedImage[]> {
    const found: ArrivedImage[] = [];
    for (const image of images) {
      const layers = [];
      for (const path of image.layers) {
        const file = this.#intake.file(path);
        layers.push({ ...file, compression: await this.#intake.compressionOf(file) });
      }
      const made = makeManifest(this.#intake.file(image.config), layers);
      await this.#wanted([made]);
      this.#lease.add([made.descriptor.digest]);
      await this.#content.putDocument(made.descriptor.digest, made.bytes);
      const manifests = [await this.#complete(made)];
      found.push({ target: made.descriptor, indexes: [], manifests, names: image.tags });
    }
    return found;
  }

  /** Adds on top of which of the other images each was made, as docker's list of contents says. */
  async #withParents(images: readonly ArrivedImage[], listed: readonly DockerImage[]): Promise<ArrivedImage[]> {
    const parents = new Map<Digest, Digest>();
    const ids = new Set(images.flatMap(({ manifests }) => manifests.map(({ configDigest }) => configDigest)));
    for (const { config, parent } of listed) {
      // One that was not saved with it is as good as none.
      if (parent === undefined || !ids.has(parent)) continue;
      const { digest } = this.#intake.file(config);
      const [child, below] = [await this.#readConfig(digest), await this.#readConfig(parent)];
      if (!isStepOn(child, below)) throw unusable(`image ${parent} is not a valid parent of ${digest}`);
      parents.set(digest, parent);
    }
    return images.map((image) => {
      const [first, ...others] = image.manifests;
      const parent = first === undefined || others.length > 0 ? undefined : parents.get(first.configDigest);
      return parent === undefined ? image : { ...image, parent };
    });
  }

  async #readConfig(digest: Digest): Promise<ImageConfig> {
    return parseImageConfig(await this.#content.read(digest), digest);
  }

  async #config({ config }: Manifest): Promise<ImageConfig> {
    return parseImageConfig(await this.#read(config, 'config'), config.digest);
  }

  async #read(descriptor: Descriptor, what: string): Promise<Buffer> {
    if (descriptor.size > MAX_DOCUMENT_BYTES) {
      throw unusable(
        `${what} ${descriptor.digest} has ${descriptor.size} bytes; a document has at most ${MAX_DOCUMENT_BYTES}`,
      );
    }
    this.#need(descriptor, what);
    return this.#content.read(descriptor.digest);
  }

  /** Refuses what lacks a blob. One that another image brought before need not be in the archive again. */
  #need({ digest, size }: Descriptor, by: string): void {
    // Before it is looked for, so that no removal comes in between.
    this.#lease.add([digest]);
    const blob = this.#content.get(digest);
    if (blob === undefined) throw unusable(`blob ${digest} of ${by} is missing`);
    if (blob.size !== size) throw unusable(`blob ${digest} has ${blob.size} bytes, ${by} says ${size}`);
  }
}

/**
 * The name that a descriptor of `index.json` gives its image. A reference name that is a bare word is a tag by OCI's word
 * and a repository by docker's; it names nothing here.
 */
function namesOf({ annotations }: Descriptor): Reference[] {
  const name = annotations?.[NAME_ANNOTATION];
  if (name !== undefined && name !== '') return [tagOf(name)];
  const refName = annotations?.[REF_NAME_ANNOTATION] ?? '';
  return /[:/]/.test(refName) ? [tagOf(refName)] : [];
}

/** The image with the tags that `manifest.json` has for it, where `index.json` has no name. */
function withTags(image: ArrivedImage, tagged: readonly DockerImage[], intake: TakenIn): ArrivedImage {
  if (image.names.length > 0) return image;
  const configs = new Set(image.manifests.map(({ configDigest }) => configDigest));
  const names = tagged.filter(({ tags, config }) => tags.length > 0 && configs.has(intake.file(config).digest));
  return { ...image, names: names.flatMap(({ tags }) => tags) };
}

/** Each image once, with all of its names. A name that two images have would be that of whichever a reader sees last. */
function merged(images: readonly ArrivedImage[]): ArrivedImage[] {
  const byTarget = new Map<Digest, ArrivedImage>();
  const owners = new Map<string, Digest>();
  for (const image of images) {
    const { digest } = image.target;
    const known = byTarget.get(digest);
    const names = image.names.filter((reference) => {
      const name = canonicalString(reference);
      const owner = owners.get(name);
      if (owner !== undefined && owner !== digest) throw unusable(`it gives the name ${name} to two images`);
      owners.set(name, digest);
      return owner === undefined;
    });
    byTarget.set(digest, { ...image, names: [...(known?.names ?? []), ...names] });
  }
  return [...byTarget.values()];
}

/**
 * Whether an image is another one with one step more, or where neither has a history, with layers more: two images that
 * say that each was made on top of the other could never be removed.
 */
function isStepOn(image: ImageConfig, parent: ImageConfig): boolean {
  const [steps, below] = [image.history ?? [], parent.history ?? []];
  const [layers, lower] = [image.rootfs.diff_ids, parent.rootfs.diff_ids];
  if (!lower.every((diffId, at) => diffId === layers[at])) return false;
  if (steps.length === 0 && below.length === 0) return layers.length > lower.length;
  return steps.length === below.length + 1 && isDeepStrictEqual(steps.slice(0, -1), below);
}
