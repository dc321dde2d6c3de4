import type { ProgressMessage } from '../../src/protocol/progress.ts';
import { megabytes } from './text.ts';

/** How often the board is drawn again. */
const FRAME_MS = 80;
const BAR_CELLS = 28;

interface Line {
  status: string;
  current: number;
  total: number;
}

/** Shows several pulls at once: bars that move on a terminal, a line for each step elsewhere. */
export class Board implements Disposable {
  readonly #out: NodeJS.WriteStream;
  readonly #pulls = new Map<string, Map<string, Line>>();
  readonly #notes = new Map<string, string[]>();
  #timer: NodeJS.Timeout | undefined;
  #drawn = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    if (out.isTTY) this.#timer = setInterval(() => this.#draw(), FRAME_MS);
  }

  /** Takes in one message of a pull. */
  show(pull: string, message: ProgressMessage): void {
    const { id, status = '', progressDetail } = message;
    const lines = getOrMake(this.#pulls, pull, () => new Map<string, Line>());
    const notes = getOrMake(this.#notes, pull, () => []);
    if (id === undefined || status.startsWith('Pulling from')) {
      if (/^(Digest|Status)/.test(status)) notes.push(status);
      if (!this.#out.isTTY) this.#out.write(`   ${pull}: ${status}\n`);
      return;
    }
    const line = getOrMake(lines, id, () => ({ status: '', current: 0, total: 0 }));
    if (line.status !== status && !this.#out.isTTY) this.#out.write(`   ${pull}: ${id}: ${status}\n`);
    line.status = status;
    line.current = progressDetail?.current ?? line.current;
    line.total = progressDetail?.total ?? line.total;
  }

  /** Draws the last state and stops. */
  [Symbol.dispose](): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#draw();
  }

  #draw(): void {
    const width = this.#out.columns || 80;
    const rows: string[] = [];
    for (const [pull, lines] of this.#pulls) {
      rows.push(`   ${pull}`);
      for (const [id, line] of lines) rows.push(`     ${id}  ${bar(line)}  ${line.status}`);
      rows.push(...(this.#notes.get(pull) ?? []).map((note) => `     ${note}`));
    }
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : '';
    this.#out.write(up + rows.map((row) => `\x1b[2K${row.slice(0, width - 1)}\n`).join(''));
    this.#drawn = rows.length;
  }
}

function bar({ status, current, total }: Line): string {
  const complete = status === 'Pull complete' || status === 'Already exists';
  const share = complete ? 1 : total > 0 ? Math.min(1, current / total) : 0;
  const full = Math.round(share * BAR_CELLS);
  const numbers = total > 0 ? `${megabytes(complete ? total : current)}/${megabytes(total)}` : '';
  return `${'█'.repeat(full)}${'░'.repeat(BAR_CELLS - full)} ${numbers.padStart(17)}`;
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
