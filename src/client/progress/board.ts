import type { TransferReport, TransferUpdate } from '../../protocol/engine.ts';
import { pad, plain } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import type { Style } from '../format/style.ts';
import { clip, drawBar, shortDuration } from './terminal.ts';

/** Columns of a bar. */
const BAR = 20;
const HELP = '↑↓ select  p pause/resume  + - priority  c cancel  q quit';
/** Lines beside those of the transfers: the total, the headings, an empty one, and the last. */
const FRAME_LINES = 4;

/** The transfers that a terminal shows: the latest of each, and which one is selected. */
export class TransferBoard {
  readonly #transfers = new Map<string, TransferReport>();
  #selected = '';
  /** What is said in the last line in place of the keys. */
  message = '';

  get selected(): TransferReport | undefined {
    return this.#transfers.get(this.#selected) ?? [...this.#transfers.values()][0];
  }

  update(update: TransferUpdate): void {
    if ('missed' in update) return;
    const key = transferKey(update);
    if (hasEnded(update)) this.#transfers.delete(key);
    else this.#transfers.set(key, update);
  }

  /** Selects one so many lines further down. */
  move(by: number): void {
    const keys = [...this.#transfers.keys()];
    const at = this.selected === undefined ? 0 : keys.indexOf(transferKey(this.selected));
    this.#selected = keys[Math.min(Math.max(at + by, 0), keys.length - 1)] ?? '';
  }

  /** A screen of lines. */
  frame(columns: number, rows: number, style: Style): string[] {
    const transfers = [...this.#transfers.values()];
    const { selected } = this;
    const room = Math.max(1, rows - FRAME_LINES);
    const at = selected === undefined ? 0 : transfers.indexOf(selected);
    const first = Math.max(0, Math.min(at - Math.floor(room / 2), transfers.length - room));
    const lines = transfers.slice(first, first + room).map((transfer) => {
      const line = clip(`${transfer === selected ? '>' : ' '} ${lineOf(transfer)}`, columns);
      if (transfer === selected) return style.bold(line);
      return transfer.state === 'waiting' || transfer.state === 'paused' ? style.dim(line) : line;
    });
    const heading = `  ${pad('DIGEST', 13)} ${pad('STATE', 12)} ${pad('', BAR + 2)} ${pad('SIZE', 16)} ${pad('RATE', 10)} ${pad('LEFT', 7)} ${pad('PRIO', 4)} FOR`;
    return [
      style.bold(clip(totalOf(transfers), columns)),
      clip(heading, columns),
      ...(lines.length === 0 ? [style.dim('  Nothing is transferred.')] : lines),
      '',
      style.dim(clip(this.message === '' ? HELP : this.message, columns)),
    ];
  }
}

/** What tells a transfer from all others of a daemon. */
export const transferKey = ({ direction, repository, digest }: TransferReport): string =>
  direction === 'upload' ? `${repository}@${digest}` : digest;

/** Whether it is told of for the last time. */
export const hasEnded = ({ state }: TransferReport): boolean =>
  state === 'done' || state === 'failed' || state === 'cancelled';

function totalOf(transfers: readonly TransferReport[]): string {
  const rate = (direction: TransferReport['direction']): string =>
    `${humanSize(transfers.filter((each) => each.direction === direction).reduce((sum, each) => sum + each.rate, 0))}/s`;
  const waiting = transfers.filter(({ state }) => state === 'waiting').length;
  return `${transfers.length} transfers, ${waiting} waiting   down ${rate('download')}   up ${rate('upload')}`;
}

function lineOf(transfer: TransferReport): string {
  const { digest, direction, state, size, received, rate, secondsLeft, priority } = transfer;
  const arrow = direction === 'download' ? '↓' : '↑';
  return [
    `${arrow}${shortenId(digest)}`,
    pad(state, 12),
    drawBar(size === 0 ? 1 : received / size, BAR),
    pad(`${humanSize(received)}/${humanSize(size)}`, 16),
    pad(rate === 0 ? '' : `${humanSize(rate)}/s`, 10),
    pad(secondsLeft === undefined ? '' : shortDuration(secondsLeft), 7),
    pad(String(priority), 4),
    wantedFor(transfer),
  ].join(' ');
}

/** The images that a transfer is for. References and errors come from strangers. */
export function wantedFor({ wantedBy }: TransferReport): string {
  return plain([...new Set(wantedBy.map(({ reference }) => reference))].join(', '));
}

/** Turns one screen into the next, from its first line on. */
export function drawScreen(lines: readonly string[], rows: number): string {
  const shown = lines.slice(0, rows).map((line) => `${line}\u001b[K`);
  return `\u001b[H${shown.join('\r\n')}\u001b[J`;
}
