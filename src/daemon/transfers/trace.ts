import type { TransferReport } from '../../protocol/engine.ts';
import type { Span, Tracer } from '../tracing/tracer.ts';
import type { TransferRequest } from './queue.ts';
import type { TransferStatus } from './transfer.ts';

/**
 * A transfer as traces show it: a span that is part of the trace of whoever asked first, with one below for each state that
 * it was in, and linked with the spans of all who joined it later.
 */
export class TransferTrace {
  readonly #tracer: Tracer;
  readonly #span: Span;
  #state: Span;

  constructor(tracer: Tracer, direction: TransferReport['direction'], { digest, size, kind }: TransferRequest) {
    this.#tracer = tracer;
    this.#span = tracer.begin(`transfer ${kind}`, {
      attributes: {
        'layerd.transfer.direction': direction,
        'layerd.blob.digest': digest,
        'layerd.blob.size': size,
      },
    });
    this.#state = this.#begin('waiting');
  }

  /** Whoever is at work here waits for it, too. */
  joined(): void {
    const { current } = this.#tracer;
    this.#span.link(current);
    current.link(this.#span);
  }

  within<T>(work: () => T): T {
    return this.#span.within(work);
  }

  /** It is about to fail, for this error. */
  fail(error: unknown): void {
    this.#span.fail(error);
  }

  changed(before: TransferStatus, { state, received, unpacked, attempts, host }: TransferStatus): void {
    if (state === before.state) return;
    this.#state.end();
    if (state !== 'done' && state !== 'failed' && state !== 'cancelled') {
      this.#state = this.#begin(state);
      return;
    }
    this.#span.set({
      'layerd.result': state,
      'layerd.transfer.received': received,
      'layerd.transfer.unpacked': unpacked,
      'layerd.transfer.attempts': attempts,
      'layerd.transfer.host': host,
    });
    this.#span.end();
  }

  #begin(state: TransferStatus['state']): Span {
    return this.#span.within(() => this.#tracer.begin(state));
  }
}
