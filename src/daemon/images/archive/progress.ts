import { BAR_INTERVAL, drawBar, type ProgressSink } from '../progress.ts';

/** The bar of bytes that arrive from elsewhere than a registry, as dockerd's clients know it. */
export class ArrivalBar {
  readonly #id: string;
  readonly #status: string;
  readonly #total: number | undefined;
  readonly #sink: ProgressSink;
  #drawnAt = 0;

  /** `total`: bytes; undefined where nobody says how many there are. */
  constructor(options: { id: string; status: string; total: number | undefined; sink: ProgressSink }) {
    this.#id = options.id;
    this.#status = options.status;
    this.#total = options.total;
    this.#sink = options.sink;
  }

  /** Tells how many bytes have arrived; between the first and the last not at every call. */
  update(current: number): void {
    const total = this.#total;
    const now = performance.now();
    if (current < (total ?? Infinity) && now < this.#drawnAt + BAR_INTERVAL) return;
    this.#drawnAt = now;
    this.#sink({
      status: this.#status,
      progressDetail: { current, ...(total === undefined ? {} : { total }) },
      ...(total === undefined ? {} : { progress: drawBar(current, total) }),
      id: this.#id,
    });
  }
}
