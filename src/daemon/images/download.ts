import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import type { Credentials, Logger, Registries, RemoteBlob, Repository } from '../registry/registry.ts';
import type { Bandwidth } from '../transfers/bandwidth.ts';
import type { TransferStatus } from '../transfers/transfer.ts';

/** Where one party would have a blob fetched from. */
export interface BlobSource {
  readonly repository: Repository;
  readonly credentials: Credentials | undefined;
}

/** An attempt that brings less, in bytes, counts as failed: a registry could drip a transfer along for ever. */
const FRUITFUL_BYTES = 64 * 1024;

/** First pause before a cut transfer goes on, in milliseconds; it doubles with each attempt that brought nothing. */
const RESUME_PAUSE = 100;
const MAX_RESUME_PAUSE = 10_000;

/** What downloads are done with. */
export interface DownloaderParts {
  readonly registries: Pick<Registries, 'blob'>;
  /** `max-download-attempts`: attempts in a row that bring next to nothing before a download fails. */
  readonly maxAttempts: () => number;
  readonly bandwidth: Bandwidth;
  readonly logger: Logger;
}

/** How one download goes on. */
export interface DownloadOptions {
  /** Bytes that are here already. */
  readonly offset: number;
  readonly signal: AbortSignal;
  /** Hosts whose bytes proved wrong, which are tried last. */
  readonly avoid: ReadonlySet<string>;
  /** Is told each host that serves the blob. */
  readonly served: Set<string>;
  readonly update: (
    status: Partial<Pick<TransferStatus, 'state' | 'received' | 'attempts' | 'lastError' | 'host'>>,
  ) => void;
}

/** Reads blobs from registries, over as many connections as it takes. */
export class Downloader {
  readonly #parts: DownloaderParts;

  constructor(parts: DownloaderParts) {
    this.#parts = parts;
  }

  /**
   * The blob's bytes from the offset to its end, which are not verified here. A connection that breaks is taken up again
   * at the byte where it broke. A caller who takes the next piece has done with the last one.
   */
  async *bytes(
    { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
    source: BlobSource,
    options: DownloadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { registries, maxAttempts, bandwidth } = this.#parts;
    const { signal, avoid, served, update } = options;
    let received = options.offset;
    let attempts = 0;
    let fruitless = 0;
    update({ state: 'downloading', received, attempts });
    while (received < size) {
      signal.throwIfAborted();
      attempts += 1;
      update({ state: 'downloading', attempts });
      const before = received;
      // Its own failures have been tried again inside.
      const remote = await registries.blob(source.repository, digest, {
        credentials: source.credentials,
        signal,
        offset: received,
        avoid,
      });
      if (remote.size !== undefined && remote.size !== size)
        throw otherSize(remote.host, remote.size, { digest, size });
      served.add(remote.host);
      update({ host: remote.host });
      try {
        const body = skip(remote, received);
        for await (const chunk of bandwidth.limit(body, source.repository.registry, signal)) {
          yield chunk;
          received += chunk.byteLength;
          update({ received });
        }
        if (received < size) throw new LayerdError('unavailable', `${remote.host} closed the connection early`);
      } catch (error) {
        if (signal.aborted || !isKind(error, 'unavailable')) throw error;
        fruitless = received - before >= FRUITFUL_BYTES ? 0 : fruitless + 1;
        if (fruitless >= maxAttempts()) {
          throw new LayerdError(
            'unavailable',
            `fetching ${digest} failed after ${attempts} attempts, ${received} of ${size} bytes had arrived: ${messageOf(error)}`,
            { cause: error },
          );
        }
        const reason = error.message;
        this.#parts.logger.warn('retrying a transfer', { digest, received, size, reason });
        update({ received, state: 'retrying', lastError: reason });
        await sleep(Math.min(RESUME_PAUSE * 2 ** fruitless, MAX_RESUME_PAUSE) * (0.5 + Math.random() / 2), undefined, {
          signal,
        });
      }
    }
  }
}

/** The error of a blob that is not as large as its descriptor says. */
export function otherSize(
  holder: string,
  actual: number,
  { digest, size }: { readonly digest: Digest; readonly size: number },
): LayerdError {
  return new LayerdError('corrupt', `${holder} has ${actual} bytes under ${digest}, the manifest says ${size}`);
}

/** The body from `position` on: a registry without ranges sends what is here already once more. */
async function* skip(remote: RemoteBlob, position: number): AsyncGenerator<Uint8Array> {
  if (remote.offset > position) {
    throw new LayerdError(
      'corrupt',
      `${remote.host} was asked for bytes from ${position} and sent them from ${remote.offset}`,
    );
  }
  let toSkip = position - remote.offset;
  for await (const chunk of remote.body) {
    if (toSkip >= chunk.byteLength) toSkip -= chunk.byteLength;
    else {
      yield chunk.subarray(toSkip);
      toSkip = 0;
    }
  }
}
