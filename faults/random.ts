import { createHash } from 'node:crypto';

/** A stream of numbers that is the same for the same seed, on any machine. */
export class Random {
  readonly #seed: string;
  #drawn = 0;

  constructor(seed: string) {
    this.#seed = seed;
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    const hash = createHash('sha256').update(`${this.#seed}/${this.#drawn++}`).digest();
    return hash.readUIntBE(0, 6) / 2 ** 48;
  }

  /** A whole number, both ends included. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  pick<T>(list: readonly T[]): T {
    return list[this.whole(0, list.length - 1)] as T;
  }
}
