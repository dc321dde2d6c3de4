interface Flight<V> {
  readonly promise: Promise<V>;
  readonly abort: AbortController;
  waiting: number;
}

/**
 * Work that several ask for at once and that is done once. Whoever asks may go away; the work is aborted only when
 * nobody is left, so that one client's Ctrl-C does not fail the others.
 */
export class SingleFlight<V> {
  readonly #flights = new Map<string, Flight<V>>();

  async join(key: string, signal: AbortSignal | undefined, start: (signal: AbortSignal) => Promise<V>): Promise<V> {
    signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, start);
    flight.waiting += 1;
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    const onAbort = (): void => leave(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([flight.promise, left]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      flight.waiting -= 1;
      if (flight.waiting === 0) {
        // Whoever comes now must not join what is being aborted.
        this.#forget(key, flight);
        flight.abort.abort(signal?.reason);
      }
    }
  }

  #start(key: string, start: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const abort = new AbortController();
    const flight: Flight<V> = { promise: start(abort.signal), abort, waiting: 0 };
    this.#flights.set(key, flight);
    const forget = (): void => this.#forget(key, flight);
    flight.promise.then(forget, forget);
    return flight;
  }

  #forget(key: string, flight: Flight<V>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
