import { median } from './measure.ts';

export type Unit = 's' | 'ms' | 'µs' | 'MB' | 'KiB' | 'blobs' | 'frames/s';

/** One line of the result: what one engine took for one thing. */
export interface Figure {
  readonly scenario: string;
  /** What was done: `node:18`. */
  readonly subject: string;
  readonly engine: string;
  readonly unit: Unit;
  /** The figure that counts: the median of the runs unless the subject says otherwise. */
  readonly value: number;
  /** Every run. */
  readonly runs: readonly number[];
  /** What it should be at most, for figures that stand alone. */
  readonly atMost?: number;
  /** What it should be at least, likewise. */
  readonly atLeast?: number;
  /** How many times as fast as this engine layerd should be. */
  readonly factor?: number;
}

export function figureOf(figure: Omit<Figure, 'value'> & { readonly value?: number }): Figure {
  return { value: median(figure.runs), ...figure };
}
