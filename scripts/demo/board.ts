import type { ProgressMessage } from '../../src/protocol/progress.ts';
import { megabytes } from './text.ts';

/** How often the board is drawn again. */
const FRAME_MS = 80;
const BAR_CELLS = 28;
/** Steps that have no share: they are about the whole layer. */
const WHOLE: ReadonlySet<string> = new Set([
  'Verifying Checksum',
  'Download complete',
  'Pull complete',
  'Already exists',
]);

interface Line {
  readonly status: string;
  readonly current: number;
  readonly total: number;
}

interface Pull {
  /** By the ID of the layer. */
  readonly lines: Map<string, Line>;
  /** What the pull said of itself. */
  readonly notes: string[];
}

/** Shows several pulls at once: bars that move on a terminal, a line for each step elsewhere. */
export class Board implements Disposable {
  readonly #out: NodeJS.WriteStream;
  readonly #pulls = new Map<string, Pull>();
  #timer: NodeJS.Timeout | undefined;
  #drawn = 0;

  /** Shows the pulls in the order of their names given here. */
  constructor(out: NodeJS.WriteStream, pulls: readonly string[]) {
    this.#out = out;
    for (const pull of pulls) this.#pulls.set(pull, { lines: new Map(), notes: [] });
    if (out.isTTY) this.#timer = setInterval(() => this.#draw(), FRAME_MS);
  }

  /** Takes in one message of a pull. */
  show(pull: string, message: ProgressMessage): void {
    const { id, status = '', progressDetail } = message;
    const shown = this.#pulls.get(pull);
    if (shown === undefined) throw new Error(`the board does not know the pull ${pull}`);
    const line = id === undefined ? undefined : shown.lines.get(id);
    if (!this.#out.isTTY && line?.status !== status) {
      this.#out.write(`   ${pull}: ${id === undefined ? '' : `${id}: `}${status}\n`);
    }
    if (id === undefined) shown.notes.push(status);
    else if (!status.startsWith('Pulling from')) {
      const { current = line?.current ?? 0, total = line?.total ?? 0 } = progressDetail ?? {};
      shown.lines.set(id, { status, current, total });
    }
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
    for (const [pull, { lines, notes }] of this.#pulls) {
      rows.push(`   ${pull}`);
      for (const [id, line] of lines) rows.push(`     ${id}  ${bar(line)}  ${line.status}`);
      rows.push(...notes.map((note) => `     ${note}`));
    }
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : '';
    this.#out.write(up + rows.map((row) => `\x1b[2K${row.slice(0, width - 1)}\n`).join(''));
    this.#drawn = rows.length;
  }
}

function bar({ status, current, total }: Line): string {
  const complete = WHOLE.has(status);
  const share = complete ? 1 : total > 0 ? Math.min(1, current / total) : 0;
  const full = Math.round(share * BAR_CELLS);
  const numbers = total > 0 ? `${megabytes(complete ? total : current)}/${megabytes(total)}` : '';
  return `${'█'.repeat(full)}${'░'.repeat(BAR_CELLS - full)} ${numbers.padStart(17)}`;
}
