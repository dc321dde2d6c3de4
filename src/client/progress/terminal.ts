import type { ProgressMessage } from '../../protocol/progress.ts';
import { cut, pad, width } from '../format/table.ts';
import { humanSize } from '../format/units.ts';
import type { Output } from '../output.ts';
import { LayerList, phaseOf, type DownloadTotal, type LayerProgress } from './layers.ts';
import { hasBar, messageText, type ProgressView } from './view.ts';

/** Frames are at least this far apart: 20 a second. */
const FRAME_MS = 50;
/** A bar is at most and at least so wide; where there is less room there is none. */
const MAX_BAR = 50;
const MIN_BAR = 8;
/** What a line has beside its text, bar and sizes: brackets, spaces, and the last column, which stays free. */
const LINE_FRAME = 6;

/** What the view needs of time. */
export interface Clock {
  /** Milliseconds, only growing. */
  now(): number;
  /** Calls back later; returns a function that prevents it. */
  after(ms: number, callback: () => void): () => void;
}

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};

/**
 * One line for each layer, updated in place, and below them the total with its rate. Messages are gathered, and only
 * the lines that changed are written again, over the old ones, at most 20 times a second; so nothing flickers.
 */
export class TerminalView implements ProgressView {
  readonly #out: Output;
  readonly #clock: Clock;
  #layers = new LayerList();
  /** The lines on the screen, above the cursor. */
  #drawn: string[] = [];
  #columns = 0;
  #lastFrame = Number.NEGATIVE_INFINITY;
  #cancelFrame: (() => void) | undefined;
  #failure: Error | undefined;

  constructor(out: Output, clock: Clock = SYSTEM_CLOCK) {
    this.#out = out;
    this.#clock = clock;
  }

  async show(message: ProgressMessage): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const { id } = message;
    if (id !== undefined && id !== '' && (message.progressDetail !== undefined || hasBar(message))) {
      this.#layers.update(id, message, this.#clock.now());
      this.#schedule();
      return;
    }
    await this.#finishBlock();
    const text = messageText(message);
    if (text !== '') await this.#out.line(text);
  }

  async end(): Promise<void> {
    await this.#finishBlock();
  }

  /** Leaves the layers as they stand, without the total, and begins anew below. */
  async #finishBlock(): Promise<void> {
    this.#cancelFrame?.();
    this.#cancelFrame = undefined;
    await this.#draw(false);
    this.#drawn = [];
    this.#layers = new LayerList();
  }

  #schedule(): void {
    if (this.#cancelFrame !== undefined) return;
    const wait = Math.max(0, this.#lastFrame + FRAME_MS - this.#clock.now());
    this.#cancelFrame = this.#clock.after(wait, () => {
      this.#cancelFrame = undefined;
      this.#draw(true).catch((error: unknown) => {
        // The terminal is gone; the next message tells whoever shows it.
        this.#failure = error instanceof Error ? error : new Error(String(error));
      });
    });
  }

  async #draw(withTotal: boolean): Promise<void> {
    const { columns } = this.#out;
    const lines = this.#frame(columns, withTotal);
    if (lines.length === 0 && this.#drawn.length === 0) return;
    this.#lastFrame = this.#clock.now();
    const text = this.#update(lines, columns);
    this.#drawn = lines;
    this.#columns = columns;
    await this.#out.write(text);
  }

  /** What turns the drawn lines into the new ones, the cursor below them before and after. */
  #update(lines: readonly string[], columns: number): string {
    const isSameWidth = columns === this.#columns;
    // A terminal that became narrower has broken the old lines into more.
    const height = this.#drawn.reduce((rows, line) => rows + Math.max(1, Math.ceil(width(plain(line)) / columns)), 0);
    const up = height === 0 ? '' : `\u001b[${height}A\r`;
    const body = lines
      .map((line, row) => (isSameWidth && line === this.#drawn[row] ? '\n' : `${line}\u001b[K\n`))
      .join('');
    return `${up}${body}${height > lines.length ? '\u001b[J' : ''}`;
  }

  #frame(columns: number, withTotal: boolean): string[] {
    const layers = this.#layers.all;
    const total = withTotal ? this.#layers.total() : undefined;
    // One row stays free for the cursor: a block taller than the screen could not be drawn over.
    const room = Math.max(1, this.#out.rows - 1 - (total === undefined ? 0 : 1));
    const shown = mostTelling(layers, layers.length > room ? room - 1 : room);
    const lines = layers.filter((layer) => shown.has(layer)).map((layer) => this.#layerLine(layer, columns));
    if (shown.size < layers.length)
      lines.push(
        this.#summary(
          layers.filter((layer) => !shown.has(layer)),
          columns,
        ),
      );
    if (total !== undefined) lines.push(clip(totalLine(total), columns));
    return lines;
  }

  #layerLine(layer: LayerProgress, columns: number): string {
    const { style } = this.#out;
    const text = messageText(layer);
    const phase = phaseOf(layer);
    if (layer.total > 0 || layer.current > 0) {
      const sizes = sizesOf(layer);
      const room = Math.min(MAX_BAR, columns - width(text) - width(sizes) - LINE_FRAME);
      const bar = layer.total > 0 && room >= MIN_BAR ? ` ${drawBar(layer.current / layer.total, room)}` : '';
      return clip(`${text}${bar}  ${sizes}`, columns);
    }
    const clipped = clip(text, columns);
    if (phase === 'finished') return style.green(clipped);
    return phase === 'waiting' ? style.dim(clipped) : clipped;
  }

  #summary(hidden: readonly LayerProgress[], columns: number): string {
    const counts = new Map<string, number>();
    for (const { status } of hidden) counts.set(status, (counts.get(status) ?? 0) + 1);
    const parts = [...counts].map(([status, count]) => `${count} ${status}`);
    return this.#out.style.dim(clip(`… ${hidden.length} more: ${parts.join(', ')}`, columns));
  }
}

/** Those layers that fit and tell most: what moves before what waits, before what is finished. */
function mostTelling(layers: readonly LayerProgress[], room: number): ReadonlySet<LayerProgress> {
  const rank = { downloading: 0, arrived: 0, waiting: 1, finished: 2 };
  return new Set([...layers].sort((a, b) => rank[phaseOf(a)] - rank[phaseOf(b)]).slice(0, Math.max(0, room)));
}

function totalLine({ received, size, isPartial, rate }: DownloadTotal): string {
  const sizes = `${humanSize(received, 4)}/${humanSize(size, 4)}${isPartial ? ' and more' : ''}`;
  if (rate === undefined || rate <= 0) return `Total: ${sizes}`;
  const left = isPartial ? '' : `  ${shortDuration((size - received) / rate)} left`;
  return `Total: ${sizes}  ${humanSize(rate)}/s${left}`;
}

function sizesOf({ current, total }: LayerProgress): string {
  const received = humanSize(current, 4);
  if (total <= 0) return received;
  // Both sizes keep their width while the first one grows, so that the line does not jump.
  return `${' '.repeat(Math.max(0, 7 - width(received)))}${received}/${humanSize(total, 4)}`;
}

export function drawBar(share: number, columns: number): string {
  const filled = Math.min(columns, Math.max(0, Math.round(share * columns)));
  return `[${pad(filled === columns ? '='.repeat(columns) : `${'='.repeat(filled)}>`, columns).slice(0, columns)}]`;
}

export function shortDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}m${whole % 60}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m`;
}

/** Cut to one row of the terminal; text that filled the last column would break into the next row. */
export function clip(text: string, columns: number): string {
  return width(text) < columns ? text : cut(text, columns - 1);
}

/** The text without its colours. */
function plain(line: string): string {
  return line.replace(COLOURS, '');
}

const COLOURS = new RegExp(String.raw`${String.fromCharCode(27)}\[\d+m`, 'g');
