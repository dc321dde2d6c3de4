import { open } from 'node:fs/promises';
import { messageOf } from '../../protocol/errors.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import { hasRebooted, noteBoot } from '../metadata/boot.ts';
import type { Database } from '../metadata/database.ts';
import { splitCanonicalName } from '../../protocol/reference.ts';
import type { Demands } from '../transfers/demand.ts';
import type { TransferQueue } from '../transfers/queue.ts';
import type { BlobSource } from './download.ts';

/** Syncing starts this long after an image was committed, in milliseconds, so as not to slow what comes right after. */
const SYNC_DELAY = 2000;

interface RestorerLog {
  info(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/**
 * Keeps the EROFS images true to the blobs they were made from. They are not synced when they are committed, since they
 * can be made again: in the background each is synced and marked durable, together with the metadata, and after a reboot
 * those that were not are dropped and made again, as are those whose files are missing.
 */
export class Restorer {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #transfers: TransferQueue<BlobSource>;
  readonly #demands: Demands;
  readonly #log: RestorerLog;
  readonly #unpack: (blob: { digest: Digest; size: number }) => Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: {
    db: Database;
    content: ContentStore;
    layers: LayerStore;
    transfers: TransferQueue<BlobSource>;
    demands: Demands;
    log: RestorerLog;
    /** Unpacks a stored blob that came from no registry, but in an archive. */
    unpack: (blob: { digest: Digest; size: number }) => Promise<void>;
  }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#layers = options.layers;
    this.#transfers = options.transfers;
    this.#demands = options.demands;
    this.#log = options.log;
    this.#unpack = options.unpack;
    this.#dropAfterReboot();
  }

  /** Says that layers were committed that are to be synced when there is time. */
  syncLater(): void {
    if (this.#stopped) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#sync();
    }, SYNC_DELAY).unref();
  }

  /**
   * Makes the EROFS images that are missing again, out of the stored blobs; a blob that proves damaged meanwhile is
   * fetched again from where it came. As transfers, so that a pull that needs the same layer waits for it.
   */
  async restore(): Promise<void> {
    const missing = this.#db.all<{ digest: Digest; size: number; repository: string | null }>(
      `SELECT DISTINCT manifest_layer.digest, manifest_layer.bytes AS size,
         (SELECT min(repository) FROM blob_source WHERE blob_source.digest = manifest_layer.digest) AS repository
       FROM manifest_layer
       WHERE manifest_layer.diff_id IS NOT NULL AND manifest_layer.diff_id NOT IN (SELECT diff_id FROM layer WHERE damage IS NULL)`,
    );
    for (const { digest, size, repository } of missing) {
      if (this.#stopped) return;
      if (!this.#content.has(digest)) {
        this.#log.error('a layer cannot be restored, since its blob is missing: pull or load its image again', {
          digest,
        });
        continue;
      }
      try {
        if (repository === null) await this.#unpack({ digest, size });
        else {
          const source = { repository: splitCanonicalName(repository), credentials: undefined };
          using demand = this.#demands.begin({
            verb: 'restore',
            reference: `${repository}@${digest}`,
            client: 'layerd',
          });
          await this.#transfers.join({ digest, size, remaining: 0, kind: 'layer' }, source, demand).done;
        }
        this.#log.info('restored a layer from its blob', { digest });
      } catch (error) {
        this.#log.error(`a layer cannot be restored: ${messageOf(error)}`, { digest });
      }
    }
    this.syncLater();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** In the constructor, so that nobody has seen a layer yet that may be damaged. */
  #dropAfterReboot(): void {
    this.#db.essential(() => {
      if (hasRebooted(this.#db)) {
        const rows = this.#db.all<{ diff_id: Digest }>('SELECT diff_id FROM layer WHERE durable = 0');
        this.#layers.remove(rows.map((row) => row.diff_id));
      }
      noteBoot(this.#db);
    });
  }

  async #sync(): Promise<void> {
    const synced: Digest[] = [];
    for (const { diff_id: diffId } of this.#db.all<{ diff_id: Digest }>(
      'SELECT diff_id FROM layer WHERE durable = 0',
    )) {
      if (this.#stopped) return;
      try {
        await using file = await open(this.#layers.path(diffId), 'r');
        await file.datasync();
        synced.push(diffId);
      } catch (error) {
        // Removed in the meantime is fine; one that cannot be synced stays marked, and is made again after a reboot.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        this.#log.error(`a layer cannot be synced to the disk: ${messageOf(error)}`, { diffId });
      }
    }
    if (this.#stopped) return;
    try {
      // Before they are marked: who sees the mark knows that the image, too, outlives a power loss.
      await this.#db.sync();
      this.#db.transaction(() => {
        for (const diffId of synced) this.#db.run('UPDATE layer SET durable = 1 WHERE diff_id = ?', diffId);
      });
    } catch (error) {
      this.#log.error(`the metadata cannot be synced to the disk: ${messageOf(error)}`);
    }
  }
}
