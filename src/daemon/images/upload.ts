import { createReadStream } from 'node:fs';
import type { Digest } from '../../protocol/digest.ts';
import { canonicalName, splitCanonicalName } from '../../protocol/reference.ts';
import type { ContentStore } from '../content/store.ts';
import type { Database } from '../metadata/database.ts';
import { storageError } from '../metadata/storage-error.ts';
import type { Delivery, Registries, Repository, RequestOptions } from '../registry/registry.ts';
import type { TransferControl, TransferQueue, TransferRequest } from '../transfers/queue.ts';

/** Repositories that a blob is tried to be mounted from. What is known of them may be out of date. */
const MAX_MOUNT_SOURCES = 3;

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
export type UploadSource = Pick<RequestOptions, 'credentials'>;

/** The daemon-wide queue of uploads. */
export type UploadQueue = TransferQueue<UploadSource, UploadRequest, Delivery>;

/** What is the same upload, whoever asks for it. */
export const uploadKey = ({ digest, repository }: UploadRequest): string => `${canonicalName(repository)}@${digest}`;

/** The work of an upload: brings one blob from the store into a repository, with as few bytes as it takes. */
export class Uploader {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #registries: Registries;

  constructor(options: { db: Database; content: ContentStore; registries: Registries }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#registries = options.registries;
  }

  async upload(
    { digest, size, repository }: UploadRequest,
    { credentials }: UploadSource,
    control: TransferControl,
  ): Promise<Delivery> {
    control.update({ state: 'uploading', received: 0 });
    const blob = { digest, size, open: (offset: number) => readBlob(this.#content.path(digest), digest, offset) };
    const delivery = await this.#registries.deliver(repository, blob, {
      credentials,
      signal: control.signal,
      from: this.#sources(digest, repository),
      onSent: (received) => control.update({ received }),
    });
    recordSources(this.#db, [digest], repository);
    return delivery;
  }

  /** Paths of the repositories on the same registry that are known to hold the blob. */
  #sources(digest: Digest, repository: Repository): string[] {
    const registry = `${repository.registry}/`;
    return this.#db
      .all<{ repository: string }>(
        `SELECT repository FROM blob_source
         WHERE digest = ?1 AND repository <> ?2 AND substr(repository, 1, length(?3)) = ?3 LIMIT ?4`,
        digest,
        canonicalName(repository),
        registry,
        MAX_MOUNT_SOURCES,
      )
      .map((row) => splitCanonicalName(row.repository).path);
  }
}

/** Takes note that a repository holds the blobs. */
export function recordSources(db: Database, digests: Iterable<Digest>, repository: Repository): void {
  db.transaction(() => {
    for (const digest of digests) {
      db.run('INSERT OR IGNORE INTO blob_source (digest, repository) VALUES (?, ?)', digest, canonicalName(repository));
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
