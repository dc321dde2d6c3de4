import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';

/** Documents of this many bytes in all are kept parsed: about two hundred configs. */
const MAX_CACHED_BYTES = 1024 * 1024;

/** Configs and indexes, parsed. The ones used last are kept, since a client that inspects an image does so again. */
export class Documents {
  readonly #readBlob: (digest: Digest) => Promise<Buffer>;
  /** In the order of their last use. */
  readonly #cached = new Map<Digest, { readonly document: object; readonly bytes: number }>();
  #cachedBytes = 0;

  constructor(readBlob: (digest: Digest) => Promise<Buffer>) {
    this.#readBlob = readBlob;
  }

  /** Reads a stored JSON document. It is shared: callers do not change it. Throws `corrupt` where it is no object. */
  async read<T extends object>(digest: Digest): Promise<Partial<Readonly<T>>> {
    const cached = this.#cached.get(digest);
    if (cached !== undefined) {
      this.#cached.delete(digest);
      this.#cached.set(digest, cached);
      return cached.document;
    }
    const bytes = await this.#readBlob(digest);
    const document = parse(digest, bytes);
    this.#keep(digest, document, bytes.byteLength);
    return document;
  }

  #keep(digest: Digest, document: object, bytes: number): void {
    if (this.#cached.has(digest) || bytes > MAX_CACHED_BYTES) return;
    this.#cached.set(digest, { document, bytes });
    this.#cachedBytes += bytes;
    for (const [oldest, entry] of this.#cached) {
      if (this.#cachedBytes <= MAX_CACHED_BYTES) break;
      this.#cached.delete(oldest);
      this.#cachedBytes -= entry.bytes;
    }
  }
}

function parse(digest: Digest, bytes: Buffer): object {
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new LayerdError('corrupt', `blob ${digest} is not JSON`, { cause: error });
  }
  if (typeof document === 'object' && document !== null) return document;
  throw new LayerdError('corrupt', `blob ${digest} is not a JSON object`);
}
