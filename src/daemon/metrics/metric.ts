/**
 * A number about the daemon under a name that monitoring knows it by, for each combination of its labels' values. It is
 * written in one of Prometheus's text formats when somebody asks. Counters and histograms grow as parts tell of what
 * happens; gauges are read at that moment. Whoever makes one sees to it that no client can make up values of labels.
 */
export interface Metric {
  /** Without `_total`, in base units. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  samples(): Iterable<Sample>;
}

/** One number: the metric's name with a suffix, and labels. */
export interface Sample {
  readonly suffix: '' | '_total' | '_bucket' | '_sum' | '_count';
  readonly labels: Labels;
  readonly value: number;
}

export type Labels = Readonly<Record<string, string>>;

interface Naming {
  readonly name: string;
  readonly help: string;
}

/** What only grows. */
export class Counter<Name extends string = never> implements Metric {
  readonly type = 'counter';
  readonly name: string;
  readonly help: string;
  readonly #series = new Map<string, { readonly labels: Labels; value: number }>();

  constructor({ name, help }: Naming) {
    this.name = name;
    this.help = help;
  }

  add(labels: Readonly<Record<Name, string>>, by = 1): void {
    const key = JSON.stringify(labels);
    const series = this.#series.get(key);
    if (series === undefined) this.#series.set(key, { labels, value: by });
    else series.value += by;
  }

  *samples(): Generator<Sample> {
    for (const { labels, value } of this.#series.values()) yield { suffix: '_total', labels, value };
  }
}

/** What is as it is. */
export class Gauge implements Metric {
  readonly type = 'gauge';
  readonly name: string;
  readonly help: string;
  readonly #read: () => readonly (readonly [Labels, number])[];

  constructor({ name, help, read }: Naming & { readonly read: () => readonly (readonly [Labels, number])[] }) {
    this.name = name;
    this.help = help;
    this.#read = read;
  }

  *samples(): Generator<Sample> {
    for (const [labels, value] of this.#read()) yield { suffix: '', labels, value };
  }
}

/** How often something took how long. */
export class Histogram<Name extends string = never> implements Metric {
  readonly type = 'histogram';
  readonly name: string;
  readonly help: string;
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, { readonly labels: Labels; readonly counts: number[]; sum: number }>();

  /** `bounds`: upper ends of the buckets, ascending, without infinity. */
  constructor({ name, help, bounds }: Naming & { readonly bounds: readonly number[] }) {
    this.name = name;
    this.help = help;
    this.#bounds = bounds;
  }

  observe(labels: Readonly<Record<Name, string>>, value: number): void {
    const key = JSON.stringify(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { labels, counts: new Array<number>(this.#bounds.length + 1).fill(0), sum: 0 };
      this.#series.set(key, series);
    }
    const found = this.#bounds.findIndex((bound) => value <= bound);
    const bucket = found === -1 ? this.#bounds.length : found;
    series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
    series.sum += value;
  }

  *samples(): Generator<Sample> {
    for (const { labels, counts, sum } of this.#series.values()) {
      let count = 0;
      for (const [index, inBucket] of counts.entries()) {
        count += inBucket;
        yield { suffix: '_bucket', labels: { ...labels, le: boundText(this.#bounds[index]) }, value: count };
      }
      yield { suffix: '_sum', labels, value: sum };
      yield { suffix: '_count', labels, value: count };
    }
  }
}

/** As OpenMetrics wants bounds, which the older format takes, too. */
function boundText(bound: number | undefined): string {
  if (bound === undefined) return '+Inf';
  return Number.isInteger(bound) ? `${bound}.0` : String(bound);
}
