import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDigest, type Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import { isIndexType, isManifestType, MediaType } from '../../protocol/media-types.ts';
import { MAX_DOCUMENT_BYTES, type Descriptor, type Index, type Platform } from '../../protocol/oci.ts';
import type { Checksums } from '../content/checksum.ts';
import type { Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Database } from '../metadata/database.ts';
import { isIndex, parseManifest } from '../registry/manifest.ts';
import { Member } from './archive/archive.ts';
import { Contents } from './archive/contents.ts';
import type { StoredFile, TakenIn } from './archive/intake.ts';
import { putArrived, type ArrivedImage } from './arrival.ts';
import { blobsOf } from './composition.ts';
import { REPOSITORIES_ANNOTATION } from './layout.ts';
import type { ImageStore } from './store.ts';

/** What a rebuild works with: stores whose metadata are empty, over a data root that is not. */
export interface RebuilderParts {
  readonly db: Database;
  readonly root: string;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly leases: Leases;
  readonly store: ImageStore;
  readonly events: { append(event: NewEvent): unknown };
  readonly checksums: Checksums;
  readonly host: Platform;
  /** Makes the EROFS image of a stored layer blob. */
  readonly unpack: (blob: StoredFile) => Promise<void>;
  readonly log: {
    info(message: string, fields?: Record<string, unknown>): unknown;
    warn(message: string, fields?: Record<string, unknown>): unknown;
  };
}

/** What came of it. */
export interface RebuildReport {
  readonly images: number;
  readonly blobs: number;
  /** Files that are not what they are named after. */
  readonly damaged: number;
  /** Images that were listed and are not whole, with the reason. */
  readonly lost: readonly { readonly image: string; readonly reason: string }[];
}

/** How often it is told how far it is, in milliseconds. */
const TELL_INTERVAL = 5000;

/**
 * Makes the metadata again from what is on the disk, trusting none of it: every blob is held to its digest, every layer is
 * unpacked anew, and an image is taken as an archive would be. Names and repositories come from `index.json`; images that
 * are whole and not listed there, which was written a moment after their commit, come back without a name. Blobs that no
 * image needs are kept for a while, for the pulls that bring back what is damaged. What is lost: the log of events, and on
 * top of which other image one was made.
 */
export class Rebuilder {
  readonly #parts: RebuilderParts;
  readonly #lost: { image: string; reason: string }[] = [];
  readonly #restored = new Set<Digest>();

  constructor(parts: RebuilderParts) {
    this.#parts = parts;
  }

  async rebuild(signal: AbortSignal): Promise<RebuildReport> {
    const { leases, content } = this.#parts;
    const lease = leases.acquire('rebuild');
    const { sound, damaged } = await this.#findBlobs(signal);
    lease.add(sound);
    const listed = await this.#listed();
    const known = new Set<Digest>();
    for (const descriptor of listed) {
      signal.throwIfAborted();
      known.add(descriptor.digest);
      await this.#restore(descriptor, nameOf(descriptor));
    }
    for (const descriptor of await this.#unlisted(sound, known)) {
      signal.throwIfAborted();
      await this.#restore(descriptor, undefined);
    }
    lease.keep();
    const { count } = content.totals();
    return { images: this.#restored.size, blobs: count, damaged, lost: this.#lost };
  }

  /** Reads all blobs, and gives those a row that are what they are named after. */
  async #findBlobs(signal: AbortSignal): Promise<{ sound: Digest[]; damaged: number }> {
    const { root, content, checksums, log } = this.#parts;
    const names = await readdir(join(root, 'blobs', 'sha256'));
    const sound: Digest[] = [];
    let told = Date.now();
    let damaged = 0;
    for (const name of names) {
      const digest = `sha256:${name}`;
      const path = join(root, 'blobs', 'sha256', name);
      try {
        if (!isDigest(digest)) throw new Error('its name is no digest');
        const found = await checksums.sum(path, { signal });
        if (found.digest !== digest) throw new Error(`it has digest ${found.digest}`);
        content.adopt(digest, found.size);
        sound.push(digest);
      } catch (error) {
        signal.throwIfAborted();
        damaged += 1;
        log.warn(`a blob is left out: ${messageOf(error)}`, { path });
      }
      if (Date.now() - told < TELL_INTERVAL) continue;
      told = Date.now();
      log.info('reading blobs', { read: sound.length + damaged, of: names.length });
    }
    return { sound, damaged };
  }

  /** What `index.json` lists; nothing where it is damaged too. */
  async #listed(): Promise<readonly Descriptor[]> {
    const path = join(this.#parts.root, Member.index);
    try {
      const index = parseManifest(await readFile(path), MediaType.ociIndex);
      if (!isIndex(index)) throw new LayerdError('corrupt', 'it is a manifest');
      return index.manifests;
    } catch (error) {
      this.#parts.log.warn(`images come back without names: ${path} cannot be used: ${messageOf(error)}`);
      return [];
    }
  }

  /** Indexes and manifests that neither `index.json` nor another index lists. */
  async #unlisted(blobs: readonly Digest[], known: ReadonlySet<Digest>): Promise<Descriptor[]> {
    const { content } = this.#parts;
    const roots = new Map<Digest, Descriptor>();
    const children = new Set<Digest>(known);
    for (const digest of blobs) {
      const size = content.get(digest)?.size ?? 0;
      if (size > MAX_DOCUMENT_BYTES) continue;
      const document = documentOf(await content.read(digest));
      if (document === undefined) continue;
      roots.set(digest, { mediaType: document.mediaType, digest, size });
      for (const child of document.children) children.add(child);
    }
    return [...roots.values()].filter(({ digest }) => !children.has(digest));
  }

  /** Takes one image, if all of it is here. `name`: as it is listed; undefined for one that is not, of which nothing is said. */
  async #restore(descriptor: Descriptor, name: string | undefined): Promise<void> {
    const { content, layers, leases, host, log } = this.#parts;
    // Everything is named by the lease of the rebuild already; this one is for what asks for one.
    const lease = leases.acquire('rebuild of an image');
    try {
      const intake = new StoredLayout(this.#parts, descriptor);
      const [image] = await new Contents({ content, layers, intake, lease, host, platforms: [] }).images();
      if (image === undefined) throw new LayerdError('invalid', 'it is no image');
      this.#commit(image, descriptor);
      this.#restored.add(image.target.digest);
      log.info('restored an image', { image: name ?? descriptor.digest });
    } catch (error) {
      if (!isKind(error, 'invalid') && !isKind(error, 'corrupt') && !isKind(error, 'not-found')) throw error;
      if (name === undefined) return;
      this.#lost.push({ image: name, reason: messageOf(error) });
      log.warn(`an image is not whole: ${messageOf(error)}`, { image: name });
    } finally {
      lease.release();
    }
  }

  #commit(image: ArrivedImage, { annotations }: Descriptor): void {
    const { db } = this.#parts;
    const repositories = (annotations?.[REPOSITORIES_ANNOTATION] ?? '').split(',').filter((name) => name !== '');
    db.transaction(() => {
      putArrived(this.#parts, image, 'load');
      for (const repository of repositories) {
        db.run('INSERT OR IGNORE INTO repo_digest (repository, target) VALUES (?, ?)', repository, image.target.digest);
        for (const blob of image.manifests.flatMap(blobsOf)) {
          db.run('INSERT OR IGNORE INTO blob_source (digest, repository) VALUES (?, ?)', blob, repository);
        }
      }
    });
  }
}

/** One image of the store, as an archive that has been taken in. */
class StoredLayout implements TakenIn {
  readonly #parts: Pick<RebuilderParts, 'content' | 'layers' | 'unpack'>;
  readonly #documents: ReadonlyMap<string, Buffer>;

  constructor(parts: Pick<RebuilderParts, 'content' | 'layers' | 'unpack'>, descriptor: Descriptor) {
    this.#parts = parts;
    const index: Index = { schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: [descriptor] };
    this.#documents = new Map([
      [Member.index, Buffer.from(JSON.stringify(index))],
      [Member.layout, Buffer.from(JSON.stringify({ imageLayoutVersion: '1.0.0' }))],
    ]);
  }

  document(name: string): Buffer | undefined {
    return this.#documents.get(name);
  }

  has(digest: Digest): boolean {
    return this.#parts.content.has(digest);
  }

  async ensureLayer(blob: StoredFile): Promise<void> {
    const { layers, unpack } = this.#parts;
    const diffId = layers.diffIdOf(blob.digest);
    if (diffId === undefined || !layers.has(diffId)) await unpack(blob);
  }

  file(path: string): never {
    throw new LayerdError('internal', `a store has no file ${path}`);
  }

  compressionOf(): never {
    throw new LayerdError('internal', 'a store has no files of an archive');
  }
}

/** The media type and the children of what is an index or a manifest; undefined for anything else. */
function documentOf(bytes: Buffer): { readonly mediaType: string; readonly children: readonly Digest[] } | undefined {
  // What begins otherwise is no JSON object: most small blobs are compressed.
  if (bytes[0] !== '{'.charCodeAt(0)) return undefined;
  try {
    const fields = JSON.parse(bytes.toString()) as { mediaType?: unknown; manifests?: unknown; layers?: unknown };
    const stated = typeof fields.mediaType === 'string' ? fields.mediaType : undefined;
    const mediaType =
      stated ??
      (fields.manifests !== undefined ? MediaType.ociIndex : fields.layers !== undefined ? MediaType.ociManifest : '');
    if (!isIndexType(mediaType) && !isManifestType(mediaType)) return undefined;
    const document = parseManifest(bytes, mediaType);
    return { mediaType, children: isIndex(document) ? document.manifests.map(({ digest }) => digest) : [] };
  } catch {
    // A blob may hold anything; what is no manifest is no image.
    return undefined;
  }
}

const nameOf = ({ digest, annotations }: Descriptor): string =>
  annotations?.['org.opencontainers.image.ref.name'] ?? digest;
