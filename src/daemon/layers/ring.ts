/**
 * A ring of bytes between two threads, one that writes and one that reads. Bytes are copied at most once, into the ring;
 * the reader works on views of it. A thread sleeps on a shared counter while there is nothing for it to do, except the
 * main thread, which awaits {@link Ring.room}.
 */

/** What is handed to another thread so that it can attach to the ring. */
export interface SharedRing {
  readonly control: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
}

/** Thrown on either side of a ring that the other side, or the main thread, has closed before its end. */
export class RingClosed extends Error {
  constructor() {
    super('the ring was closed before its end');
    this.name = 'RingClosed';
  }
}

/** Positions of the counters, in 32-bit words. HEAD and TAIL count bytes and wrap around. */
const HEAD = 0;
const TAIL = 1;
const STATE = 2;
/** What a side sleeps on; it grows when the side is woken. */
const READER_SIGNAL = 3;
const WRITER_SIGNAL = 4;
/**
 * How many bytes a side that sleeps, or is about to, wants to be woken for; 0 while it is awake. To wake a thread costs more
 * than to move the bytes, so nobody is woken who is awake, nor for less than is worth it.
 */
const READER_WANTS = 5;
const WRITER_WANTS = 6;
const CONTROL_WORDS = 7;

const OPEN = 0;
const ENDED = 1;
const CLOSED = 2;

export class Ring {
  readonly shared: SharedRing;
  readonly capacity: number;
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;

  constructor(shared: SharedRing) {
    this.shared = shared;
    this.#control = new Int32Array(shared.control);
    this.#bytes = new Uint8Array(shared.bytes);
    this.capacity = this.#bytes.length;
  }

  /** A new ring; the capacity in bytes is a power of two. */
  static allocate(capacity: number): Ring {
    return new Ring({
      control: new SharedArrayBuffer(CONTROL_WORDS * Int32Array.BYTES_PER_ELEMENT),
      bytes: new SharedArrayBuffer(capacity),
    });
  }

  /** Empties the ring for another use. Neither side may be at work. */
  reset(): void {
    for (const counter of [HEAD, TAIL, READER_WANTS, WRITER_WANTS]) Atomics.store(this.#control, counter, 0);
    Atomics.store(this.#control, STATE, OPEN);
  }

  /** Writer: free space in one piece, or undefined while the ring is full. Never sleeps. */
  tryReserve(): Uint8Array<SharedArrayBuffer> | undefined {
    this.throwIfClosed();
    const free = this.capacity - this.#used();
    if (free === 0) return undefined;
    const at = Atomics.load(this.#control, HEAD) & (this.capacity - 1);
    return this.#bytes.subarray(at, at + Math.min(free, this.capacity - at));
  }

  /** Writer on a thread that may sleep: free space in one piece, of that many bytes unless the ring wraps around before. */
  reserve(length: number): Uint8Array<SharedArrayBuffer> {
    const needed = Math.min(length, this.capacity - (Atomics.load(this.#control, HEAD) & (this.capacity - 1)));
    for (;;) {
      const space = this.tryReserve();
      if (space !== undefined && space.length >= needed) return space.subarray(0, length);
      const signal = this.#wantRoom();
      if (this.#isFull(needed)) Atomics.wait(this.#control, WRITER_SIGNAL, signal);
    }
  }

  /** Writer: resolves when {@link tryReserve} is worth another try. */
  async room(): Promise<void> {
    const signal = this.#wantRoom();
    if (!this.#isFull(1)) return;
    const waiting = Atomics.waitAsync(this.#control, WRITER_SIGNAL, signal);
    if (waiting.async) await waiting.value;
  }

  /** Writer: the first bytes of the reserved space are filled. */
  commit(length: number): void {
    Atomics.add(this.#control, HEAD, length);
    const wants = Atomics.load(this.#control, READER_WANTS);
    if (wants > 0 && this.#used() >= wants) this.#wakeReader();
  }

  /** Writer: nothing will follow. */
  end(): void {
    Atomics.compareExchange(this.#control, STATE, OPEN, ENDED);
    this.#wakeReader();
  }

  /**
   * Reader: the next bytes in one piece, or undefined at the end. While there are none it sleeps, until there are as many
   * as `worth` or the end has come.
   */
  next(worth = 1): Uint8Array<SharedArrayBuffer> | undefined {
    for (;;) {
      const state = Atomics.load(this.#control, STATE);
      if (state === CLOSED) throw new RingClosed();
      const bytes = this.rest();
      if (bytes !== undefined) return bytes;
      if (state === ENDED) return undefined;
      const signal = Atomics.load(this.#control, READER_SIGNAL);
      // Said before the last look at the ring: either the writer has written by then, or it sees that somebody waits.
      Atomics.store(this.#control, READER_WANTS, worth);
      if (this.#used() === 0 && Atomics.load(this.#control, STATE) === OPEN) {
        Atomics.wait(this.#control, READER_SIGNAL, signal);
      }
      Atomics.store(this.#control, READER_WANTS, 0);
    }
  }

  /** Reader: what has been written and not been released, in one piece, also after a {@link close}; undefined if none. */
  rest(): Uint8Array<SharedArrayBuffer> | undefined {
    const used = this.#used();
    if (used === 0) return undefined;
    const at = Atomics.load(this.#control, TAIL) & (this.capacity - 1);
    return this.#bytes.subarray(at, at + Math.min(used, this.capacity - at));
  }

  /** Reader: the first bytes of what {@link next} gave are done with. */
  release(length: number): void {
    Atomics.add(this.#control, TAIL, length);
    const wants = Atomics.load(this.#control, WRITER_WANTS);
    if (wants > 0 && this.capacity - this.#used() >= wants) this.#wakeWriter();
  }

  /** Either side, or the main thread: no more bytes pass; both sides get {@link RingClosed}. */
  close(): void {
    Atomics.store(this.#control, STATE, CLOSED);
    this.#wakeReader();
    this.#wakeWriter();
  }

  /** Throws once {@link close} was called. */
  throwIfClosed(): void {
    if (Atomics.load(this.#control, STATE) === CLOSED) throw new RingClosed();
  }

  #used(): number {
    return (Atomics.load(this.#control, HEAD) - Atomics.load(this.#control, TAIL)) | 0;
  }

  /** Whether the writer has to wait for so many bytes of room. */
  #isFull(needed: number): boolean {
    return this.capacity - this.#used() < needed && Atomics.load(this.#control, STATE) === OPEN;
  }

  /**
   * Says that the writer is about to sleep until half of the ring is free, and returns what to sleep on. Said before the
   * last look at the ring, for the same reason as in {@link next}.
   */
  #wantRoom(): number {
    const signal = Atomics.load(this.#control, WRITER_SIGNAL);
    Atomics.store(this.#control, WRITER_WANTS, this.capacity / 2);
    return signal;
  }

  #wakeReader(): void {
    this.#wake(READER_WANTS, READER_SIGNAL);
  }

  #wakeWriter(): void {
    this.#wake(WRITER_WANTS, WRITER_SIGNAL);
  }

  #wake(wants: number, signal: number): void {
    Atomics.store(this.#control, wants, 0);
    Atomics.add(this.#control, signal, 1);
    Atomics.notify(this.#control, signal);
  }
}
