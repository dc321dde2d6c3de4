import { open, rm } from 'node:fs/promises';
import { hexOf, type Digest } from '../../../protocol/digest.ts';
import { isKind } from '../../../protocol/errors.ts';
import { MAX_DOCUMENT_BYTES } from '../../../protocol/oci.ts';
import { digestOf } from '../../../protocol/sha256.ts';
import { Ingest } from '../../content/ingest.ts';
import type { Lease } from '../../content/leases.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Unpacking } from '../../layers/layer.ts';
import type { LayerStore } from '../../layers/store.ts';
import type { Unpacker } from '../../layers/unpacker.ts';
import type { ProgressSink } from '../progress.ts';
import { BLOBS, claimedDigest, Member, unusable } from './archive.ts';
import { compressionOf, type Compression } from './decompress.ts';
import type { ArchiveFile, ArchiveLink } from './entries.ts';
import { BLOCK_BYTES, kindOf } from './kind.ts';
import { ArrivalBar } from './progress.ts';

/** Layers that are still being finished while the next one arrives: enough to keep two processors busy. */
const MAX_FINISHING = 2;
/** Links that lead to links. */
const MAX_LINKS = 16;
/** Characters of an identifier that are shown. */
const SHORT_ID = 12;
/** Bytes that tell how a stored blob is compressed. */
const MAGIC_BYTES = 4;

/** What docker kept beside each layer before it had configs: of use to nobody since. */
const LEGACY_FILES = /\/(?:VERSION|json)$/;
const DOCUMENTS: ReadonlySet<string> = new Set(Object.values(Member));

/** What an intake works with. */
export interface IntakeParts {
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly unpacker: Unpacker;
}

/** A file of the archive, in the store. */
export interface StoredFile {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** What has been taken in of an archive, or is in the store already. */
export type TakenIn = Pick<Intake, 'document' | 'has' | 'file' | 'ensureLayer' | 'compressionOf'>;

/** Why a file is not in the store, or is there as something that is no layer. */
interface Unfit {
  readonly why: string;
}

/**
 * Takes in the files of an archive, each once, as they arrive: blobs into the content store, layers into the layer store
 * too. Everything is named by the lease before it can be seen.
 */
export class Intake {
  readonly #parts: IntakeParts;
  readonly #lease: Lease;
  readonly #progress: ProgressSink;
  readonly #documents = new Map<string, Buffer>();
  readonly #files = new Map<string, StoredFile | Unfit>();
  readonly #links = new Map<string, string>();
  /** Blobs that are in the archive, and those among them that are no layer, with the reason. */
  readonly #digests = new Set<Digest>();
  readonly #noLayers = new Map<Digest, string>();
  readonly #finishing = new Set<Promise<void>>();
  #failure: Error | undefined;

  constructor(parts: IntakeParts, lease: Lease, progress: ProgressSink) {
    this.#parts = parts;
    this.#lease = lease;
    this.#progress = progress;
  }

  /** Takes in everything. Settles only when nothing that it began goes on. */
  async takeAll(entries: AsyncIterable<ArchiveFile | ArchiveLink>): Promise<void> {
    try {
      for await (const entry of entries) {
        if (entry.kind === 'link') this.#links.set(entry.path, entry.target);
        else await this.#take(entry);
        this.#throwFailure();
      }
    } finally {
      await Promise.all(this.#finishing);
    }
    this.#throwFailure();
  }

  /** One of the documents at the archive's root; undefined where it is not there. */
  document(name: string): Buffer | undefined {
    return this.#documents.get(name);
  }

  /** Whether the blob came in the archive. */
  has(digest: Digest): boolean {
    return this.#digests.has(digest);
  }

  /** The file that a path means, over links. Throws `invalid` where there is none. */
  file(path: string): StoredFile {
    let at = path;
    for (let links = 0; links <= MAX_LINKS; links += 1) {
      const file = this.#files.get(at);
      if (file !== undefined && 'digest' in file) return file;
      if (file !== undefined) throw unusable(`${JSON.stringify(path)} is not usable: ${file.why}`);
      const target = this.#links.get(at) ?? this.#throughLink(at);
      if (target === undefined) throw unusable(`${JSON.stringify(path)} is not in it`);
      at = target;
    }
    throw unusable(`${JSON.stringify(path)} leads through more than ${MAX_LINKS} links`);
  }

  /** Sees to it that a stored blob is unpacked, of which that was not clear when it came, or was not wanted before. */
  async ensureLayer({ digest, size }: StoredFile): Promise<void> {
    const { content, layers } = this.#parts;
    const why = this.#noLayers.get(digest);
    if (why !== undefined) throw unusable(why);
    const diffId = layers.diffIdOf(digest);
    if (diffId !== undefined && layers.has(diffId)) return;
    await unpackStored(this.#parts, { digest, size });
    if (!content.has(digest)) throw unusable(`blob ${digest} is damaged`);
  }

  /** How a stored blob is compressed. */
  async compressionOf({ digest }: StoredFile): Promise<Compression> {
    await using file = await open(this.#parts.content.path(digest), 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    return compressionOf(buffer.subarray(0, bytesRead));
  }

  /** Where a path leads whose folder is a link. */
  #throughLink(path: string): string | undefined {
    for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
      const target = this.#links.get(path.slice(0, slash));
      if (target !== undefined) return target + path.slice(slash);
    }
    return undefined;
  }

  async #take(file: ArchiveFile): Promise<void> {
    const { path, size } = file;
    if (DOCUMENTS.has(path)) {
      this.#documents.set(path, await whole(file));
      return;
    }
    if (LEGACY_FILES.test(path)) return;
    const claimed = claimedDigest(path);
    // A blob by another algorithm than SHA-256 cannot be meant by any manifest that is accepted.
    if (claimed === undefined && path.startsWith(BLOBS)) return;
    if (claimed !== undefined) {
      // Before it is looked for, so that no removal comes in between.
      this.#lease.add([claimed]);
      this.#digests.add(claimed);
      const stored = this.#parts.content.get(claimed);
      if (stored !== undefined) {
        if (stored.size !== size)
          throw unusable(`${path} has ${size} bytes, but a blob of that digest has ${stored.size}`);
        this.#files.set(path, stored);
        return;
      }
    }
    const chunks = file.body[Symbol.asyncIterator]();
    const head = await firstBlock(chunks);
    const body = { path, size, claimed, chunks: joined(head, chunks) };
    switch (kindOf(head, size)) {
      case 'document':
        await this.#takeDocument(file, body);
        break;
      case 'layer':
        await this.#takeLayer(body);
        break;
      case 'other':
        await this.#takeOther(body);
        break;
    }
  }

  async #takeDocument(file: ArchiveFile, { path, size, claimed, chunks }: Body): Promise<void> {
    const bytes = await whole({ ...file, body: chunks });
    const digest = claimed ?? digestOf(bytes);
    this.#lease.add([digest]);
    await this.#parts.content.putDocument(digest, bytes);
    this.#stored(path, { digest, size });
  }

  /** Takes in a blob that is neither a layer nor a document. Without a digest nothing can mean it. */
  async #takeOther({ path, size, claimed, chunks }: Body): Promise<void> {
    if (claimed === undefined) {
      this.#files.set(path, { why: 'it is neither JSON nor a tar, plain or compressed with gzip or zstd' });
      return;
    }
    const { content } = this.#parts;
    const staged = content.stagingPath();
    const ingest = await Ingest.open(staged, 0, { digest: claimed, size });
    try {
      try {
        for await (const chunk of chunks) await ingest.write(chunk);
      } catch (error) {
        await ingest.abort();
        throw error;
      }
      await ingest.finish();
      await content.commit(claimed, size, staged);
    } finally {
      await rm(staged, { force: true });
    }
    this.#stored(path, { digest: claimed, size });
  }

  async #takeLayer({ path, size, claimed, chunks }: Body): Promise<void> {
    while (this.#finishing.size >= MAX_FINISHING) await Promise.race(this.#finishing);
    this.#throwFailure();
    const { content, unpacker } = this.#parts;
    const staged = { blob: content.stagingPath(), image: content.stagingPath() };
    const unpacking = unpacker.start({
      blobPath: staged.blob,
      resumeAt: 0,
      imagePath: staged.image,
      expected: { digest: claimed, size },
    });
    const bar = new ArrivalBar({
      id: shownId(path, claimed),
      status: 'Loading layer',
      total: size,
      sink: this.#progress,
    });
    let received = 0;
    try {
      for await (const chunk of chunks) {
        await unpacking.write(chunk);
        received += chunk.byteLength;
        bar.update(received);
      }
    } catch (error) {
      await unpacking.abort();
      await rm(staged.blob, { force: true });
      throw error;
    }
    const finishing = this.#finishLayer(path, size, claimed, unpacking, staged)
      .catch((error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new Error(String(error));
      })
      .finally(() => this.#finishing.delete(finishing));
    this.#finishing.add(finishing);
  }

  async #finishLayer(
    path: string,
    size: number,
    claimed: Digest | undefined,
    unpacking: Unpacking,
    staged: { readonly blob: string; readonly image: string },
  ): Promise<void> {
    const { content, layers } = this.#parts;
    try {
      const unpacked = await unpacking.finish();
      const { digest } = unpacked;
      this.#lease.add([digest]);
      if (!content.has(digest)) await content.commit(digest, size, staged.blob);
      layers.commit(unpacked, staged.image);
      this.#stored(path, { digest, size });
    } catch (error) {
      if (!isKind(error, 'invalid')) throw error;
      // It is as it was made, and no layer. Whether that matters is known once something wants it as one.
      if (claimed === undefined) this.#files.set(path, { why: error.message });
      else {
        this.#noLayers.set(claimed, error.message);
        // The unpacking may have ended before it had verified all bytes.
        const ingest = await Ingest.open(staged.blob, size, { digest: claimed, size });
        await ingest.finish();
        await content.commit(claimed, size, staged.blob);
        this.#stored(path, { digest: claimed, size });
      }
    } finally {
      await rm(staged.blob, { force: true });
    }
  }

  #stored(path: string, file: StoredFile): void {
    this.#files.set(path, file);
    this.#digests.add(file.digest);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** A file on its way in. */
interface Body {
  readonly path: string;
  readonly size: number;
  readonly claimed: Digest | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Unpacks a blob that is stored already. Throws `corrupt`, and the blob is gone, where its bytes are no longer those of its
 * digest.
 */
export async function unpackStored(parts: IntakeParts, { digest, size }: StoredFile): Promise<void> {
  const { content, layers, unpacker } = parts;
  const imagePath = content.stagingPath();
  try {
    const unpacking = unpacker.start({
      blobPath: content.path(digest),
      resumeAt: size,
      imagePath,
      expected: { digest, size },
    });
    layers.commit(await unpacking.finish(), imagePath);
  } catch (error) {
    await rm(imagePath, { force: true });
    if (isKind(error, 'corrupt')) content.remove([digest]);
    throw error;
  }
}

/** A document that is kept whole. */
async function whole({ path, size, body }: Pick<ArchiveFile, 'path' | 'size' | 'body'>): Promise<Buffer> {
  if (size > MAX_DOCUMENT_BYTES) {
    throw unusable(`${path} has ${size} bytes; a document has at most ${MAX_DOCUMENT_BYTES}`);
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What arrives until there is a block of it, or its end. */
async function firstBlock(chunks: AsyncIterator<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  while (length < BLOCK_BYTES) {
    const next = await chunks.next();
    if (next.done === true) break;
    parts.push(next.value);
    length += next.value.byteLength;
  }
  return Buffer.concat(parts, length);
}

async function* joined(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.byteLength > 0) yield head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

/** What a layer's bar is called: by its digest, or by what the archive calls its file or folder. */
function shownId(path: string, claimed: Digest | undefined): string {
  const [first = '', ...rest] = path.split('/');
  const name = claimed === undefined ? (rest.length === 0 ? first.replace(/\.[a-z.]+$/, '') : first) : hexOf(claimed);
  return name.slice(0, SHORT_ID);
}
