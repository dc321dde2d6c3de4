import type { ProgressMessage } from '../../protocol/progress.ts';

/** Over how long the rate is averaged. */
const RATE_WINDOW_MS = 5_000;
/** How often a sample for it is kept. */
const SAMPLE_MS = 250;

const WAITING: ReadonlySet<string> = new Set(['Pulling fs layer', 'Preparing', 'Waiting']);
const ARRIVED: ReadonlySet<string> = new Set(['Verifying Checksum', 'Download complete', 'Extracting']);
const FINISHED: ReadonlySet<string> = new Set(['Already exists', 'Pull complete', 'Layer already exists', 'Pushed']);
/** Followed by the repository that has the layer. */
const MOUNTED = 'Mounted from ';
/** What moves bytes over the network. */
const MOVING: ReadonlySet<string> = new Set(['Downloading', 'Pushing']);

/** The latest of one layer. */
export interface LayerProgress {
  readonly id: string;
  status: string;
  current: number;
  total: number;
}

/** What is left of a layer's pull or push. */
export type LayerPhase = 'waiting' | 'downloading' | 'arrived' | 'finished';

export function phaseOf({ status }: LayerProgress): LayerPhase {
  if (isFinished(status)) return 'finished';
  if (ARRIVED.has(status)) return 'arrived';
  return WAITING.has(status) ? 'waiting' : 'downloading';
}

const isFinished = (status: string): boolean => FINISHED.has(status) || status.startsWith(MOUNTED);

/** The downloads, or uploads, of all layers together. */
export interface DownloadTotal {
  readonly received: number;
  /** Bytes of all layers whose size is known. */
  readonly size: number;
  /** Whether there are layers whose size is not known yet. */
  readonly isPartial: boolean;
  /** Bytes a second; undefined until it can be told. */
  readonly rate: number | undefined;
}

/** The layers of one image in the order they were named, and how fast they arrive. */
export class LayerList {
  readonly #layers = new Map<string, LayerProgress>();
  /** Sizes and received bytes as the download told them: later phases count from zero again. */
  readonly #downloads = new Map<string, { received: number; size: number }>();
  readonly #samples: { at: number; bytes: number }[] = [];
  #arrivedBytes = 0;

  get all(): readonly LayerProgress[] {
    return [...this.#layers.values()];
  }

  /** Takes a message with an ID. `now` is milliseconds on any clock that only grows. */
  update(id: string, message: ProgressMessage, now: number): void {
    const status = message.status ?? '';
    const { current = 0, total = 0 } = message.progressDetail ?? {};
    const layer = this.#layers.get(id);
    if (layer === undefined) this.#layers.set(id, { id, status, current, total });
    else Object.assign(layer, { status, current, total });
    if (MOVING.has(status)) this.#downloaded(id, current, total, now);
    else if (ARRIVED.has(status) || isFinished(status)) this.#completed(id, now);
  }

  /** The sum of the downloads; undefined when there are none, or when all is here. */
  total(): DownloadTotal | undefined {
    const phases = this.all.map(phaseOf);
    if (this.#downloads.size === 0 || phases.every((phase) => phase === 'arrived' || phase === 'finished')) {
      return undefined;
    }
    let received = 0;
    let size = 0;
    for (const download of this.#downloads.values()) {
      received += download.received;
      size += download.size;
    }
    const isPartial = this.all.some((layer) => phaseOf(layer) === 'waiting' && !this.#downloads.has(layer.id));
    return { received, size, isPartial, rate: this.#rate() };
  }

  #downloaded(id: string, current: number, total: number, now: number): void {
    const download = this.#downloads.get(id);
    // What an earlier attempt had left is no part of the rate, and a download that begins anew takes nothing from it.
    if (download !== undefined) this.#arrivedBytes += Math.max(0, current - download.received);
    this.#downloads.set(id, { received: current, size: Math.max(total, current) });
    const last = this.#samples.at(-1);
    if (last === undefined || now - last.at >= SAMPLE_MS) this.#samples.push({ at: now, bytes: this.#arrivedBytes });
    while ((this.#samples[0]?.at ?? now) < now - RATE_WINDOW_MS) this.#samples.shift();
  }

  #completed(id: string, now: number): void {
    const download = this.#downloads.get(id);
    if (download !== undefined) this.#downloaded(id, download.size, download.size, now);
  }

  #rate(): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at === first.at) return undefined;
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  }
}
