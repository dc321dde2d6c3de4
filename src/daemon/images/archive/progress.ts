import { BAR_INTERVAL, drawBar, type ProgressSink } from '../progress.ts';

/** The bar of a layer that is loaded, as dockerd's clients know it. */
export class LoadingBar {
  readonly #id: string;
  readonly #total: number;
  readonly #sink: ProgressSink;
  #drawnAt = 0;

  constructor(id: string, total: number, sink: ProgressSink) {
    this.#id = id;
    this.#total = total;
    this.#sink = sink;
  }

  /** Tells how many bytes have arrived; between the first and the last not at every call. */
  update(current: number): void {
    const now = performance.now();
    if (current < this.#total && now < this.#drawnAt + BAR_INTERVAL) return;
    this.#drawnAt = now;
    this.#sink({
      status: 'Loading layer',
      progressDetail: { current, total: this.#total },
      progress: drawBar(current, this.#total),
      id: this.#id,
    });
  }
}
