import { shortId } from '../../protocol/digest.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import type { TransferState, TransferStatus } from '../transfers/transfer.ts';

/** Where progress goes. It must not block: a slow reader is told only the latest. */
export type ProgressSink = (message: ProgressMessage) => void;

/** A layer's bar moves at most this often, in milliseconds; changes of state are told at once. */
const BAR_INTERVAL = 100;

/** Characters between the brackets of a drawn bar. */
const BAR_WIDTH = 50;

/** Turns the states of one layer's transfer into the lines that clients of the Engine API know. */
export class LayerProgress {
  readonly #id: string;
  readonly #sink: ProgressSink;
  readonly #now: () => number;
  #state: TransferState | undefined;
  #lastBar = 0;
  #downloaded = false;

  constructor(id: TransferStatus['digest'], sink: ProgressSink, now: () => number = Date.now) {
    this.#id = shortId(id);
    this.#sink = sink;
    this.#now = now;
  }

  /** The first line of a layer that is not here yet. */
  begin(): void {
    this.#say('Pulling fs layer');
  }

  /** The only line of a layer that is here. */
  exists(): void {
    this.#say('Already exists');
  }

  /** The last line, once the layer is stored and unpacked. */
  complete(): void {
    if (!this.#downloaded) this.#say('Download complete');
    this.#say('Pull complete');
  }

  update(status: TransferStatus): void {
    const changed = status.state !== this.#state;
    this.#state = status.state;
    switch (status.state) {
      case 'waiting':
        if (changed) this.#say('Waiting');
        break;
      case 'downloading':
        if (this.#isDue(changed)) this.#bar('Downloading', status.received, status.total);
        break;
      case 'verifying':
        if (changed) this.#say('Verifying Checksum');
        break;
      case 'extracting':
        if (changed) {
          this.#say('Download complete');
          this.#downloaded = true;
        }
        if (this.#isDue(changed)) this.#bar('Extracting', status.unpacked, status.total);
        break;
      case 'done':
      case 'failed':
        break;
    }
  }

  #isDue(changed: boolean): boolean {
    const now = this.#now();
    if (!changed && now - this.#lastBar < BAR_INTERVAL) return false;
    this.#lastBar = now;
    return true;
  }

  #say(status: string): void {
    this.#sink({ status, progressDetail: {}, id: this.#id });
  }

  #bar(status: string, current: number, total: number): void {
    this.#sink({ status, progressDetail: { current, total }, progress: drawBar(current, total), id: this.#id });
  }
}

/** A bar like `[=====>     ]  12.3MB/45.6MB`, for clients that print what they are sent. */
function drawBar(current: number, total: number): string {
  const filled = total === 0 ? BAR_WIDTH : Math.min(BAR_WIDTH, Math.floor((current / total) * BAR_WIDTH));
  const bar = '='.repeat(Math.max(filled - 1, 0)) + '>' + ' '.repeat(BAR_WIDTH - Math.max(filled, 1));
  return `[${bar}]  ${humanSize(current)}/${humanSize(total)}`;
}

/** Bytes with four significant digits and decimal units, as the engine writes them. */
function humanSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${Number(value.toPrecision(4))}${units[unit] ?? 'B'}`;
}
