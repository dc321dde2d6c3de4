import { shortId } from '../../protocol/digest.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import type { TransferState, TransferStatus } from '../transfers/transfer.ts';

/** Where progress goes. It must not block: a slow reader is told only the latest. */
export type ProgressSink = (message: ProgressMessage) => void;

/** A layer's bar moves at most this often, in milliseconds; changes of state are told at once. */
export const BAR_INTERVAL = 100;

/** Characters of an error that are shown: with the layer's ID they fit a line of a terminal. */
const REASON_LENGTH = 54;

/** Characters between the brackets of a drawn bar. */
const BAR_WIDTH = 50;

/** States in which a bar moves. */
const BARS: ReadonlySet<TransferState> = new Set(['downloading', 'extracting', 'uploading']);

/** Turns the states of one layer's transfer into the lines that clients of the Engine API know. */
export class LayerProgress {
  readonly #id: string;
  readonly #sink: ProgressSink;
  readonly #now: () => number;
  #state: TransferState | undefined;
  #lastBar = 0;
  #downloaded = false;
  #latest: TransferStatus | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(id: TransferStatus['digest'], sink: ProgressSink, now: () => number = Date.now) {
    this.#id = shortId(id);
    this.#sink = sink;
    this.#now = now;
  }

  /** The first line of a layer that is not here yet. */
  begin(): void {
    this.say('Pulling fs layer');
  }

  /** The only line of a layer that is here. */
  exists(): void {
    this.say('Already exists');
  }

  /** The last line, once the layer is stored and unpacked. */
  complete(): void {
    if (!this.#downloaded) this.say('Download complete');
    this.say('Pull complete');
  }

  update(status: TransferStatus): void {
    const changed = status.state !== this.#state;
    this.#state = status.state;
    this.#latest = status;
    if (changed) this.#begin(status);
    if (BARS.has(status.state)) this.#moveBar(changed);
  }

  /** Says nothing more of its own accord: the transfer has ended, well or not. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#latest = undefined;
  }

  #begin({ state, lastError = '' }: TransferStatus): void {
    switch (state) {
      case 'waiting':
        this.say('Waiting');
        break;
      case 'retrying':
        this.say(
          `Retrying: ${lastError.length > REASON_LENGTH ? `${lastError.slice(0, REASON_LENGTH - 1)}…` : lastError}`,
        );
        break;
      case 'paused':
        this.say('Paused');
        break;
      case 'verifying':
        this.say('Verifying Checksum');
        break;
      case 'extracting':
        this.say('Download complete');
        this.#downloaded = true;
        break;
      case 'downloading':
      case 'uploading':
      case 'done':
      case 'failed':
      case 'cancelled':
        break;
    }
  }

  /** Draws the bar now, or when it is due: the last that came before a stall is shown too. */
  #moveBar(atOnce: boolean): void {
    const wait = atOnce ? 0 : this.#lastBar + BAR_INTERVAL - this.#now();
    if (wait > 0) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#moveBar(true);
      }, wait).unref();
      return;
    }
    this.#lastBar = this.#now();
    const latest = this.#latest;
    if (latest?.state === 'downloading') this.#bar('Downloading', latest.received, latest.total);
    if (latest?.state === 'extracting') this.#bar('Extracting', latest.unpacked, latest.total);
    if (latest?.state === 'uploading') this.#bar('Pushing', latest.received, latest.total);
  }

  /** A line of its own, without a bar. */
  say(status: string): void {
    this.#sink({ status, progressDetail: {}, id: this.#id });
  }

  #bar(status: string, current: number, total: number): void {
    this.#sink({ status, progressDetail: { current, total }, progress: drawBar(current, total), id: this.#id });
  }
}

/** A bar like `[=====>     ]  12.3MB/45.6MB`, for clients that print what they are sent. */
export function drawBar(current: number, total: number): string {
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
