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
/** Grows with whatever the reader waits for, and with whatever the writer waits for. */
const READER_SIGNAL = 3;
const WRITER_SIGNAL = 4;
const CONTROL_WORDS = 5;

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
    Atomics.store(this.#control, HEAD, 0);
    Atomics.store(this.#control, TAIL, 0);
    Atomics.store(this.#control, STATE, OPEN);
  }

  /** Writer: free space in one piece, or undefined while the ring is full. Never sleeps. */
  tryReserve(): Uint8Array<SharedArrayBuffer> | undefined {
    this.throwIfClosed();
    const head = Atomics.load(this.#control, HEAD);
    const free = this.capacity - ((head - Atomics.load(this.#control, TAIL)) | 0);
    if (free === 0) return undefined;
    const at = head & (this.capacity - 1);
    return this.#bytes.subarray(at, at + Math.min(free, this.capacity - at));
  }

  /** Writer on a thread that may sleep: free space in one piece, of that many bytes unless the ring wraps around before. */
  reserve(length: number): Uint8Array<SharedArrayBuffer> {
    for (;;) {
      const signal = Atomics.load(this.#control, WRITER_SIGNAL);
      const space = this.tryReserve();
      const untilWrap = this.capacity - (Atomics.load(this.#control, HEAD) & (this.capacity - 1));
      if (space !== undefined && space.length >= Math.min(length, untilWrap)) return space.subarray(0, length);
      Atomics.wait(this.#control, WRITER_SIGNAL, signal);
    }
  }

  /** Writer: resolves when {@link tryReserve} is worth another try. */
  async room(): Promise<void> {
    const signal = Atomics.load(this.#control, WRITER_SIGNAL);
    const used = (Atomics.load(this.#control, HEAD) - Atomics.load(this.#control, TAIL)) | 0;
    if (used < this.capacity || Atomics.load(this.#control, STATE) !== OPEN) return;
    const waiting = Atomics.waitAsync(this.#control, WRITER_SIGNAL, signal);
    if (waiting.async) await waiting.value;
  }

  /** Writer: the first bytes of the reserved space are filled. */
  commit(length: number): void {
    Atomics.add(this.#control, HEAD, length);
    this.#signal(READER_SIGNAL);
  }

  /** Writer: nothing will follow. */
  end(): void {
    Atomics.compareExchange(this.#control, STATE, OPEN, ENDED);
    this.#signal(READER_SIGNAL);
  }

  /** Reader: the next bytes in one piece, or undefined at the end; sleeps until there are some. */
  next(): Uint8Array<SharedArrayBuffer> | undefined {
    for (;;) {
      const signal = Atomics.load(this.#control, READER_SIGNAL);
      const state = Atomics.load(this.#control, STATE);
      if (state === CLOSED) throw new RingClosed();
      const bytes = this.rest();
      if (bytes !== undefined) return bytes;
      if (state === ENDED) return undefined;
      Atomics.wait(this.#control, READER_SIGNAL, signal);
    }
  }

  /** Reader: what has been written and not been released, in one piece, also after a {@link close}; undefined if none. */
  rest(): Uint8Array<SharedArrayBuffer> | undefined {
    const tail = Atomics.load(this.#control, TAIL);
    const used = (Atomics.load(this.#control, HEAD) - tail) | 0;
    if (used === 0) return undefined;
    const at = tail & (this.capacity - 1);
    return this.#bytes.subarray(at, at + Math.min(used, this.capacity - at));
  }

  /** Reader: the first bytes of what {@link next} gave are done with. */
  release(length: number): void {
    Atomics.add(this.#control, TAIL, length);
    this.#signal(WRITER_SIGNAL);
  }

  /** Either side, or the main thread: no more bytes pass; both sides get {@link RingClosed}. */
  close(): void {
    Atomics.store(this.#control, STATE, CLOSED);
    this.#signal(READER_SIGNAL);
    this.#signal(WRITER_SIGNAL);
  }

  /** Throws once {@link close} was called. */
  throwIfClosed(): void {
    if (Atomics.load(this.#control, STATE) === CLOSED) throw new RingClosed();
  }

  #signal(which: number): void {
    Atomics.add(this.#control, which, 1);
    Atomics.notify(this.#control, which);
  }
}
