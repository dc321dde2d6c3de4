import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { LayerdError } from '../../protocol/errors.ts';
import { IsalState, type IsalLibrary } from './isal.ts';

/**
 * How far a layer may expand. Deflate cannot do more than 1032 times; zstd can, and such a layer is made to fill disks.
 */
export const MAX_EXPANSION = 1100;
/** Bytes of output that are always let through, because short blobs of zeros expand further. */
export const FREE_EXPANSION_BYTES = 64 * 1024 * 1024;
/** Bytes of tar that a layer may have: 256 GiB. */
export const MAX_TAR_BYTES = 256 * 1024 ** 3;

/** Bytes that tell the compression. */
const MAGIC_BYTES = 4;

/** Where decompressed bytes go, without a copy. */
export interface Output {
  /** Space for at least one byte. */
  reserve(): Uint8Array;
  /** The first bytes of the reserved space are filled. */
  commit(length: number): void;
}

/** Something that decompresses one format, synchronously. */
interface Decoder {
  write(input: Uint8Array): void;
  end(): void;
}

/**
 * Decompresses a layer blob: gzip (of any number of members, as estargz has them), zstd (of any number of frames), or
 * nothing at all, told by its first bytes as containerd does, because media types are often wrong.
 */
export class Inflater {
  readonly #output: Output;
  readonly #isal: IsalLibrary | undefined;
  readonly #magic = Buffer.alloc(MAGIC_BYTES);
  #magicLength = 0;
  #decoder: Decoder | undefined;
  #taken = 0;
  #given = 0;

  constructor(output: Output, isal: IsalLibrary | undefined) {
    this.#isal = isal;
    this.#output = {
      reserve: () => output.reserve(),
      commit: (length) => {
        output.commit(length);
        this.#given += length;
        this.#checkExpansion();
      },
    };
  }

  /** Takes the next bytes of the blob. */
  write(input: Uint8Array): void {
    let rest = input;
    if (this.#decoder === undefined) {
      const length = Math.min(MAGIC_BYTES - this.#magicLength, rest.length);
      this.#magic.set(rest.subarray(0, length), this.#magicLength);
      this.#magicLength += length;
      rest = rest.subarray(length);
      if (this.#magicLength < MAGIC_BYTES) return;
      this.#begin();
    }
    if (rest.length > 0) this.#feed(rest);
  }

  /** Says that all bytes were given. */
  end(): void {
    if (this.#decoder === undefined) this.#begin();
    this.#decoder?.end();
  }

  #begin(): void {
    const magic = this.#magic.subarray(0, this.#magicLength);
    this.#decoder = this.#choose(magic);
    this.#feed(magic);
  }

  #choose(magic: Buffer): Decoder {
    const output = this.#output;
    if (magic[0] === 0x1f && magic[1] === 0x8b) {
      return this.#isal === undefined
        ? new NodeDecoder('gzip', createGunzip(), constants.Z_NO_FLUSH, constants.Z_FINISH, output)
        : new IsalDecoder(this.#isal, output);
    }
    const number = magic.length < MAGIC_BYTES ? 0 : magic.readUInt32LE(0);
    // A zstd frame, or a skippable frame before it (RFC 8878, 3.1).
    if (number === 0xfd2fb528 || (number & 0xfffffff0) >>> 0 === 0x184d2a50) {
      return new NodeDecoder('zstd', createZstdDecompress(), constants.ZSTD_e_continue, constants.ZSTD_e_end, output);
    }
    return new CopyDecoder(output);
  }

  #feed(input: Uint8Array): void {
    this.#taken += input.length;
    this.#decoder?.write(input);
  }

  #checkExpansion(): void {
    const limit = Math.min(MAX_TAR_BYTES, FREE_EXPANSION_BYTES + this.#taken * MAX_EXPANSION);
    if (this.#given > limit) {
      throw new LayerdError(
        'corrupt',
        `the layer's first ${this.#taken} bytes expand to more than ${limit}: refused, as it seems made to fill the disk`,
      );
    }
  }
}

/** For a layer that is a plain tar. */
class CopyDecoder implements Decoder {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  write(input: Uint8Array): void {
    for (let at = 0; at < input.length;) {
      const space = this.#output.reserve();
      const length = Math.min(space.length, input.length - at);
      space.set(input.subarray(at, at + length));
      this.#output.commit(length);
      at += length;
    }
  }

  end(): void {
    // A tar tells its own end.
  }
}

class IsalDecoder implements Decoder {
  readonly #state: IsalState;
  readonly #output: Output;
  #isMemberOpen = true;

  constructor(library: IsalLibrary, output: Output) {
    this.#state = new IsalState(library);
    this.#output = output;
  }

  write(input: Uint8Array): void {
    let rest = input;
    for (;;) {
      if (!this.#isMemberOpen) {
        if (rest.length === 0) return;
        this.#state.reset();
        this.#isMemberOpen = true;
      }
      const space = this.#output.reserve();
      const { taken, given, error } = this.#state.inflate(rest, space);
      if (given > 0) this.#output.commit(given);
      if (error < 0) throw malformed('gzip', `ISA-L says ${error}`);
      rest = rest.subarray(taken);
      if (this.#state.isFinished()) this.#isMemberOpen = false;
      else if (rest.length === 0 && given < space.length) return;
    }
  }

  end(): void {
    if (this.#isMemberOpen) throw malformed('gzip', 'unexpected end of file');
  }
}

/** What is used of the object behind Node's zlib and zstd streams. */
interface NativeHandle {
  onerror: (message: string, errno: number, code: string) => void;
  /** Leaves what is left of output and input in the stream's write state. */
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void;
  close(): void;
}

/**
 * Drives the native part of a Node stream by itself. The stream would hand every chunk to the thread pool and back, and its
 * own synchronous mode closes after one chunk; here input and output are where the caller has them.
 */
class NodeDecoder implements Decoder {
  readonly #format: string;
  readonly #handle: NativeHandle;
  readonly #state: Uint32Array;
  readonly #flush: number;
  readonly #finish: number;
  readonly #output: Output;
  #error: string | undefined;

  constructor(format: string, stream: unknown, flush: number, finish: number, output: Output) {
    this.#format = format;
    const { _handle: handle, _writeState: state } = stream as { _handle: NativeHandle; _writeState: Uint32Array };
    this.#handle = handle;
    this.#state = state;
    this.#flush = flush;
    this.#finish = finish;
    this.#output = output;
    handle.onerror = (message) => (this.#error = message);
  }

  write(input: Uint8Array): void {
    this.#run(input, this.#flush);
  }

  end(): void {
    this.#run(new Uint8Array(0), this.#finish);
    this.#handle.close();
  }

  #run(input: Uint8Array, flush: number): void {
    let at = 0;
    for (;;) {
      const space = this.#output.reserve();
      this.#handle.writeSync(flush, input, at, input.length - at, space, 0, space.length);
      if (this.#error !== undefined) throw malformed(this.#format, this.#error);
      const [outputLeft = 0, inputLeft = 0] = this.#state;
      const given = space.length - outputLeft;
      const taken = input.length - at - inputLeft;
      if (given > 0) this.#output.commit(given);
      at += taken;
      if (inputLeft === 0 && outputLeft > 0) return;
      if (given === 0 && taken === 0) throw malformed(this.#format, 'there is something else behind its end');
    }
  }
}

const malformed = (format: string, reason: string): LayerdError =>
  new LayerdError('corrupt', `the layer is not valid ${format}: ${reason}`);
