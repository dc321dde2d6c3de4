import { shortId, type Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, ImageConfig, Platform } from '../../protocol/oci.ts';
import type { Database } from '../metadata/database.ts';
import { Documents } from './documents.ts';
import type { Image, StoredManifest } from './image.ts';
import { readListing, type ListedImage } from './listing.ts';
import { toNames, type ImageName, type NameRow } from './name.ts';
import { BEST_NAMED_FIRST } from './precedence.ts';
import { formatPlatform, only, onlyStrict, provides } from './platform.ts';
import { sharedSizes } from './sizes.ts';
import {
  canonicalName,
  familiarString,
  parseAnyReference,
  storableDigest,
  withDefaultTag,
  type Reference,
} from '../../protocol/reference.ts';

/** An image to be written, all of whose blobs and layers are committed. */
export interface NewImage {
  readonly target: Pick<Descriptor, 'digest' | 'mediaType' | 'size'>;
  /** The manifests that are stored; of an image that is there already, those that are added. */
  readonly manifests: readonly StoredManifest[];
  /** Every blob the image holds: indexes, manifests, configs, layers. */
  readonly blobs: readonly Digest[];
  /** Canonical: `docker.io/library/redis`. */
  readonly repository: string;
  readonly tag?: string | undefined;
  /** Whether the target is known in the repository by its digest: true for what was pulled from there. */
  readonly byDigest: boolean;
  /** Digest of the config of the preferred manifest. */
  readonly imageId: Digest;
  /** The manifest preferred for this host among those given. */
  readonly manifest: Digest;
}

/** What writing an image changed. */
export interface PutResult {
  /** What the tag pointed to before. */
  readonly previous: Digest | undefined;
  /** False where everything, the name too, was there already. */
  readonly changed: boolean;
}

/** An image as a name found it: `id` and `manifest` are those of the manifest that was asked for. */
export interface FoundImage extends Image {
  /** The manifest's image config; undefined for an artifact, whose config is its own affair. */
  readonly config: Digest | undefined;
  /** The image ID it is listed under: that of the manifest preferred for this host. */
  readonly listedId: Digest;
  /** Whether it was found by an identifier or the start of one, rather than by a reference. */
  readonly byId: boolean;
}

/** A stored manifest's row, without its layers. */
export type ManifestRow = Omit<StoredManifest, 'layers'>;

/** The image ID of a manifest: its config's digest; of an artifact, many of which have the same empty config, its own. */
export function imageIdOf(manifest: Pick<StoredManifest, 'digest' | 'configDigest' | 'kind'>): Digest {
  return manifest.kind === 'image' ? manifest.configDigest : manifest.digest;
}

/** A row of `image` with a manifest `m` of it, as {@link FoundImage}. */
const FOUND = `image.target, image.media_type AS mediaType, image.bytes, image.image_id AS listedId,
  m.digest AS manifest, CASE m.kind WHEN 'image' THEN m.config_digest ELSE m.digest END AS id,
  CASE m.kind WHEN 'image' THEN m.config_digest END AS config`;
const PREFERRED = 'JOIN manifest m ON m.digest = image.manifest';
const STORED = 'JOIN image_manifest im ON im.target = image.target JOIN manifest m ON m.digest = im.manifest';

const MANIFEST_COLUMNS =
  'digest, manifest.media_type, manifest.bytes, kind, config_digest, size, content_size, platform, labels, created';

interface ManifestColumns {
  readonly digest: Digest;
  readonly media_type: string;
  readonly bytes: number;
  readonly kind: StoredManifest['kind'];
  readonly config_digest: Digest;
  readonly size: number;
  readonly content_size: number;
  readonly platform: string | null;
  readonly labels: string | null;
  readonly created: string | null;
}

interface FoundRow extends Omit<FoundImage, 'config' | 'byId'> {
  readonly config: Digest | null;
}

/**
 * The images and their names, on the metadata. Several targets can have one image ID (the same image in two indexes);
 * they are one image to the user, listed once with the names of all of them, as in dockerd.
 */
export class ImageStore {
  readonly db: Database;
  readonly documents: Documents;
  readonly #host: Platform;
  readonly #now: () => number;
  readonly #layerPath: ((diffId: Digest) => string) | undefined;
  readonly #watches = new Set<Set<Digest>>();
  #listing: readonly ListedImage[] | undefined;
  #sharedSizes: ReadonlyMap<Digest, number> | undefined;

  constructor(options: {
    db: Database;
    readBlob: (digest: Digest) => Promise<Buffer>;
    host: Platform;
    now?: () => number;
    /** The file of a layer's EROFS image, for those who inspect an image. */
    layerPath?: (diffId: Digest) => string;
  }) {
    this.db = options.db;
    this.documents = new Documents(options.readBlob);
    this.#host = options.host;
    this.#now = options.now ?? Date.now;
    this.#layerPath = options.layerPath;
  }

  /** Unix milliseconds. */
  now(): number {
    return this.#now();
  }

  layerPath(diffId: Digest): string | undefined {
    return this.#layerPath?.(diffId);
  }

  /**
   * Writes an image and its name. Manifests are added to an image that is there already, such as another platform of
   * its index. A tag that pointed elsewhere moves, and what it leaves stays. May be part of the caller's transaction.
   */
  put(image: NewImage): PutResult {
    return this.db.transaction(() => {
      const { target, repository, tag } = image;
      this.#wanted(target.digest);
      const now = this.#now();
      for (const manifest of image.manifests) this.#putManifest(manifest, now);
      this.db.run(
        'INSERT OR IGNORE INTO image (target, media_type, bytes, image_id, manifest, stored_at) VALUES (?, ?, ?, ?, ?, ?)',
        target.digest,
        target.mediaType,
        target.size,
        image.imageId,
        image.manifest,
        now,
      );
      let changed = false;
      for (const { digest } of image.manifests) {
        const { changes } = this.db.run(
          'INSERT OR IGNORE INTO image_manifest (target, manifest) VALUES (?, ?)',
          target.digest,
          digest,
        );
        changed ||= changes > 0;
      }
      for (const blob of image.blobs) {
        this.db.run('INSERT OR IGNORE INTO image_blob (target, digest) VALUES (?, ?)', target.digest, blob);
      }
      this.preferManifest(target.digest);
      this.used(target.digest);
      if (image.byDigest) {
        const { changes } = this.db.run(
          'INSERT OR IGNORE INTO repo_digest (repository, target) VALUES (?, ?)',
          repository,
          target.digest,
        );
        // A pull by tag that only learns the digest's name has brought nothing new.
        changed ||= changes > 0 && tag === undefined;
      }
      if (tag === undefined) return { previous: undefined, changed };
      const previous = this.#tagTarget(repository, tag);
      if (previous === target.digest) return { previous, changed };
      this.tag(repository, tag, target.digest);
      return { previous, changed: true };
    });
  }

  /** Points a tag to a stored image, as of now. Part of the caller's transaction. */
  tag(repository: string, tag: string, target: Digest): void {
    this.#wanted(target);
    this.used(target);
    this.db.run(
      `INSERT INTO tag (repository, tag, target, tagged_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (repository, tag) DO UPDATE SET target = excluded.target, tagged_at = excluded.tagged_at`,
      repository,
      tag,
      target,
      this.#now(),
    );
  }

  /** Notes that an image is of use to somebody, as of now. Part of the caller's transaction. */
  used(target: Digest): void {
    this.db.run('UPDATE image SET used_at = ? WHERE target = ?', this.#now(), target);
  }

  /** When each image was last used, in Unix milliseconds, by the ID it is listed under. */
  lastUses(): ReadonlyMap<Digest, number> {
    const rows = this.db.all<{ id: Digest; usedAt: number }>(
      'SELECT image_id AS id, MAX(used_at) AS usedAt FROM image GROUP BY image_id',
    );
    return new Map(rows.map(({ id, usedAt }) => [id, usedAt]));
  }

  /** Sets which of an image's stored manifests stands for it: the best for this host, else the one that did before. */
  preferManifest(target: Digest): void {
    const manifests = this.manifests(target).filter((manifest) => manifest.kind !== 'attestation');
    const current = this.db.get<{ manifest: Digest }>('SELECT manifest FROM image WHERE target = ?', target)?.manifest;
    const matcher = only(this.#host);
    const rank = (manifest: ManifestRow): number =>
      (manifest.platform === undefined ? undefined : matcher.rank(manifest.platform)) ?? Infinity;
    const isBetter = (one: ManifestRow, other: ManifestRow): boolean =>
      rank(one) < rank(other) || (rank(one) === rank(other) && one.digest === current);
    const [first, ...rest] = manifests;
    if (first === undefined) return;
    const best = rest.reduce((better, manifest) => (isBetter(manifest, better) ? manifest : better), first);
    this.db.run('UPDATE image SET manifest = ?, image_id = ? WHERE target = ?', best.digest, imageIdOf(best), target);
  }

  /**
   * Finds the image that a user names: by reference, else by image ID, manifest digest or index digest, or the start of
   * one in hex. With a platform, that platform's manifest of it. Throws `not-found`, or `invalid` for what is no name.
   */
  resolve(name: string, platform?: Platform): FoundImage {
    const { reference, digest } = parseAnyReference(name);
    const row =
      reference === undefined
        ? this.#identified(storableDigest(digest), name)
        : (this.#named(reference) ?? this.#identified(name, name));
    if (row === undefined) {
      throw new LayerdError(
        'not-found',
        `No such image: ${reference === undefined ? digest : familiarString(withDefaultTag(reference))}`,
      );
    }
    if (platform === undefined) return row;
    const [best] = this.manifestsFor(row, name, platform);
    return { ...row, id: best.configDigest, config: best.configDigest, manifest: best.digest };
  }

  /** The names of the image that is listed under the ID, tags of a repository before its digests. */
  names(listedId: Digest): ImageName[] {
    return toNames(
      this.db.all<NameRow>(
        `SELECT repository, tag, target, tagged_at FROM tag JOIN image USING (target) WHERE image_id = ?1
         UNION ALL
         SELECT repository, NULL, target, NULL FROM repo_digest JOIN image USING (target) WHERE image_id = ?1`,
        listedId,
      ),
    );
  }

  /** The names of all images: returns what gives those of one by its targets. */
  allNames(): (targets: readonly Digest[]) => ImageName[] {
    const rows = this.db.all<NameRow>(
      `SELECT repository, tag, target, tagged_at FROM tag
       UNION ALL
       SELECT repository, NULL, target, NULL FROM repo_digest`,
    );
    const byTarget = Map.groupBy(rows, (row) => row.target);
    return (targets) => toNames(targets.flatMap((target) => byTarget.get(target) ?? []));
  }

  /**
   * All images, for lists: dashboards ask for them all the time, so they are kept until something changes. Not to be
   * called in a transaction, whose changes may yet be undone.
   */
  listing(): readonly ListedImage[] {
    this.#listing ??= readListing(this.db, this.allNames());
    return this.#listing;
  }

  /** How many images there are in lists. */
  count(): number {
    return this.db.get<{ count: number }>('SELECT count(DISTINCT image_id) AS count FROM image')?.count ?? 0;
  }

  /** The bytes of each image that others hold too, by the ID it is listed under; kept like the {@link listing}. */
  sharedSizes(): ReadonlyMap<Digest, number> {
    this.#sharedSizes ??= sharedSizes(this.db);
    return this.#sharedSizes;
  }

  /** Says that images or names are about to change in this transaction. */
  changed(): void {
    this.#listing = undefined;
    this.#sharedSizes = undefined;
  }

  /** Gathers the targets that somebody pulls, loads or tags from now on, though all of it was there, until disposed of. */
  watch(): { readonly targets: ReadonlySet<Digest> } & Disposable {
    const targets = new Set<Digest>();
    this.#watches.add(targets);
    return { targets, [Symbol.dispose]: () => void this.#watches.delete(targets) };
  }

  /** Whether the blob is stored. */
  hasBlob(digest: Digest): boolean {
    return this.db.get('SELECT 1 FROM blob WHERE digest = ? AND damage IS NULL', digest) !== undefined;
  }

  /** Whether an image with the config is stored, by whatever name and in whatever manifest. */
  hasConfig(digest: Digest): boolean {
    return this.db.get(`SELECT 1 FROM manifest WHERE config_digest = ? AND kind = 'image'`, digest) !== undefined;
  }

  /** The targets that are one image to the user, the one that stands for it first. */
  targets(listedId: Digest): Digest[] {
    return this.db
      .all<{ target: Digest }>(`SELECT target FROM image WHERE image_id = ? ORDER BY ${BEST_NAMED_FIRST}`, listedId)
      .map(({ target }) => target);
  }

  /** The image that an image was made on top of, by image ID; undefined where that is not known, or not stored. */
  parent(id: Digest): Digest | undefined {
    return this.db.get<{ parent: Digest }>(
      'SELECT parent FROM parent WHERE image_id = ? AND EXISTS (SELECT 1 FROM image WHERE image.image_id = parent)',
      id,
    )?.parent;
  }

  /** Whether a stored image was made on top of it. */
  hasChildren(id: Digest): boolean {
    return this.db.get('SELECT 1 FROM parent JOIN image USING (image_id) WHERE parent = ?', id) !== undefined;
  }

  /** Notes on top of which image another was made. Part of the caller's transaction. */
  setParent(id: Digest, parent: Digest): void {
    this.changed();
    this.db.run('INSERT OR REPLACE INTO parent (image_id, parent) VALUES (?, ?)', id, parent);
  }

  /** The manifests that a target has stored. */
  manifests(target: Digest): ManifestRow[] {
    return this.db
      .all<ManifestColumns>(
        `SELECT ${MANIFEST_COLUMNS} FROM image_manifest JOIN manifest ON manifest.digest = manifest
         WHERE target = ? ORDER BY digest`,
        target,
      )
      .map(manifestRow);
  }

  /** The manifests that an image has stored, whichever of its targets holds them. */
  storedManifests(listedId: Digest): ManifestRow[] {
    return this.db
      .all<ManifestColumns>(
        `SELECT DISTINCT ${MANIFEST_COLUMNS}
         FROM image JOIN image_manifest USING (target) JOIN manifest ON manifest.digest = image_manifest.manifest
         WHERE image_id = ? ORDER BY digest`,
        listedId,
      )
      .map(manifestRow);
  }

  /**
   * The manifests of a stored image that are for the platform, best first: of the one target that a reference names; of
   * an image that was found by an identifier, those of all its targets. Throws `not-found` when there is none.
   */
  manifestsFor(
    found: Pick<FoundImage, 'target' | 'listedId' | 'byId'>,
    name: string,
    platform: Platform,
  ): [ManifestRow, ...ManifestRow[]] {
    const own = this.manifests(found.target);
    const siblings = found.byId ? this.storedManifests(found.listedId) : [];
    const stored = new Map([...own, ...siblings].map((manifest) => [manifest.digest, manifest]));
    const images = [...stored.values()].filter((manifest) => manifest.platform !== undefined);
    const matcher = onlyStrict(platform);
    const rank = (manifest: ManifestRow): number =>
      manifest.platform === undefined ? Infinity : (matcher.rank(manifest.platform) ?? Infinity);
    const [best, ...others] = images
      .filter((manifest) => manifest.platform !== undefined && provides(manifest.platform, platform))
      .toSorted((one, other) => compare(rank(one), rank(other)));
    if (best !== undefined) return [best, ...others];
    const platforms = images.flatMap((manifest) => (manifest.platform === undefined ? [] : [manifest.platform]));
    throw new LayerdError(
      'not-found',
      `image with reference ${name} was found but does not provide the specified platform (${formatPlatform(platform)})` +
        (platforms.length === 0 ? '' : `; stored of it is ${platforms.map(formatPlatform).join(', ')}`),
    );
  }

  #wanted(target: Digest): void {
    this.changed();
    for (const targets of this.#watches) targets.add(target);
  }

  #putManifest(manifest: StoredManifest, now: number): void {
    const { changes } = this.db.run(
      `INSERT OR IGNORE INTO manifest
         (digest, media_type, bytes, kind, config_digest, size, content_size, platform, labels, created, stored_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      manifest.digest,
      manifest.mediaType,
      manifest.bytes,
      manifest.kind,
      manifest.configDigest,
      manifest.size,
      manifest.contentSize,
      manifest.platform === undefined ? null : JSON.stringify(manifest.platform),
      JSON.stringify(manifest.labels),
      manifest.created ?? null,
      now,
    );
    if (changes === 0) return;
    manifest.layers.forEach((layer, position) => {
      this.db.run(
        `INSERT INTO manifest_layer (manifest, position, digest, diff_id, chain_id, media_type, bytes)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
        manifest.digest,
        position,
        layer.digest,
        layer.diffId ?? null,
        layer.chainId ?? null,
        layer.mediaType,
        layer.bytes,
      );
    });
  }

  #tagTarget(repository: string, tag: string): Digest | undefined {
    return this.db.get<{ target: Digest }>('SELECT target FROM tag WHERE repository = ? AND tag = ?', repository, tag)
      ?.target;
  }

  /** Finds an image by its name. The digest of one that has both tag and digest decides, as in dockerd. */
  #named(reference: Reference): FoundImage | undefined {
    const repository = canonicalName(reference);
    const { tag, digest } = withDefaultTag(reference);
    const row =
      digest === undefined
        ? this.db.get<FoundRow>(
            `SELECT ${FOUND} FROM tag JOIN image USING (target) ${PREFERRED} WHERE repository = ? AND tag = ?`,
            repository,
            tag ?? null,
          )
        : this.db.get<FoundRow>(
            `SELECT ${FOUND} FROM repo_digest JOIN image USING (target) ${PREFERRED}
             WHERE repository = ? AND repo_digest.target = ?`,
            repository,
            storableDigest(digest),
          );
    return row === undefined ? undefined : { ...row, config: row.config ?? undefined, byId: false };
  }

  /**
   * Finds an image by an identifier or its start. Image IDs go first, so that a short one that is unique among them
   * stays so whatever digests there are.
   */
  #identified(identifier: string, name: string): FoundImage | undefined {
    const start = /^(?:sha256:)?([a-f0-9]{1,64})$/.exec(identifier)?.[1];
    if (start === undefined) return undefined;
    // Every identifier with the start lies between it and it followed by a letter that is no hex digit.
    const range = [`sha256:${start}`, `sha256:${start}g`] as const;
    const bestFirst = `ORDER BY ${BEST_NAMED_FIRST}`;
    const byImageId = this.db.all<FoundRow & { identifier: Digest }>(
      `SELECT ${FOUND}, image_id AS identifier FROM image ${PREFERRED} WHERE image_id >= ? AND image_id < ? ${bestFirst}`,
      ...range,
    );
    const rows =
      byImageId.length > 0
        ? byImageId
        : [
            ...this.db.all<FoundRow & { identifier: Digest }>(
              `SELECT ${FOUND}, target AS identifier FROM image ${PREFERRED} WHERE target >= ? AND target < ? ${bestFirst}`,
              ...range,
            ),
            ...['digest', 'config_digest'].flatMap((column) =>
              this.db.all<FoundRow & { identifier: Digest }>(
                `SELECT ${FOUND}, m.${column} AS identifier FROM image ${STORED}
                 WHERE m.${column} >= ? AND m.${column} < ? AND m.kind <> 'attestation' ${bestFirst}`,
                ...range,
              ),
            ),
          ];
    const identifiers = new Set(rows.map((row) => row.identifier));
    if (identifiers.size > 1) {
      const some = [...identifiers].slice(0, 3).map(shortId).join(', ');
      throw new LayerdError(
        'not-found',
        `No such image: ${name}: ${identifiers.size} identifiers start so (${some}…), give more of the one you mean`,
      );
    }
    const [row] = rows;
    if (row === undefined) return undefined;
    const { identifier: _, ...image } = row;
    return { ...image, config: image.config ?? undefined, byId: true };
  }
}

function manifestRow(row: ManifestColumns): ManifestRow {
  return {
    digest: row.digest,
    mediaType: row.media_type,
    bytes: row.bytes,
    kind: row.kind,
    configDigest: row.config_digest,
    size: row.size,
    contentSize: row.content_size,
    platform: row.platform === null ? undefined : (JSON.parse(row.platform) as Platform),
    labels: JSON.parse(row.labels ?? '{}') as Record<string, string>,
    created: row.created ?? undefined,
  };
}

/** The config of an image that was found; an artifact has none that anything is known of. */
export async function readConfig(store: ImageStore, image: FoundImage): Promise<Partial<Readonly<ImageConfig>>> {
  return image.config === undefined ? {} : store.documents.read<ImageConfig>(image.config);
}

function compare<T extends string | number>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/**
 * The repositories, by canonical name, that an image is in which somebody names: of a reference its own, of an identifier all
 * that the image has names in. Undefined where it has none, or is not there and no reference.
 */
export function repositoriesOf(store: ImageStore, name: string): readonly string[] | undefined {
  const { reference } = parseAnyReference(name);
  let found: FoundImage | undefined;
  try {
    found = store.resolve(name);
  } catch (error) {
    if (!isKind(error, 'not-found')) throw error;
  }
  if (found?.byId !== true) return reference === undefined ? undefined : [canonicalName(reference)];
  const repositories = new Set(store.names(found.listedId).map(({ reference: each }) => canonicalName(each)));
  return repositories.size === 0 ? undefined : [...repositories];
}
