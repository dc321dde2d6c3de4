import { hexOf, shortId, type Digest } from '../../protocol/digest.ts';
import type { DeleteItem } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Freed } from '../content/garbage.ts';
import type { NewEvent } from '../events/event.ts';
import type { Database } from '../metadata/database.ts';
import {
  canonicalName,
  familiarString,
  parseReference,
  withDefaultTag,
  type Reference,
} from '../../protocol/reference.ts';
import type { ImageName } from './name.ts';
import type { ImagePins } from './pins.ts';
import { formatPlatform } from './platform.ts';
import { BEST_NAMED_FIRST } from './precedence.ts';
import { imageIdOf, type FoundImage, type ImageStore, type ManifestRow } from './store.ts';

/** The manifests that each attestation is about. */
export type Attested = ReadonlyMap<Digest, ReadonlySet<Digest>>;

export interface RemoveOptions {
  /** Removes the image with all its names, though they are in several repositories, and though somebody holds it. */
  readonly force?: boolean;
  /** Keeps the images without a name that the image was made on top of. */
  readonly noPrune?: boolean;
  /** Removes the manifests for these platforms alone, as long as others remain. */
  readonly platforms?: readonly Platform[];
  /** What attestations are about: they go with the platforms that they are about. */
  readonly attested?: Attested;
}

/** Frees, among the candidates, what nothing holds any more. Part of the caller's transaction. */
export type Collect = (candidates: Digest[]) => Freed;

/** What was done, in order, and the bytes of the disk that it freed. */
export interface Removal {
  readonly done: DeleteItem[];
  readonly bytes: number;
}

/** A layer of a removed manifest. */
interface RemovedLayer {
  readonly diff_id: Digest;
  readonly chain_id: Digest;
}

/**
 * Removes names, and with the last one the image and what nothing else holds: all of it in one transaction, so that no
 * pull can come in between, with the events that tell of it. Follows dockerd in what it refuses and what it says.
 */
export class ImageRemover {
  readonly #store: ImageStore;
  readonly #db: Database;
  readonly #events: { append(event: NewEvent): unknown };
  readonly #collect: Collect;
  readonly #pins: ImagePins;

  constructor(options: {
    store: ImageStore;
    events: { append(event: NewEvent): unknown };
    collect: Collect;
    pins: ImagePins;
  }) {
    this.#store = options.store;
    this.#db = options.store.db;
    this.#events = options.events;
    this.#collect = options.collect;
    this.#pins = options.pins;
  }

  /**
   * Removes what the name stands for, and returns what was done, in order. By a reference: that name, with the last tag
   * of a repository its digests there, and the image when no name is left. By an identifier: the image with all its
   * names, which must be in one repository unless it is forced; but by one of a single platform of it that platform
   * alone, as long as others remain. Throws `not-found`, `conflict` or `invalid`.
   */
  remove(name: string, options: RemoveOptions = {}): DeleteItem[] {
    // Removing is how a full disk gets space again.
    return this.#db.essential(() => {
      this.#store.changed();
      const found = this.#store.resolve(name);
      const removed =
        (options.platforms ?? []).length > 0
          ? this.#removePlatforms(found, name, options)
          : this.#removeIdentified(found, name, options);
      return removed ?? this.#remove(found, name, options);
    });
  }

  /** Removes an image with all its names, in however many repositories. Part of the caller's transaction. */
  removeListed(listedId: Digest): Removal {
    this.#store.changed();
    const row = this.#db.get<{ manifest: Digest }>(
      `SELECT manifest FROM image WHERE image_id = ? ORDER BY ${BEST_NAMED_FIRST} LIMIT 1`,
      listedId,
    );
    return row === undefined ? { done: [], bytes: 0 } : this.#removeWhole(listedId, row.manifest, false);
  }

  #remove(found: FoundImage, name: string, { force = false, noPrune = false }: RemoveOptions): DeleteItem[] {
    const done: DeleteItem[] = [];
    const id = found.listedId;
    const labels = this.#labels(id, found.manifest);
    let names = this.#store.names(id);
    // Before any name is taken away, by which it may be held.
    const held = this.#pins.holders(id);
    const untag = (removed: ImageName, called = familiarString(removed.reference)): void => {
      this.#deleteName(removed);
      names = names.filter((other) => other !== removed);
      done.push({ Untagged: called });
    };

    if (!isIdentifier(found, name)) {
      const reference = withDefaultTag(parseReference(name));
      const named = names.find((each) => isSameName(each.reference, reference));
      if (!force) refuseHeld(named === undefined ? [] : this.#pins.holdersOfName(named.reference), name);
      if (named !== undefined) untag(named, familiarString(reference));
      this.#append('untag', id, labels);
      const inRepository = names.filter((each) => canonicalName(each.reference) === canonicalName(reference));
      if (reference.digest === undefined && inRepository.every((each) => each.reference.tag === undefined)) {
        for (const each of inRepository) {
          // One that somebody goes by stays, and with it the image.
          if (force || this.#pins.holdersOfName(each.reference).length === 0) untag(each);
        }
      }
      if (names.length > 0) {
        this.#deleteNameless(id);
        return done;
      }
      // It stays as a step of others.
      if (this.#store.hasChildren(id)) return done;
      if (!force) refuseHeld(held, name);
    } else if (this.#store.hasChildren(id)) {
      throw new LayerdError(
        'conflict',
        `conflict: unable to delete ${shortId(id)} (cannot be forced) - image has dependent child images`,
      );
    } else if (names.length > 0 && !force && !areOneReference(names)) {
      throw new LayerdError(
        'conflict',
        `conflict: unable to delete ${shortId(id)} (must be forced) - image is referenced in multiple repositories`,
      );
    } else if (!force) refuseHeld(held, shortId(id));
    return [...done, ...this.#removeWhole(id, found.manifest, noPrune).done];
  }

  /**
   * Removes an image with the names it has left, and what was left of images below it that were steps of this one alone.
   * One that is a step of others loses its names and stays.
   */
  #removeWhole(id: Digest, manifest: Digest, noPrune: boolean): Removal {
    const labels = this.#labels(id, manifest);
    const done: DeleteItem[] = [];
    for (const name of this.#store.names(id)) {
      this.#deleteName(name);
      this.#append('untag', id, labels);
      done.push({ Untagged: familiarString(name.reference) });
    }
    if (this.#store.hasChildren(id)) return { done, bytes: 0 };
    let parent = noPrune ? undefined : this.#store.parent(id);
    let { bytes } = this.#deleteNamelessImage(id, manifest, labels, done);
    const isLeftOver = (image: Digest): boolean =>
      this.#store.names(image).length === 0 &&
      !this.#store.hasChildren(image) &&
      this.#pins.holders(image).length === 0;
    while (parent !== undefined && isLeftOver(parent)) {
      const step = this.#store.resolve(parent);
      const above = this.#store.parent(parent);
      bytes += this.#deleteNamelessImage(parent, step.manifest, this.#labels(parent, step.manifest), done).bytes;
      parent = above;
    }
    return { done, bytes };
  }

  /** Deletes an image that has lost its last name. Of its layers those of the manifest are told first. */
  #deleteNamelessImage(
    id: Digest,
    manifest: Digest,
    labels: Readonly<Record<string, string>>,
    done: DeleteItem[],
  ): Freed {
    const targets = this.#store.targets(id);
    const layers = [...new Set([manifest, ...targets.flatMap((target) => this.#manifests(target))])].flatMap((each) =>
      this.#layers(each),
    );
    const freed = this.#deleteImages(targets);
    this.#db.run('DELETE FROM parent WHERE image_id = ?', id);
    this.#append('delete', id, labels);
    done.push({ Deleted: id }, ...deletedLayers(layers, new Set(freed.layers)));
    return freed;
  }

  /** Removes the manifests for the platforms; undefined, and nothing is done, where no other would remain. */
  #removePlatforms(
    found: FoundImage,
    name: string,
    { platforms = [], attested = new Map(), force }: RemoveOptions,
  ): DeleteItem[] | undefined {
    const removed = platforms.map((platform) => this.#store.manifestsFor(found, name, platform)[0]);
    const [parts, wholes] = this.#holders(removed, this.#store.targets(found.listedId));
    // By a reference only what it names counts; by an identifier all targets of the image do.
    if (found.byId ? parts.length === 0 : wholes.includes(found.target)) return undefined;
    if (found.byId && wholes.length > 0) throw this.#ambiguous(name, removed, [...parts, ...wholes]);
    if (force !== true) this.#refuseHeldManifests(removed, name);
    return this.#removeManifests(removed, parts, attested);
  }

  /**
   * Removes the manifests of a single platform that an identifier of their own names; undefined, and nothing is done,
   * where it is one of the whole image, or where no other platform would remain.
   */
  #removeIdentified(
    found: FoundImage,
    name: string,
    { attested = new Map(), force }: RemoveOptions,
  ): DeleteItem[] | undefined {
    const { byId, listedId, target, manifest } = found;
    if (!byId || begins(listedId, name) || begins(target, name)) return undefined;
    const isNamed = (each: ManifestRow): boolean =>
      begins(manifest, name) ? each.digest === manifest : imageIdOf(each) === found.id;
    const removed = this.#store.storedManifests(listedId).filter(isNamed);
    const [parts, wholes] = this.#holders(removed, this.#targetsWith(removed));
    if (parts.length === 0) return undefined;
    const images = new Set(this.#store.targets(listedId));
    if (wholes.length > 0 || parts.some((part) => !images.has(part))) {
      throw this.#ambiguous(name, removed, [...parts, ...wholes]);
    }
    if (force !== true) this.#refuseHeldManifests(removed, name);
    return this.#removeManifests(removed, parts, attested);
  }

  #refuseHeldManifests(removed: readonly ManifestRow[], name: string): void {
    const holders = removed.flatMap(({ digest }) => this.#pins.holdersOfManifest(digest));
    refuseHeld([...new Set(holders)], name);
  }

  /** The targets that hold any of the manifests: those that hold other images too, and those of which they are all. */
  #holders(manifests: readonly ManifestRow[], targets: readonly Digest[]): [parts: Digest[], wholes: Digest[]] {
    const removed = new Set(manifests.map(({ digest }) => digest));
    const parts: Digest[] = [];
    const wholes: Digest[] = [];
    for (const target of targets) {
      const stored = this.#store.manifests(target);
      if (!stored.some(({ digest }) => removed.has(digest))) continue;
      const keeps = stored.some(({ digest, kind }) => !removed.has(digest) && kind !== 'attestation');
      (keeps ? parts : wholes).push(target);
    }
    return [parts, wholes];
  }

  /** Removes manifests from the targets, each of which has others, and what attests to them. */
  #removeManifests(manifests: readonly ManifestRow[], targets: readonly Digest[], attested: Attested): DeleteItem[] {
    const images = new Map(manifests.map((manifest) => [manifest.digest, manifest]));
    const stored = new Map(targets.flatMap((target) => this.#store.manifests(target)).map((row) => [row.digest, row]));
    const goes = ({ digest }: ManifestRow): boolean => {
      // What attests to another that stays, stays.
      const about = [...(attested.get(digest) ?? [digest])].filter((each) => stored.has(each));
      return about.length > 0 && about.every((each) => images.has(each));
    };
    const removed = new Map([...stored].filter(([, manifest]) => goes(manifest)));
    const blobs = [...removed.values()].flatMap((manifest) => this.#blobs(manifest));
    const layers = [...images.keys()].map((manifest) => this.#layers(manifest));
    for (const target of targets) {
      for (const manifest of removed.keys()) {
        this.#db.run('DELETE FROM image_manifest WHERE target = ? AND manifest = ?', target, manifest);
      }
      const kept = new Set(this.#store.manifests(target).flatMap((manifest) => this.#blobs(manifest)));
      for (const blob of blobs) {
        if (!kept.has(blob)) this.#db.run('DELETE FROM image_blob WHERE target = ? AND digest = ?', target, blob);
      }
      this.#store.preferManifest(target);
    }
    for (const manifest of removed.keys()) this.#deleteUnusedManifest(manifest);
    const freed = new Set(this.#collect(blobs).layers);
    return [...images.values()].flatMap((manifest, index) => {
      this.#append('delete', imageIdOf(manifest), manifest.labels);
      return [{ Deleted: imageIdOf(manifest) }, ...deletedLayers(layers[index] ?? [], freed)];
    });
  }

  /** Refuses to guess of which of several targets a platform is meant to be removed. */
  #ambiguous(name: string, removed: readonly ManifestRow[], targets: readonly Digest[]): LayerdError {
    const names = this.#store.allNames();
    const held = targets.map((target) => {
      const [first] = names([target]);
      return first === undefined ? shortId(target) : familiarString(first.reference);
    });
    const platforms = new Set(
      removed.flatMap(({ platform }) => (platform === undefined ? [] : formatPlatform(platform))),
    );
    const command = ['docker rmi', ...[...platforms].map((platform) => `--platform ${platform}`), held[0] ?? ''].join(
      ' ',
    );
    return new LayerdError(
      'conflict',
      `conflict: unable to delete ${name} - it is part of several images (${held.join(', ')}): remove it from each by name, such as ${command}`,
    );
  }

  #append(action: 'untag' | 'delete', id: Digest, labels: Readonly<Record<string, string>>): void {
    this.#events.append({ type: 'image', action, actor: id, attributes: { ...labels, name: id } });
  }

  #labels(listedId: Digest, manifest: Digest): Readonly<Record<string, string>> {
    return this.#store.storedManifests(listedId).find(({ digest }) => digest === manifest)?.labels ?? {};
  }

  #deleteName({ reference, target }: ImageName): void {
    const repository = canonicalName(reference);
    if (reference.tag === undefined) {
      this.#db.run('DELETE FROM repo_digest WHERE repository = ? AND target = ?', repository, target);
    } else {
      this.#db.run('DELETE FROM tag WHERE repository = ? AND tag = ?', repository, reference.tag);
    }
  }

  /** Of the targets that are one image to the user, removes those that have lost their last name. */
  #deleteNameless(id: Digest): void {
    const named = new Set(this.#store.names(id).map(({ target }) => target));
    this.#deleteImages(this.#store.targets(id).filter((target) => !named.has(target)));
  }

  /** The targets that hold any of the manifests, whichever images they are of. */
  #targetsWith(manifests: readonly ManifestRow[]): Digest[] {
    const targets = manifests.flatMap(({ digest }) =>
      this.#db.all<{ target: Digest }>('SELECT target FROM image_manifest WHERE manifest = ?', digest),
    );
    return [...new Set(targets.map(({ target }) => target))];
  }

  #manifests(target: Digest): Digest[] {
    return this.#db
      .all<{ manifest: Digest }>('SELECT manifest FROM image_manifest WHERE target = ? ORDER BY manifest', target)
      .map(({ manifest }) => manifest);
  }

  /** The layers of a manifest, top first. */
  #layers(manifest: Digest): RemovedLayer[] {
    return this.#db.all<RemovedLayer>(
      `SELECT diff_id, chain_id FROM manifest_layer
       WHERE manifest = ? AND diff_id IS NOT NULL AND chain_id IS NOT NULL ORDER BY position DESC`,
      manifest,
    );
  }

  /** A manifest, its config and its layer blobs. */
  #blobs({ digest, configDigest }: ManifestRow): Digest[] {
    const layers = this.#db.all<{ digest: Digest }>('SELECT digest FROM manifest_layer WHERE manifest = ?', digest);
    return [digest, configDigest, ...layers.map((layer) => layer.digest)];
  }

  /** Deletes images that have no name left; returns what went with them. */
  #deleteImages(targets: readonly Digest[]): Freed {
    const released = targets.flatMap((target) => {
      const manifests = this.#manifests(target);
      const blobs = this.#db.all<{ digest: Digest }>('SELECT digest FROM image_blob WHERE target = ?', target);
      this.#db.run('DELETE FROM image WHERE target = ?', target);
      for (const manifest of manifests) this.#deleteUnusedManifest(manifest);
      return blobs.map(({ digest }) => digest);
    });
    return this.#collect(released);
  }

  #deleteUnusedManifest(manifest: Digest): void {
    this.#db.run(
      'DELETE FROM manifest WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM image_manifest WHERE manifest = ?1)',
      manifest,
    );
  }
}

/** Refuses to remove what somebody holds. */
function refuseHeld(holders: readonly string[], name: string): void {
  if (holders.length === 0) return;
  throw new LayerdError(
    'conflict',
    `conflict: unable to delete ${name} (must be forced) - it is pinned by ${holders.join(', ')}: unpin it there, or force it with -f`,
  );
}

/** Whether the user named the image by an identifier. The start of its image ID is one though a tag be called so too. */
function isIdentifier({ byId, listedId }: FoundImage, name: string): boolean {
  return byId || begins(listedId, name);
}

/** Whether an identifier as users write it is the digest or the start of it. */
function begins(digest: Digest, identifier: string): boolean {
  return digest.startsWith(identifier) || hexOf(digest).startsWith(identifier);
}

/** Whether the names are one tag at most, and digests in the same repository. */
function areOneReference(names: readonly ImageName[]): boolean {
  const repositories = new Set(names.map(({ reference }) => canonicalName(reference)));
  return repositories.size === 1 && names.filter(({ reference }) => reference.tag !== undefined).length <= 1;
}

/** Whether a name is the one that was given; of one with tag and digest the digest counts. */
function isSameName(name: Reference, given: Reference): boolean {
  const isSame = given.digest === undefined ? name.tag === given.tag : name.digest === given.digest;
  return isSame && canonicalName(name) === canonicalName(given);
}

/** The chain IDs of the layers that were freed, each once. */
function deletedLayers(layers: readonly RemovedLayer[], freed: ReadonlySet<Digest>): DeleteItem[] {
  const chainIds = layers.filter((layer) => freed.has(layer.diff_id)).map((layer) => layer.chain_id);
  return [...new Set(chainIds)].map((chainId) => ({ Deleted: chainId }));
}
