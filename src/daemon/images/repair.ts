import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Digest } from '../../protocol/digest.ts';
import { splitCanonicalName } from '../../protocol/reference.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Database } from '../metadata/database.ts';
import { parseManifest } from '../registry/manifest.ts';
import type { Credentials, Registries, Repository } from '../registry/registry.ts';
import type { Demands } from '../transfers/demand.ts';
import { untilAborted } from '../transfers/interest.ts';
import type { TransferQueue, TransferRequest } from '../transfers/queue.ts';
import type { BlobSource } from './download.ts';
import type { Subject } from './soundness.ts';

/** On whose behalf something is repaired. */
export interface RepairOptions {
  readonly client: string;
  readonly credentialsFor: (registry: string) => Credentials | undefined;
  readonly signal: AbortSignal;
}

/** What repairs are done with. */
export interface RepairerParts {
  readonly db: Database;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly transfers: TransferQueue<BlobSource>;
  readonly demands: Demands;
  readonly registries: Pick<Registries, 'manifest'>;
  /** Unpacks a stored blob that came from no registry, but in an archive. */
  readonly unpack: (blob: { digest: Digest; size: number }) => Promise<void>;
}

/**
 * Brings back what is missing or damaged, and nothing else: a layer's EROFS image out of its blob, a blob from one of the
 * repositories in which it was seen, as a transfer that pulls of the same blob join.
 */
export class Repairer {
  readonly #parts: RepairerParts;

  constructor(parts: RepairerParts) {
    this.#parts = parts;
  }

  /** Resolves when it is sound again. Throws what stands against it. */
  async repair({ kind, digest }: Pick<Subject, 'kind' | 'digest'>, options: RepairOptions): Promise<void> {
    if (kind === 'layer') await this.#repairLayer(digest, options);
    else await this.#repairBlob(digest, options);
  }

  async #repairLayer(diffId: Digest, options: RepairOptions): Promise<void> {
    const { db, content, unpack } = this.#parts;
    const blobs = db.all<{ digest: Digest; size: number }>(
      'SELECT DISTINCT digest, bytes AS size FROM manifest_layer WHERE diff_id = ?',
      diffId,
    );
    const stored = blobs.find(({ digest }) => content.has(digest));
    if (stored !== undefined) await unpack(stored);
    else {
      const [blob] = blobs;
      if (blob === undefined) throw new LayerdError('not-found', 'no image has it any more');
      await this.#fetchBlob(blob, 'layer', options);
    }
    if (!this.#parts.layers.has(diffId)) throw new LayerdError('corrupt', 'its blob unpacks to another layer');
  }

  async #repairBlob(digest: Digest, options: RepairOptions): Promise<void> {
    const { db } = this.#parts;
    const layer = db.get<{ size: number; diff_id: Digest | null }>(
      'SELECT bytes AS size, diff_id FROM manifest_layer WHERE digest = ? LIMIT 1',
      digest,
    );
    if (layer !== undefined) {
      await this.#fetchBlob({ digest, size: layer.size }, layer.diff_id === null ? 'blob' : 'layer', options);
      return;
    }
    const owner = db.get<{ manifest: Digest }>(
      'SELECT digest AS manifest FROM manifest WHERE config_digest = ?',
      digest,
    );
    if (owner === undefined) await this.#fetchManifest(digest, options);
    else await this.#fetchBlob({ digest, size: await this.#configSize(owner.manifest, options) }, 'document', options);
  }

  /** Only the manifest says how long a config is. */
  async #configSize(manifest: Digest, options: RepairOptions): Promise<number> {
    const { content, db } = this.#parts;
    if (!content.has(manifest)) await this.#fetchManifest(manifest, options);
    const row = db.get<{ type: string }>('SELECT media_type AS type FROM manifest WHERE digest = ?', manifest);
    const parsed = parseManifest(await content.read(manifest), row?.type ?? '');
    if (!('config' in parsed)) throw new LayerdError('corrupt', `${manifest} is no manifest`);
    return parsed.config.size;
  }

  async #fetchManifest(digest: Digest, { credentialsFor, signal }: RepairOptions): Promise<void> {
    await this.#fromAny(digest, signal, async (repository) => {
      const credentials = credentialsFor(repository.registry);
      const { bytes } = await this.#parts.registries.manifest(repository, digest, { credentials, signal });
      await this.#parts.content.putDocument(digest, bytes);
    });
  }

  async #fetchBlob(
    { digest, size }: { digest: Digest; size: number },
    kind: TransferRequest['kind'],
    { client, credentialsFor, signal }: RepairOptions,
  ): Promise<void> {
    await this.#fromAny(digest, signal, (repository) => {
      const reference = `${repository.registry}/${repository.path}@${digest}`;
      return this.#parts.demands.during({ verb: 'repair', reference, client }, signal, async (demand, stop) => {
        const source = { repository, credentials: credentialsFor(repository.registry) };
        stop.throwIfAborted();
        await untilAborted(this.#parts.transfers.join({ digest, size, remaining: size, kind }, source, demand), stop);
      });
    });
  }

  /** Tries the repositories that may have it, until one does. */
  async #fromAny(digest: Digest, signal: AbortSignal, fetch: (repository: Repository) => Promise<void>): Promise<void> {
    const failures: string[] = [];
    for (const repository of this.#repositories(digest)) {
      try {
        await fetch(splitCanonicalName(repository));
        return;
      } catch (error) {
        signal.throwIfAborted();
        failures.push(`${repository}: ${messageOf(error)}`);
      }
    }
    throw new LayerdError(
      'unavailable',
      failures.length === 0
        ? 'it came from no registry: load or build its image again'
        : `it cannot be fetched again: ${failures.join('; ')}`,
    );
  }

  /** Where it was seen itself, then where the images that hold it were. */
  #repositories(digest: Digest): string[] {
    const rows = this.#parts.db.all<{ repository: string }>(
      `SELECT repository FROM blob_source WHERE digest = ?1
       UNION ALL SELECT repository FROM repo_digest JOIN image_blob USING (target) WHERE digest = ?1`,
      digest,
    );
    return [...new Set(rows.map(({ repository }) => repository))];
  }
}
