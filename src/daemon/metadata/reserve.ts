import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../../protocol/errors.ts';
import { STAT_BLOCK } from './blocks.ts';
import { isFull } from './storage-error.ts';

/** Bytes that the reserve grows by. */
const PIECE = 256 * 1024;
/** Bytes of a whole reserve: removing an image of 127 layers out of a store of 300 images writes 2.3 MB, a start 0.1. */
export const RESERVE_BYTES = 16 * 1024 * 1024;
/** Of a small file system it takes one part in so many. */
const SHARE = 16;
/** Milliseconds until the first attempt to make a reserve whole again; they come half as often each time. */
const FIRST_REFILL = 500;
const LAST_REFILL = 60_000;

/** What is told of the reserve. */
export interface ReserveLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** Does the work, and sees to it that a full disk does not keep it from being done. */
export interface Room {
  within<T>(work: () => T): T;
}

/** Work that has to do with the space there is. */
export const noReserve: Room = { within: (work) => work() };

/**
 * Space in the data root that is held back by a file, so that on a full disk images can still be removed and the daemon
 * can start: both write a little before anything is freed. Its life:
 *
 * 1. *Filled* once the daemon serves: with random bytes, for a file system may store zeros in no space at all.
 * 2. *Given up* when work that {@link within} was told of meets a full disk: the file is removed, and the work done again.
 *    What does not free space, such as a pull, never gets it.
 * 3. *Filled again* from what is free, piece by piece, until it is whole.
 */
export class Reserve implements Room {
  readonly #path: string;
  readonly #log: ReserveLog;
  #timer: NodeJS.Timeout | undefined;
  #delay = FIRST_REFILL;
  #shortage: string | undefined;

  constructor(path: string, log: ReserveLog) {
    this.#path = path;
    this.#log = log;
  }

  /** Does the work, and once more with the reserve given up if there was no space for it: it must stand being repeated. */
  within<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!isFull(error) || !this.#giveUp()) throw error;
      return work();
    }
  }

  /** Takes what the reserve lacks from what is free, now and from time to time until it is whole. */
  fill(): void {
    try {
      this.#grow();
      if (this.#held() < this.#wanted()) this.#miss('the disk is nearly full');
      else if (this.#shortage !== undefined) this.#found();
    } catch (error) {
      this.#miss(messageOf(error));
    }
  }

  /** Why less is held back than should be; undefined where all is. */
  get shortage(): string | undefined {
    return this.#shortage;
  }

  /** Bytes that are free for others: what is held back already is not among them, and what is yet to be is left out. */
  get spare(): number {
    return Math.max(0, this.#free() - Math.max(0, this.#wanted() - this.#held()));
  }

  /** Ends the attempts; what is held stays held. */
  close(): void {
    clearTimeout(this.#timer);
  }

  /** Gives up what is held; returns whether there was anything. */
  #giveUp(): boolean {
    const size = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    if (size === 0) return false;
    try {
      rmSync(this.#path);
    } catch (error) {
      this.#log.warn(`cannot give up the space that is held back: ${messageOf(error)}`, { path: this.#path });
      return false;
    }
    this.#log.warn('the disk of the data root is full: gave up the space that was held back', { bytes: size });
    this.#shortage = 'the disk was full, and it was given up';
    this.#delay = FIRST_REFILL;
    this.#tryLater();
    return true;
  }

  #grow(): void {
    const wanted = this.#wanted();
    const file = openSync(this.#path, 'a', 0o600);
    try {
      // Bytes that have no blocks, after a crash, hold nothing back.
      const { size, blocks } = fstatSync(file);
      let held = blocks * STAT_BLOCK < size ? 0 : Math.min(size - (size % PIECE), wanted);
      if (held < size) ftruncateSync(file, held);
      const goal = Math.min(wanted, held + this.#free());
      for (; held + PIECE <= goal; held += PIECE) {
        if (writeWhole(file, randomBytes(PIECE))) continue;
        // Others have taken it, or a quota ends here: the rest of the piece is left to them.
        ftruncateSync(file, held);
        break;
      }
    } finally {
      closeSync(file);
    }
  }

  #held(): number {
    return statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
  }

  #wanted(): number {
    const { bsize, blocks } = statfsSync(dirname(this.#path));
    return Math.min(RESERVE_BYTES, PIECE * Math.floor((bsize * blocks) / SHARE / PIECE));
  }

  /** Bytes this process may still write: root also those that are kept from others. */
  #free(): number {
    const { bsize, bfree, bavail } = statfsSync(dirname(this.#path));
    return bsize * (process.geteuid?.() === 0 ? bfree : bavail);
  }

  /** Told once, not at every attempt. */
  #miss(reason: string): void {
    if (this.#shortage === undefined) {
      this.#log.warn(
        `cannot hold space back for the removal of images, which may fail on a full disk: ${reason}; free some space`,
        { path: this.#path },
      );
    }
    this.#shortage = reason;
    this.#tryLater();
  }

  #found(): void {
    this.#log.info('space is held back again for the removal of images');
    this.#shortage = undefined;
  }

  #tryLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fill(), this.#delay).unref();
    this.#delay = Math.min(this.#delay * 2, LAST_REFILL);
  }
}

/** Writes all bytes; returns false where there is no space for them. */
function writeWhole(file: number, bytes: Uint8Array): boolean {
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
    return true;
  } catch (error) {
    if (isFull(error)) return false;
    throw error;
  }
}
