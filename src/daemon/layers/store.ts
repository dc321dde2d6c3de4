import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hexOf, type Digest } from '../../protocol/digest.ts';
import type { NewEvent } from '../events/event.ts';
import { filesOnDisk } from '../metadata/blocks.ts';
import type { Database } from '../metadata/database.ts';
import { storageError } from '../metadata/storage-error.ts';
import { Trash } from '../metadata/trash.ts';
import type { Layer, UnpackedLayer } from './layer.ts';

const SUFFIX = '.erofs';

interface LayerRow {
  diff_id: Digest;
  size: number;
  image_size: number;
  file_bytes: number | null;
}

/**
 * The EROFS images of layers by diff ID, and which layer blob unpacks to which. {@link Layer} tells a layer's life. Files
 * lie in `layers/sha256/` under the data root, unfinished ones in `layers/unpacking/`, removed ones in `layers/trash/`.
 */
export class LayerStore {
  readonly #db: Database;
  readonly #events: { append(event: NewEvent): unknown };
  readonly #layers: string;
  readonly #unpacking: string;
  readonly #trash: Trash;
  readonly #now: () => number;

  /** `root`: the data root. */
  constructor(options: {
    db: Database;
    root: string;
    events: { append(event: NewEvent): unknown };
    now?: () => number;
  }) {
    this.#db = options.db;
    this.#events = options.events;
    this.#layers = join(options.root, 'layers', 'sha256');
    this.#unpacking = join(options.root, 'layers', 'unpacking');
    this.#now = options.now ?? Date.now;
    try {
      for (const folder of [this.#layers, this.#unpacking]) mkdirSync(folder, { recursive: true });
      this.#trash = new Trash(join(options.root, 'layers', 'trash'));
      // What an unpacking left. Now, since the first pull may come before the sweep does.
      for (const name of readdirSync(this.#unpacking)) this.#trash.discard(join(this.#unpacking, name));
    } catch (error) {
      throw storageError(error, 'make the folders of the layers');
    }
  }

  /** Whether the layer is stored; one that has been found damaged is not. */
  has(diffId: Digest): boolean {
    return this.get(diffId) !== undefined;
  }

  get(diffId: Digest): Layer | undefined {
    const row = this.#db.get<LayerRow>(
      'SELECT diff_id, size, image_size, file_bytes FROM layer WHERE diff_id = ? AND damage IS NULL',
      diffId,
    );
    return row === undefined
      ? undefined
      : {
          diffId: row.diff_id,
          size: row.size,
          imageSize: row.image_size,
          fileBytes: row.file_bytes ?? undefined,
        };
  }

  /** How many layers are stored, the bytes of their EROFS images, and how many are damaged. */
  totals(): { readonly count: number; readonly bytes: number; readonly damaged: number } {
    return (
      this.#db.get<{ count: number; bytes: number; damaged: number }>(
        'SELECT count(*) AS count, coalesce(sum(image_size), 0) AS bytes, count(damage) AS damaged FROM layer',
      ) ?? { count: 0, bytes: 0, damaged: 0 }
    );
  }

  /** The file of a stored layer. */
  path(diffId: Digest): string {
    return join(this.#layers, hexOf(diffId) + SUFFIX);
  }

  /** Where the layer of a blob is unpacked, until its diff ID is known. */
  temporaryPath(digest: Digest): string {
    return join(this.#unpacking, hexOf(digest) + SUFFIX);
  }

  /** Bytes of the disk that unfinished EROFS images take. */
  async unpackingBytes(): Promise<number> {
    const files = await filesOnDisk(this.#unpacking);
    return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** What the layer blob unpacks to, if it ever was unpacked here. */
  diffIdOf(blobDigest: Digest): Digest | undefined {
    return this.#db.get<{ diff_id: Digest }>('SELECT diff_id FROM layer_blob WHERE digest = ?', blobDigest)?.diff_id;
  }

  /**
   * Makes an unpacked layer visible: its file is renamed into place, then the rows are written. A layer that is there
   * already, from another blob with the same content, stays, and the temporary file goes.
   */
  commit(unpacked: UnpackedLayer, temporaryPath: string): void {
    const { diffId, digest, size, imageSize, fileBytes } = unpacked;
    const isNew = !this.has(diffId);
    try {
      if (!isNew) rmSync(temporaryPath, { force: true });
      else renameSync(temporaryPath, this.path(diffId));
    } catch (error) {
      throw storageError(error, `commit layer ${diffId}`);
    }
    try {
      this.#db.transaction(() => {
        const wasDamaged = this.#damageOf(diffId) !== undefined;
        // Its file has been replaced.
        if (wasDamaged) this.#db.run('DELETE FROM layer WHERE diff_id = ?', diffId);
        this.#db.run(
          // One that is there already may be from before the bytes of its files were counted.
          `INSERT INTO layer (diff_id, size, image_size, file_bytes, created_at) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (diff_id) DO UPDATE SET file_bytes = excluded.file_bytes`,
          diffId,
          size,
          imageSize,
          fileBytes ?? null,
          this.#now(),
        );
        this.#db.run('INSERT OR REPLACE INTO layer_blob (digest, diff_id) VALUES (?, ?)', digest, diffId);
        if (wasDamaged) this.#append('repair', diffId);
        else if (isNew) this.#append('commit', diffId, { digest, size: `${size}`, imageSize: `${imageSize}` });
      });
    } catch (error) {
      // On a full disk. A file without a row would be nobody's; where it came from the caller clears it away.
      if (this.#isStray(hexOf(diffId) + SUFFIX)) renameSync(this.path(diffId), temporaryPath);
      throw error;
    }
  }

  /**
   * Deletes layers: their rows now, in the caller's transaction; their files once that is committed. Returns the bytes that
   * they took on the disk. A file first moves to the trash, in the same turn of the event loop, so that a commit of the
   * same diff ID by a pull that starts just after is not what gets deleted. A mount of it stays usable.
   */
  remove(diffIds: readonly Digest[]): number {
    let bytes = 0;
    for (const diffId of diffIds) {
      this.#db.run('DELETE FROM layer_blob WHERE diff_id = ?', diffId);
      const row = this.#db.get<Pick<LayerRow, 'image_size'>>(
        'DELETE FROM layer WHERE diff_id = ? RETURNING image_size',
        diffId,
      );
      bytes += row?.image_size ?? 0;
      if (row !== undefined) this.#append('remove', diffId);
    }
    this.#db.afterCommit(() => {
      for (const diffId of diffIds) this.#trash.discard(this.path(diffId));
    });
    return bytes;
  }

  /**
   * Brings files and rows together after a start: empties the trash, removes files that have no row, and rows that have no
   * file.
   */
  async sweep(): Promise<void> {
    await this.#trash.empty();
    const rows = new Map(
      this.#db
        .all<Pick<LayerRow, 'diff_id' | 'image_size'>>('SELECT diff_id, image_size FROM layer')
        .map((row) => [row.diff_id, row.image_size]),
    );
    for (const name of readdirSync(this.#layers)) {
      const diffId: Digest = `sha256:${name.slice(0, -SUFFIX.length)}`;
      const path = join(this.#layers, name);
      // A file that was cut short, by a power loss before it was synced, is as good as none.
      const isWhole = rows.get(diffId) === statSync(path).size;
      if (!isWhole) rmSync(path, { recursive: true, force: true });
      else rows.delete(diffId);
    }
    this.#db.transaction(() => {
      for (const diffId of rows.keys()) {
        this.#db.run('DELETE FROM layer_blob WHERE diff_id = ?', diffId);
        this.#db.run('DELETE FROM layer WHERE diff_id = ?', diffId);
        this.#append('remove', diffId, { reason: 'its file is missing or damaged' });
      }
    });
  }

  /**
   * Remembers why the file of a stored layer is not to be trusted, or with undefined that it has been found sound. A damaged
   * layer counts as one that is not there: it is not mounted, and whoever needs it has it made again.
   */
  judge(diffId: Digest, damage: string | undefined): void {
    this.#db.essential(() => {
      const was = this.#damageOf(diffId);
      if (damage === undefined) {
        this.#db.run('UPDATE layer SET damage = NULL, verified_at = ? WHERE diff_id = ?', this.#now(), diffId);
      } else this.#db.run('UPDATE layer SET damage = ? WHERE diff_id = ?', damage, diffId);
      if (damage !== undefined && was === undefined) this.#append('damage', diffId, { reason: damage });
      if (damage === undefined && was !== undefined) this.#append('repair', diffId);
    });
  }

  /** Remembers the digest of the EROFS image, which a verification holds its file to. */
  record(diffId: Digest, imageDigest: Digest): void {
    this.#db.run('UPDATE layer SET image_digest = ? WHERE diff_id = ?', imageDigest, diffId);
  }

  /** Files that have no row, by their names. */
  strays(): string[] {
    // In one turn, since files are put into place in one turn with their rows.
    return readdirSync(this.#layers).filter((name) => this.#isStray(name));
  }

  /** Frees a file that has no row. */
  discardStray(name: string): void {
    if (this.#isStray(name)) this.#trash.discard(join(this.#layers, name));
  }

  #isStray(name: string): boolean {
    const diffId: Digest = `sha256:${name.slice(0, -SUFFIX.length)}`;
    return !name.endsWith(SUFFIX) || this.#db.get('SELECT 1 FROM layer WHERE diff_id = ?', diffId) === undefined;
  }

  #damageOf(diffId: Digest): string | undefined {
    const row = this.#db.get<{ damage: string | null }>('SELECT damage FROM layer WHERE diff_id = ?', diffId);
    return row?.damage ?? undefined;
  }

  #append(
    action: 'commit' | 'remove' | 'damage' | 'repair',
    diffId: Digest,
    attributes: Record<string, string> = {},
  ): void {
    this.#events.append({ type: 'layer', action, actor: diffId, attributes: { ...attributes, name: diffId } });
  }
}
