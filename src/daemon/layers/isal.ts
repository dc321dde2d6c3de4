import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';

/**
 * Intel's ISA-L, where the host has it: the fastest inflate there is. It is called in-process on the bytes where they are.
 * The struct inflate_state of igzip_lib.h is the caller's to allocate, and its layout part of the library's ABI.
 */
const LIBRARY = 'libisal.so.2';

/** Bytes of struct inflate_state, with room to spare. */
const STATE_BYTES = 128 * 1024;
const NEXT_OUT = 0;
const AVAIL_OUT = 8;
const NEXT_IN = 16;
const AVAIL_IN = 32;
const BLOCK_STATE = 21160;
const CRC_FLAG = 21172;
/** crc_flag: the gzip header is read, the trailer's checksum and length are checked. */
const ISAL_GZIP = 1;
/** block_state: the member is complete and its trailer was right. */
const ISAL_BLOCK_FINISH = 5;

type Pointer = Uint8Array;

/** The functions of the library that are used. */
export interface IsalLibrary {
  init(state: Pointer): void;
  reset(state: Pointer): void;
  /** Negative on an error. */
  inflate(state: Pointer): number;
  address(bytes: Uint8Array): bigint;
}

/** The part of koffi that is used. */
interface Koffi {
  load(path: string): { func(prototype: string): (...args: unknown[]) => unknown };
  address(value: unknown): bigint;
}

/**
 * Loads the library; undefined where it or koffi is not installed, or where it does not decompress what it is tried on:
 * a build whose state has another layout must not be trusted with a layer.
 */
export function loadIsal(): IsalLibrary | undefined {
  let library: IsalLibrary;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const isal = koffi.load(LIBRARY);
    library = {
      init: isal.func('void isal_inflate_init(void *state)'),
      reset: isal.func('void isal_inflate_reset(void *state)'),
      inflate: isal.func('int isal_inflate(void *state)') as IsalLibrary['inflate'],
      address: (bytes) => koffi.address(bytes),
    };
  } catch {
    // Both are optional: zlib does the same work, slower.
    return undefined;
  }
  return isTrustworthy(library) ? library : undefined;
}

/** One gzip member at a time through ISA-L. */
export class IsalState {
  readonly #library: IsalLibrary;
  readonly #state = Buffer.alloc(STATE_BYTES);

  constructor(library: IsalLibrary) {
    this.#library = library;
    library.init(this.#state);
    this.#state.writeUInt32LE(ISAL_GZIP, CRC_FLAG);
  }

  /** Whether the member under way is complete. */
  isFinished(): boolean {
    return this.#state.readUInt32LE(BLOCK_STATE) === ISAL_BLOCK_FINISH;
  }

  /** Begins another member. */
  reset(): void {
    this.#library.reset(this.#state);
    this.#state.writeUInt32LE(ISAL_GZIP, CRC_FLAG);
  }

  /** Goes on; returns how many bytes it took, how many it gave, and the library's code if there was an error. */
  inflate(input: Uint8Array, output: Uint8Array): { taken: number; given: number; error: number } {
    const state = this.#state;
    state.writeBigUInt64LE(this.#library.address(input), NEXT_IN);
    state.writeUInt32LE(input.length, AVAIL_IN);
    state.writeBigUInt64LE(this.#library.address(output), NEXT_OUT);
    state.writeUInt32LE(output.length, AVAIL_OUT);
    const code = this.#library.inflate(state);
    return {
      taken: input.length - state.readUInt32LE(AVAIL_IN),
      given: output.length - state.readUInt32LE(AVAIL_OUT),
      error: Math.min(code, 0),
    };
  }
}

function isTrustworthy(library: IsalLibrary): boolean {
  const text = Buffer.from('layer '.repeat(100));
  const member = gzipSync(text);
  const output = Buffer.alloc(text.length + 1);
  const state = new IsalState(library);
  // In two parts, the second with the start of another member, since that is where the state's fields count.
  const first = state.inflate(member.subarray(0, 20), output);
  if (first.error < 0 || first.taken !== 20 || state.isFinished()) return false;
  const rest = Buffer.concat([member.subarray(20), member]);
  const second = state.inflate(rest, output.subarray(first.given));
  return (
    second.error === 0 &&
    state.isFinished() &&
    second.taken === member.length - 20 &&
    output.subarray(0, first.given + second.given).equals(text)
  );
}
