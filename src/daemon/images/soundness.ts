import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { Checksum, Checksums } from '../content/checksum.ts';
import type { ContentStore } from '../content/store.ts';
import type { LayerStore } from '../layers/store.ts';
import type { Database } from '../metadata/database.ts';

/**
 * A file of the store that can be held to what it should hold: a *blob* to its digest, the EROFS image of a *layer* to the
 * digest that was recorded when it was synced. It is *sound* until it is found *damaged*, which is remembered: from then on
 * it counts as missing, so that nothing of it is pushed, saved or mounted; and *repaired* when a sound file has taken its
 * place.
 */
export interface Subject {
  readonly kind: 'blob' | 'layer';
  /** The digest of a blob, the diff ID of a layer. */
  readonly digest: Digest;
  /** Bytes of the file. */
  readonly size: number;
}

/** What is wrong with one. */
export interface Flaw {
  readonly problem: 'damaged' | 'missing';
  readonly reason: string;
}

export interface CheckOptions {
  readonly signal: AbortSignal;
  /** Is told the bytes of each piece that was read, and is waited for before the next. */
  readonly pace?: (bytes: number) => void | Promise<void>;
}

interface Row {
  readonly size: number;
  readonly created_at: number;
  /** What the file should hold; null for a layer of which that was never recorded. */
  readonly expected: Digest | null;
}

const SELECT = {
  blob: 'SELECT size, created_at, digest AS expected FROM blob WHERE digest = ?',
  layer: 'SELECT image_size AS size, created_at, image_digest AS expected FROM layer WHERE diff_id = ?',
};

/** Errors of a read that say something of the file rather than of the daemon. */
const UNREADABLE: ReadonlySet<string> = new Set(['EIO', 'EUCLEAN', 'EBADMSG', 'EISDIR', 'ENOTDIR', 'ELOOP']);

/** Holds files to what they should hold, and has the stores remember what it found, with an event where that is news. */
export class Soundness {
  readonly #db: Database;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #checksums: Checksums;

  constructor(options: { db: Database; content: ContentStore; layers: LayerStore; checksums: Checksums }) {
    this.#db = options.db;
    this.#content = options.content;
    this.#layers = options.layers;
    this.#checksums = options.checksums;
  }

  /**
   * Reads the file and judges it. Undefined where it is sound, or was removed or replaced meanwhile. Throws the signal's
   * reason, or where the daemon cannot tell, such as for want of file descriptors.
   */
  async check({ kind, digest }: Pick<Subject, 'kind' | 'digest'>, options: CheckOptions): Promise<Flaw | undefined> {
    const before = this.#row(kind, digest);
    if (before === undefined) return undefined;
    const path = kind === 'blob' ? this.#content.path(digest) : this.#layers.path(digest);
    let found: Checksum | Error;
    try {
      found = await this.#checksums.sum(path, options);
    } catch (error) {
      options.signal.throwIfAborted();
      found = error as Error;
    }
    return this.#db.essential(() => {
      const row = this.#row(kind, digest);
      // Another file, or another row, than what was read.
      if (row?.created_at !== before.created_at) return undefined;
      const flaw = flawOf(found, row, path);
      if (kind === 'layer' && flaw === undefined && row.expected === null && !(found instanceof Error)) {
        this.#layers.record(digest, found.digest);
      }
      (kind === 'blob' ? this.#content : this.#layers).judge(digest, flaw?.reason);
      return flaw;
    });
  }

  #row(kind: Subject['kind'], digest: Digest): Row | undefined {
    return this.#db.get<Row>(SELECT[kind], digest);
  }
}

function flawOf(found: Checksum | Error, row: Row, path: string): Flaw | undefined {
  if (found instanceof Error) {
    const { code = '' } = found as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { problem: 'missing', reason: 'its file is gone' };
    if (UNREADABLE.has(code)) return { problem: 'damaged', reason: `its file cannot be read: ${found.message}` };
    throw new LayerdError('internal', `cannot verify ${path}: ${messageOf(found)}`, { cause: found });
  }
  if (found.size !== row.size) {
    return { problem: 'damaged', reason: `its file has ${found.size} bytes instead of ${row.size}` };
  }
  if (row.expected === null || found.digest === row.expected) return undefined;
  return { problem: 'damaged', reason: `its file has digest ${found.digest} instead of ${row.expected}` };
}
