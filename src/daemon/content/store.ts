import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf, isDigest, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { MAX_DOCUMENT_BYTES } from '../../protocol/oci.ts';
import { digestOf } from '../../protocol/sha256.ts';
import type { NewEvent } from '../events/event.ts';
import { filesOnDisk, onDisk } from '../metadata/blocks.ts';
import type { Database } from '../metadata/database.ts';
import { storageError } from '../metadata/storage-error.ts';
import { Trash } from '../metadata/trash.ts';
import type { Blob } from './content.ts';

/**
 * The local side: blobs by digest, under the data root, which is an OCI image layout that other tools can read while
 * the daemon is down. {@link Blob} tells a blob's life.
 */
export class ContentStore {
  readonly #db: Database;
  readonly #root: string;
  readonly #trash: Trash;
  readonly #now: () => number;
  readonly #events: { append(event: NewEvent): unknown };

  constructor(options: {
    db: Database;
    root: string;
    now?: () => number;
    /** Is told of damage, and of its repair. */
    events?: { append(event: NewEvent): unknown };
  }) {
    this.#db = options.db;
    this.#events = options.events ?? { append: () => undefined };
    this.#root = options.root;
    this.#now = options.now ?? Date.now;
    // Nobody resumes what was staged when the daemon died.
    rmSync(join(this.#root, 'staging'), { recursive: true, force: true });
    for (const folder of ['blobs/sha256', 'ingest', 'staging']) {
      mkdirSync(join(this.#root, folder), { recursive: true });
    }
    this.#trash = new Trash(join(this.#root, 'trash'));
  }

  /** Whether the blob is stored, and was verified when it was; one that has been found damaged since is not. */
  has(digest: Digest): boolean {
    return this.get(digest) !== undefined;
  }

  get(digest: Digest): Blob | undefined {
    return this.#db.get<Blob>('SELECT digest, size FROM blob WHERE digest = ? AND damage IS NULL', digest);
  }

  /** The file of a stored blob. */
  path(digest: Digest): string {
    return join(this.#root, 'blobs', 'sha256', hexOf(digest));
  }

  /** The file in which an ingest gathers the blob's bytes. */
  ingestPath(digest: Digest): string {
    return join(this.#root, 'ingest', hexOf(digest));
  }

  /**
   * A file of the caller's own for bytes that come once and are never resumed, such as those of an archive that a client
   * sends, whose digest may not even be known yet. A transfer of the same blob has its ingest beside it.
   */
  stagingPath(): string {
    return join(this.#root, 'staging', randomUUID());
  }

  /** How many bytes an earlier ingest of the blob left. */
  ingestSize(digest: Digest): number {
    try {
      // Not awaited, so that who asks for several transfers gets them into the queue in the order of asking.
      return statSync(this.ingestPath(digest), { throwIfNoEntry: false })?.size ?? 0;
    } catch (error) {
      throw storageError(error, `look at what an earlier transfer left of ${digest}`);
    }
  }

  /**
   * Throws away what an ingest has gathered, once the caller's transaction is committed; returns the bytes it takes on the
   * disk. The file moves away in this turn of the event loop, so that the caller, who has just found that nobody wants it,
   * does not take it from a pull that begins a moment later.
   */
  discardIngest(digest: Digest): number {
    const bytes = onDisk(this.ingestSize(digest));
    this.#db.afterCommit(() => this.#trash.discard(this.ingestPath(digest)));
    return bytes;
  }

  /** What ingests have gathered, in bytes of the disk, by digest, and what archives that are being loaded have brought. */
  async unfinished(): Promise<{ readonly ingests: ReadonlyMap<Digest, number>; readonly staged: number }> {
    const ingests = await filesOnDisk(join(this.#root, 'ingest'));
    const staged = await filesOnDisk(join(this.#root, 'staging'));
    return {
      ingests: new Map([...ingests].map(([name, bytes]) => [`sha256:${name}`, bytes])),
      staged: [...staged.values()].reduce((sum, bytes) => sum + bytes, 0),
    };
  }

  /**
   * Reads a stored document (manifest, index, config) whole. Throws `corrupt` where its file is damaged: nothing is made of
   * bytes that are not what their name says.
   */
  async read(digest: Digest): Promise<Buffer> {
    const blob = this.get(digest);
    if (blob === undefined) throw this.#absent(digest);
    if (blob.size > MAX_DOCUMENT_BYTES) {
      throw new LayerdError(
        'invalid',
        `blob ${digest} has ${blob.size} bytes; a document has at most ${MAX_DOCUMENT_BYTES}`,
      );
    }
    let bytes: Buffer;
    try {
      bytes = await readFile(this.path(digest));
    } catch (error) {
      throw storageError(error, `read blob ${digest}`);
    }
    if (digestOf(bytes) === digest) return bytes;
    this.judge(digest, 'its file has other bytes than were stored');
    throw this.#absent(digest);
  }

  /** How many blobs are stored, their bytes, and how many of them are damaged. */
  totals(): { readonly count: number; readonly bytes: number; readonly damaged: number } {
    return (
      this.#db.get<{ count: number; bytes: number; damaged: number }>(
        'SELECT count(*) AS count, coalesce(sum(size), 0) AS bytes, count(damage) AS damaged FROM blob',
      ) ?? { count: 0, bytes: 0, damaged: 0 }
    );
  }

  /** Stores a document that is at hand whole, after checking its digest. Does nothing if it is stored already. */
  async putDocument(digest: Digest, bytes: Uint8Array): Promise<void> {
    if (this.has(digest)) return;
    const actual = digestOf(bytes);
    if (actual !== digest) {
      throw new LayerdError('corrupt', `the document has digest ${actual}, expected ${digest}`);
    }
    // Not beside the ingests, which are swept: it is over before anybody could resume it.
    const path = this.stagingPath();
    try {
      await writeFile(path, bytes, { flush: true });
      this.#place(path, digest, bytes.byteLength);
    } catch (error) {
      await rm(path, { force: true });
      throw storageError(error, `store ${digest}`);
    }
  }

  /**
   * Makes an ingest whose size and digest were verified visible: its bytes are synced, so that no tag outlives them in a
   * power loss, then the file is renamed into place, then the row is written. `path`: where the bytes are.
   */
  async commit(digest: Digest, size: number, path = this.ingestPath(digest)): Promise<void> {
    try {
      const file = await open(path, 'r+');
      try {
        await file.datasync();
      } finally {
        await file.close();
      }
      this.#place(path, digest, size);
    } catch (error) {
      throw storageError(error, `commit blob ${digest}`);
    }
  }

  /**
   * Deletes blobs: their rows now, in the caller's transaction; their files once that is committed. Returns the bytes that
   * they took on the disk. A file first moves to the trash, in the same turn of the event loop, so that a commit of the
   * same digest by a pull that starts just after is not what gets deleted.
   */
  remove(digests: readonly Digest[]): number {
    let bytes = 0;
    for (const digest of digests) {
      const row = this.#db.get<Pick<Blob, 'size'>>('DELETE FROM blob WHERE digest = ? RETURNING size', digest);
      bytes += onDisk(row?.size ?? 0);
    }
    this.#db.afterCommit(() => {
      for (const digest of digests) this.#trash.discard(this.path(digest));
    });
    return bytes;
  }

  /**
   * Brings files and rows together after a start: empties the trash, removes files that have no row and rows that have no
   * file, and ingests that `isWanted` denies. Returns the digests whose files are gone.
   */
  async sweep(isWanted: (digest: Digest) => boolean): Promise<Digest[]> {
    await this.#trash.empty();
    this.sweepIngests(isWanted);
    const rows = new Set(this.#db.all<{ digest: Digest }>('SELECT digest FROM blob').map((row) => row.digest));
    for (const name of readdirSync(join(this.#root, 'blobs', 'sha256'))) {
      const digest: Digest = `sha256:${name}`;
      // A row read again: the file may have been committed since the rows were listed.
      if (!rows.delete(digest) && !this.has(digest)) rmSync(join(this.#root, 'blobs', 'sha256', name), { force: true });
    }
    const missing = [...rows].filter((digest) => statSync(this.path(digest), { throwIfNoEntry: false }) === undefined);
    for (const digest of missing) this.#db.run('DELETE FROM blob WHERE digest = ?', digest);
    return missing;
  }

  /**
   * Remembers why the file of a stored blob is not to be trusted, or with undefined that it has been found sound. A damaged
   * blob counts as one that is not there: whoever needs it fetches it, which puts a sound file in its place.
   */
  judge(digest: Digest, damage: string | undefined): void {
    this.#db.essential(() => {
      const was = this.#damageOf(digest);
      if (damage === undefined) {
        this.#db.run('UPDATE blob SET damage = NULL, verified_at = ? WHERE digest = ?', this.#now(), digest);
      } else this.#db.run('UPDATE blob SET damage = ? WHERE digest = ?', damage, digest);
      if (damage !== undefined && was === undefined) this.#tell('damage', digest, { reason: damage });
      if (damage === undefined && was !== undefined) this.#tell('repair', digest);
    });
  }

  /** Gives a file that lies in its place, and has been verified, the row that it has lost. */
  adopt(digest: Digest, size: number): void {
    this.#putRow(digest, size);
  }

  /** Files that have no row, of which nobody knows, and which nobody can reach. */
  strays(): Digest[] {
    // In one turn, since files are put into place in one turn with their rows.
    return readdirSync(join(this.#root, 'blobs', 'sha256'))
      .map((name): Digest => `sha256:${name}`)
      .filter((digest) => this.#isStray(digest));
  }

  /** Frees a file that has no row. */
  discardStray(digest: Digest): void {
    if (this.#isStray(digest)) this.#trash.discard(this.path(digest));
  }

  /** Removes what ingests left that nobody will resume. */
  sweepIngests(isWanted: (digest: Digest) => boolean): void {
    for (const name of readdirSync(join(this.#root, 'ingest'))) {
      const digest = `sha256:${name}`;
      if (!isDigest(digest) || !isWanted(digest)) rmSync(join(this.#root, 'ingest', name), { force: true });
    }
  }

  #isStray(digest: Digest): boolean {
    return this.#db.get('SELECT 1 FROM blob WHERE digest = ?', digest) === undefined;
  }

  #absent(digest: Digest): LayerdError {
    const damage = this.#damageOf(digest);
    return damage === undefined
      ? new LayerdError('not-found', `blob ${digest} is not stored`)
      : new LayerdError(
          'corrupt',
          `blob ${digest} is damaged (${damage}): repair it with layerctl verify --repair, or pull its image again`,
        );
  }

  #damageOf(digest: Digest): string | undefined {
    return (
      this.#db.get<{ damage: string | null }>('SELECT damage FROM blob WHERE digest = ?', digest)?.damage ?? undefined
    );
  }

  #tell(action: 'damage' | 'repair', digest: Digest, attributes: Record<string, string> = {}): void {
    this.#events.append({ type: 'blob', action, actor: digest, attributes: { ...attributes, name: digest } });
  }

  /** File and row in one turn of the event loop: a sweep that came in between would take the file for a leftover. */
  #place(path: string, digest: Digest, size: number): void {
    renameSync(path, this.path(digest));
    try {
      this.#db.transaction(() => {
        if (this.#damageOf(digest) !== undefined) this.#tell('repair', digest);
        this.#putRow(digest, size);
      });
    } catch (error) {
      // On a full disk. A file without a row is nobody's; where it came from it can be resumed, or is cleared away.
      if (this.#isStray(digest)) renameSync(this.path(digest), path);
      throw error;
    }
  }

  #putRow(digest: Digest, size: number): void {
    this.#db.run(
      'INSERT OR REPLACE INTO blob (digest, size, durable, created_at) VALUES (?, ?, 1, ?)',
      digest,
      size,
      this.#now(),
    );
  }
}
