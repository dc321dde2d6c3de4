import PQueue from 'p-queue';
import type { Digest } from '../../protocol/digest.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import type { Delivery, Registries, Repository, RequestOptions } from '../registry/registry.ts';
import { untilAborted } from '../transfers/interest.ts';
import type { Demand } from '../transfers/demand.ts';
import type { BlobSource } from './download.ts';
import { LayerProgress, type ProgressSink } from './progress.ts';
import { together } from './together.ts';
import type { UploadQueue } from './upload.ts';

/** Blobs that a registry is asked for at a time. */
const MAX_CHECKS = 8;

/** A blob of a manifest. */
export type ManifestBlob = Descriptor & { readonly kind: 'config' | 'layer' };

/** A repository that something is pushed to, with whose credentials. */
export interface Destination extends Pick<RequestOptions, 'credentials'> {
  readonly repository: Repository;
}

/** Brings blobs into a repository: only those that it lacks, through the queue of uploads. */
export class BlobDeliverer {
  readonly #registries: Registries;
  readonly #uploads: UploadQueue;
  readonly #demand: Demand;
  readonly #progress: ProgressSink;

  constructor(parts: { registries: Registries; uploads: UploadQueue }, demand: Demand, progress: ProgressSink) {
    this.#registries = parts.registries;
    this.#uploads = parts.uploads;
    this.#demand = demand;
    this.#progress = progress;
  }

  /**
   * Brings all of the blobs there; when one fails, lets go of the others. Returns when nothing of it goes on. `from`: where
   * blobs come from that are not stored.
   */
  async deliver(
    blobs: readonly ManifestBlob[],
    to: Destination,
    options: { readonly signal: AbortSignal; readonly from?: BlobSource },
  ): Promise<void> {
    // The largest first: it decides when the push ends.
    const ordered = blobs.toSorted((one, other) => other.size - one.size);
    const bars = new Map<Digest, LayerProgress>();
    for (const { digest, kind } of blobs) {
      if (kind !== 'layer') continue;
      const bar = new LayerProgress(digest, this.#progress);
      bars.set(digest, bar);
      bar.say('Preparing');
    }
    const digests = ordered.map(({ digest }) => digest);
    const present = await this.#present(digests, to, options.signal);
    await together(
      options.signal,
      ordered.map((blob) => async (signal: AbortSignal) => {
        const bar = bars.get(blob.digest);
        const delivery = present.has(blob.digest)
          ? ({ how: 'present' } as const)
          : await this.#deliver(blob, to, options.from, signal, bar);
        bar?.say(lineOf(delivery));
      }),
    );
  }

  /** Which of the blobs the repository holds. Not through the queue: asking must not wait behind uploads. */
  async #present(
    digests: readonly Digest[],
    { repository, credentials }: Destination,
    signal: AbortSignal,
  ): Promise<ReadonlySet<Digest>> {
    const checks = new PQueue({ concurrency: MAX_CHECKS });
    const present = new Set<Digest>();
    await checks.addAll(
      digests.map((digest) => async () => {
        if (await this.#registries.hasBlob(repository, digest, { credentials, signal })) present.add(digest);
      }),
    );
    return present;
  }

  async #deliver(
    { digest, size, kind }: ManifestBlob,
    { repository, credentials }: Destination,
    from: BlobSource | undefined,
    signal: AbortSignal,
    bar: LayerProgress | undefined,
  ): Promise<Delivery> {
    signal.throwIfAborted();
    const lane = kind === 'config' ? ('document' as const) : ('layer' as const);
    const interest = this.#uploads.join(
      { digest, size, remaining: size, kind: lane, repository },
      { credentials, from },
      this.#demand,
      (status) => bar?.update(status),
    );
    try {
      return await untilAborted(interest, signal);
    } finally {
      bar?.end();
    }
  }
}

function lineOf(delivery: Delivery): string {
  switch (delivery.how) {
    case 'present':
      return 'Layer already exists';
    case 'mounted':
      return `Mounted from ${delivery.from}`;
    case 'uploaded':
      return 'Pushed';
  }
}
