import { createHash, type Hash } from 'node:crypto';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import type { BlobSource, Downloader, DownloadOptions } from './download.ts';

/** Distance between the places from which a blob can be read again, in bytes: 8 MiB. */
const CHECKPOINT_BYTES = 8 * 1024 * 1024;

/** How far the blob was hashed. */
interface Checkpoint {
  readonly position: number;
  readonly hash: Hash;
}

/**
 * A blob on its way from one repository into another, of which nothing is kept. Its last piece is passed on only once all
 * bytes have proved right, so that no upload of wrong ones is ever complete.
 */
export class Relay {
  readonly #downloader: Downloader;
  readonly #blob: Pick<Descriptor, 'digest' | 'size'>;
  readonly #source: BlobSource;
  readonly #options: Omit<DownloadOptions, 'offset' | 'update'>;
  /** Besides the beginning. */
  #checkpoints: Checkpoint[] = [];

  constructor(
    downloader: Downloader,
    blob: Pick<Descriptor, 'digest' | 'size'>,
    source: BlobSource,
    options: Omit<DownloadOptions, 'offset' | 'update'>,
  ) {
    this.#downloader = downloader;
    this.#blob = blob;
    this.#source = source;
    this.#options = options;
  }

  /** The bytes from the offset on. Those before it were passed on by an earlier call. */
  async *open(offset: number): AsyncGenerator<Uint8Array, void, undefined> {
    const { digest, size } = this.#blob;
    const start = this.#checkpoints.findLast(({ position }) => position <= offset) ?? {
      position: 0,
      hash: createHash('sha256'),
    };
    this.#checkpoints = this.#checkpoints.filter(({ position }) => position <= start.position);
    const hash = start.hash.copy();
    let { position } = start;
    const verify = (): void => {
      const actual = `sha256:${hash.copy().digest('hex')}`;
      if (actual !== digest) {
        throw new LayerdError('corrupt', `the bytes that came have digest ${actual}, expected ${digest}`);
      }
    };
    const options = { ...this.#options, offset: position, update: () => undefined };
    try {
      if (size === 0) verify();
      for await (const chunk of this.#downloader.bytes(this.#blob, this.#source, options)) {
        const end = position + chunk.byteLength;
        if (end > size) throw new LayerdError('corrupt', `more than the ${size} bytes came that ${digest} has`);
        hash.update(chunk);
        if (end === size) verify();
        if (end > offset) yield chunk.subarray(Math.max(0, offset - position));
        position = end;
        if (position - (this.#checkpoints.at(-1)?.position ?? 0) >= CHECKPOINT_BYTES) {
          this.#checkpoints.push({ position, hash: hash.copy() });
        }
      }
    } catch (error) {
      // The connection that broke is the source's: where the bytes go to is not to be asked how far it got.
      throw isKind(error, 'unavailable')
        ? new LayerdError('unavailable', `cannot read ${digest} from its source: ${messageOf(error)}`, { cause: error })
        : error;
    }
  }
}
