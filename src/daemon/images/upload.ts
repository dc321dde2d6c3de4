import { createReadStream } from 'node:fs';
import type { Digest } from '../../protocol/digest.ts';
import { isKind } from '../../protocol/errors.ts';
import { canonicalName, splitCanonicalName } from '../../protocol/reference.ts';
import type { ContentStore } from '../content/store.ts';
import type { Database } from '../metadata/database.ts';
import { storageError } from '../metadata/storage-error.ts';
import type { Delivery, Registries, Repository, RequestOptions } from '../registry/registry.ts';
import type { Bandwidth } from '../transfers/bandwidth.ts';
import type { TransferControl, TransferQueue, TransferRequest } from '../transfers/queue.ts';
import { otherSize, type BlobSource, type Downloader } from './download.ts';
import { Relay } from './relay.ts';

/** Repositories that a blob is tried to be mounted from. What is known of them may be out of date. */
const MAX_MOUNT_SOURCES = 3;

/** How often a blob whose bytes proved wrong on their way is sent in all: once more, from another mirror where there is one. */
const MAX_CORRUPT_ATTEMPTS = 2;

/** A blob is read in pieces of so many bytes: 512 KiB. */
const READ_BYTES = 512 * 1024;

/** A blob on its way to a repository. */
export interface UploadRequest extends TransferRequest {
  readonly repository: Repository;
}

/**
 * With what one party would have it uploaded. Who joins an upload profits from the first party's credentials; its own
 * still have to suffice for the manifest.
 */
export interface UploadSource extends Pick<RequestOptions, 'credentials'> {
  /** The repository that a blob which is not stored comes from. */
  readonly from?: BlobSource | undefined;
}

/** The daemon-wide queue of uploads. */
export type UploadQueue = TransferQueue<UploadSource, UploadRequest, Delivery>;

/** What is the same upload, whoever asks for it. */
export const uploadKey = ({ digest, repository }: UploadRequest): string => `${canonicalName(repository)}@${digest}`;

/** What uploads are done with. */
export interface UploaderParts {
  readonly db: Database;
  readonly content: ContentStore;
  readonly registries: Registries;
  readonly downloader: Downloader;
  readonly bandwidth: Bandwidth;
  /** The queue of downloads, whose limit counts for what is passed on from one registry to another, too. */
  readonly downloads: Pick<TransferQueue<BlobSource>, 'occupy'>;
}

/** The work of an upload: brings one blob into a repository, with as few bytes as it takes. */
export class Uploader {
  readonly #parts: UploaderParts;

  constructor(parts: UploaderParts) {
    this.#parts = parts;
  }

  /** Uploads a blob that is stored, or else passes it on from its source. */
  async upload(request: UploadRequest, source: UploadSource, control: TransferControl): Promise<Delivery> {
    const { db, content } = this.#parts;
    const { digest, size, repository } = request;
    control.update({ state: 'uploading', received: 0, attempts: 1, host: repository.registry });
    const stored = content.get(digest);
    if (stored !== undefined && stored.size !== size) throw otherSize('the store', stored.size, request);
    const delivery =
      stored === undefined && source.from !== undefined
        ? await this.#relay(request, source.from, source.credentials, control)
        : await this.#deliver(request, source, control, (offset) => readBlob(content.path(digest), digest, offset));
    recordSources(db, [digest], repository);
    return delivery;
  }

  async #relay(
    request: UploadRequest,
    from: BlobSource,
    credentials: UploadSource['credentials'],
    control: TransferControl,
  ): Promise<Delivery> {
    const { downloader, downloads } = this.#parts;
    const { signal } = control;
    const avoid = new Set<string>();
    let place: Promise<() => void> | undefined;
    try {
      for (let attempt = 1; ; attempt += 1) {
        const served = new Set<string>();
        const relay = new Relay(downloader, request, from, { signal, avoid, served });
        const open = async function* (offset: number): AsyncGenerator<Uint8Array, void, undefined> {
          // Not before, since what is there or can be mounted is not downloaded.
          place ??= downloads.occupy(control.candidate, from.repository.registry, signal);
          await place;
          yield* relay.open(offset);
        };
        try {
          return await this.#deliver(request, { credentials, from }, control, open);
        } catch (error) {
          if (!isKind(error, 'corrupt') || attempt === MAX_CORRUPT_ATTEMPTS) throw error;
          for (const host of served) avoid.add(host);
        }
      }
    } finally {
      // One that was given up while it waited has no place to give back.
      await place?.then(
        (leave) => leave(),
        () => undefined,
      );
    }
  }

  async #deliver(
    { digest, size, repository }: UploadRequest,
    { credentials, from }: UploadSource,
    control: TransferControl,
    open: (offset: number) => AsyncIterable<Uint8Array>,
  ): Promise<Delivery> {
    const { registries, bandwidth } = this.#parts;
    return registries.deliver(
      repository,
      { digest, size, open: (offset) => bandwidth.limit(open(offset), repository.registry, control.signal) },
      {
        credentials,
        signal: control.signal,
        from: this.#sources(digest, repository, from),
        onSent: (received) => control.update({ received }),
      },
    );
  }

  /** Paths of the repositories on the same registry that are known to hold the blob. */
  #sources(digest: Digest, repository: Repository, from: BlobSource | undefined): string[] {
    const registry = `${repository.registry}/`;
    const known = this.#parts.db
      .all<{ repository: string }>(
        `SELECT repository FROM blob_source
         WHERE digest = ?1 AND repository <> ?2 AND substr(repository, 1, length(?3)) = ?3 LIMIT ?4`,
        digest,
        canonicalName(repository),
        registry,
        MAX_MOUNT_SOURCES,
      )
      .map((row) => splitCanonicalName(row.repository).path);
    const isMountable = from?.repository.registry === repository.registry && from.repository.path !== repository.path;
    return [...new Set([...(isMountable ? [from.repository.path] : []), ...known])];
  }
}

/** Takes note that a repository holds the blobs, those of them that are stored. */
export function recordSources(db: Database, digests: Iterable<Digest>, repository: Repository): void {
  db.transaction(() => {
    for (const digest of digests) {
      db.run(
        `INSERT OR IGNORE INTO blob_source (digest, repository)
         SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM blob WHERE digest = ?1)`,
        digest,
        canonicalName(repository),
      );
    }
  });
}

/** A blob's bytes from the offset on. What is wrong with the disk must not be taken for a broken connection. */
async function* readBlob(path: string, digest: Digest, start: number): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { start, highWaterMark: READ_BYTES })) yield chunk as Buffer;
  } catch (error) {
    throw storageError(error, `read blob ${digest}`);
  }
}
