import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import type { Digest } from '../../protocol/digest.ts';
import { messageOf } from '../../protocol/errors.ts';
import { yieldToOthers } from '../niceness.ts';

/** What the main thread asks: to read on in a file, from where the last piece of it ended or from its begin. */
export interface Piece {
  readonly path: string;
  readonly from: number;
  /** Bytes. */
  readonly length: number;
}

/** What it is answered. */
export type PieceAnswer =
  /** Bytes that have been read in all, and the digest if that was all of the file. */
  | { readonly size: number; readonly digest?: Digest }
  /** A code of the file system. */
  | { readonly code: string; readonly message: string };

/** As far back as nice(1) goes: whoever waits for anything else goes first. */
const NICENESS = 19;
/** Bytes of a read: 1 MiB. */
const READ_BYTES = 1024 * 1024;
const WASM_PAGE_BYTES = 64 * 1024;

/** What is used of the global that Node has and its types leave to browsers'. */
declare const WebAssembly: { Memory: new (pages: { initial: number }) => { readonly buffer: ArrayBuffer } };

const port = parentPort;
if (port === null) throw new Error('content/checksum-thread is started as a worker thread');

yieldToOthers(NICENESS);
// O_DIRECT wants memory that begins at a page, which of all of JavaScript's only WebAssembly's is sure to do.
const buffer = new Uint8Array(new WebAssembly.Memory({ initial: READ_BYTES / WASM_PAGE_BYTES }).buffer);
let open: { readonly path: string; readonly file: number; readonly hash: Hash; size: number } | undefined;

port.on('message', (piece: Piece) => port.postMessage(answerTo(piece)));

function answerTo({ path, from, length }: Piece): PieceAnswer {
  try {
    if (open === undefined || open.path !== path || open.size !== from) {
      close();
      open = { path, file: openFile(path), hash: createHash('sha256'), size: 0 };
    }
    for (const until = from + length; open.size < until;) {
      const read = readSync(open.file, buffer);
      open.hash.update(buffer.subarray(0, read));
      open.size += read;
      if (read > 0) continue;
      const { size, hash } = open;
      close();
      return { size, digest: `sha256:${hash.digest('hex')}` };
    }
    return { size: open.size };
  } catch (error) {
    close();
    return { code: (error as NodeJS.ErrnoException).code ?? 'EIO', message: messageOf(error) };
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  } catch (error) {
    // Not all file systems have it, tmpfs for one.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    return openSync(path, constants.O_RDONLY);
  }
}

function close(): void {
  if (open !== undefined) closeSync(open.file);
  open = undefined;
}
