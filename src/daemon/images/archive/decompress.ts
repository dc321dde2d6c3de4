import { pipeline } from 'node:stream/promises';
import { Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { FREE_EXPANSION_BYTES, MAX_EXPANSION } from '../../layers/inflate.ts';
import { unusable } from './archive.ts';

/** Bytes that tell the compression. */
const MAGIC_BYTES = 6;
/** Bytes that are decompressed at a time. */
const OUTPUT_BYTES = 256 * 1024;

const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);

export type Compression = 'none' | 'gzip' | 'zstd';

/** How bytes are compressed, told by the first of them. */
export function compressionOf(magic: Uint8Array): Compression {
  const [first, second] = magic;
  if (first === 0x1f && second === 0x8b) return 'gzip';
  if (magic.byteLength < 4) return 'none';
  const number = new DataView(magic.buffer, magic.byteOffset).getUint32(0, true);
  // A zstd frame, or a skippable frame before it (RFC 8878, 3.1).
  return number === 0xfd2fb528 || (number & 0xfffffff0) >>> 0 === 0x184d2a50 ? 'zstd' : 'none';
}

/** Refuses what dockerd decompresses and layerd does not. */
export function refuseOthers(magic: Buffer): void {
  const other =
    magic.toString('latin1', 0, 3) === 'BZh' ? 'bzip2' : magic.subarray(0, XZ.length).equals(XZ) ? 'xz' : '';
  if (other !== '') throw unusable(`it is compressed with ${other}; decompress it first, or use gzip or zstd`);
}

/** The first bytes, enough to tell the compression where there are so many, and all bytes, which end the source with them. */
export async function peeked(
  source: AsyncIterable<Uint8Array>,
): Promise<{ readonly head: Buffer; readonly bytes: AsyncGenerator<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < MAGIC_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  return { head, bytes: resumed(head, iterator) };
}

async function* resumed(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (head.byteLength > 0) yield head;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** The bytes of an archive, which may be compressed as a whole with gzip or zstd. */
export async function* decompressed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { head, bytes } = await peeked(source);
  refuseOthers(head);
  const compression = compressionOf(head);
  if (compression === 'none') yield* bytes;
  else yield* expanded(bytes, compression);
}

/** An archive that is small and decompresses to no end is made to fill the disk. */
async function* expanded(source: AsyncIterable<Uint8Array>, compression: 'gzip' | 'zstd'): AsyncGenerator<Uint8Array> {
  const decoder: Transform =
    compression === 'gzip'
      ? createGunzip({ chunkSize: OUTPUT_BYTES })
      : createZstdDecompress({ chunkSize: OUTPUT_BYTES });
  let taken = 0;
  let given = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      taken += chunk.byteLength;
      yield chunk;
    }
  };
  // What fails on the way comes out of the decoder's own iteration.
  const feeding = pipeline(Readable.from(counted(), { objectMode: false }), decoder).catch(() => undefined);
  try {
    for await (const chunk of decoder as AsyncIterable<Buffer>) {
      given += chunk.byteLength;
      const limit = FREE_EXPANSION_BYTES + taken * MAX_EXPANSION;
      if (given > limit) {
        throw unusable(`its first ${taken} bytes expand to more than ${limit}, as if it were made to fill the disk`);
      }
      yield chunk;
    }
  } finally {
    decoder.destroy();
    await feeding;
  }
}
