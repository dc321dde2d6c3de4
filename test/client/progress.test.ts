import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Output } from '../../src/client/output.ts';
import { TerminalView, type Clock } from '../../src/client/progress/terminal.ts';
import { PlainView } from '../../src/client/progress/view.ts';
import type { ProgressMessage } from '../../src/protocol/progress.ts';
import { Capture } from './support.ts';

/** A clock that stands until it is moved. */
class ManualClock implements Clock {
  time = 0;
  readonly #due: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.time;
  }

  after(ms: number, callback: () => void): () => void {
    const entry = { at: this.time + ms, callback };
    this.#due.push(entry);
    return () => {
      const index = this.#due.indexOf(entry);
      if (index >= 0) this.#due.splice(index, 1);
    };
  }

  advance(ms: number): void {
    this.time += ms;
    for (const entry of this.#due.filter(({ at }) => at <= this.time)) {
      this.#due.splice(this.#due.indexOf(entry), 1);
      entry.callback();
    }
  }
}

const ESCAPE = '\u001b';

/** What a terminal shows of what was written to it: the sequences that the view uses, and lines that break when full. */
function screen(text: string, columns: number): string[] {
  const rows: string[][] = [[]];
  let row = 0;
  let column = 0;
  for (const [part] of text.matchAll(new RegExp(`${ESCAPE}\\[\\d*[A-Za-z]|[^]`, 'gu'))) {
    const line = (rows[row] ??= []);
    if (part === '\n') {
      row += 1;
      column = 0;
    } else if (part === '\r') column = 0;
    else if (part === `${ESCAPE}[K`) line.length = column;
    else if (part === `${ESCAPE}[J`) rows.length = row;
    else if (part.startsWith(ESCAPE) && part.endsWith('A')) row -= Number(part.slice(2, -1));
    else if (!part.startsWith(ESCAPE)) {
      if (column === columns) {
        row += 1;
        column = 0;
      }
      const target = (rows[row] ??= []);
      target[column] = part;
      column += 1;
    }
    rows[row] ??= [];
    assert.ok(row >= 0, 'the cursor left the screen');
  }
  return rows.map((line) => Array.from(line, (character) => (character as string | undefined) ?? ' ').join(''));
}

function view(
  columns = 80,
  rows = 24,
): { view: TerminalView; terminal: Capture; clock: ManualClock; shown: () => string[] } {
  const terminal = Object.assign(new Capture(true), { columns, rows });
  const clock = new ManualClock();
  return {
    view: new TerminalView(new Output(terminal, { NO_COLOR: '1' }), clock),
    terminal,
    clock,
    shown: () => screen(terminal.text, terminal.columns === 0 ? 80 : terminal.columns),
  };
}

const layer = (id: string, status: string, current?: number, total?: number): ProgressMessage => ({
  id,
  status,
  progressDetail: current === undefined ? {} : { current, ...(total === undefined ? {} : { total }) },
});

describe('progress on a terminal', () => {
  it('has one line for each layer, changed in place, and the total with its rate', async () => {
    const { view: progress, clock, shown } = view();
    await progress.show({ status: 'Pulling from library/redis', id: '7' });
    await progress.show(layer('aaa', 'Pulling fs layer'));
    await progress.show(layer('bbb', 'Pulling fs layer'));
    await progress.show(layer('aaa', 'Downloading', 0, 4_000_000));
    clock.advance(50);
    assert.deepEqual(shown(), [
      '7: Pulling from library/redis',
      `aaa: Downloading [>${' '.repeat(46)}]       0B/4MB`,
      'bbb: Pulling fs layer',
      'Total: 0B/4MB and more',
      '',
    ]);
    clock.advance(1000);
    await progress.show(layer('aaa', 'Downloading', 1_000_000, 4_000_000));
    await progress.show(layer('bbb', 'Downloading', 0, 1_000_000));
    clock.advance(50);
    assert.match(shown()[3] ?? '', /^Total: 1MB\/5MB {2}(?:9\d\dkB|1MB)\/s {2}\ds left$/);
    for (const id of ['aaa', 'bbb']) {
      await progress.show(layer(id, 'Download complete'));
      await progress.show(layer(id, 'Pull complete'));
    }
    await progress.show({ status: 'Digest: sha256:1' });
    await progress.end();
    assert.deepEqual(shown(), [
      '7: Pulling from library/redis',
      'aaa: Pull complete',
      'bbb: Pull complete',
      'Digest: sha256:1',
      '',
    ]);
  });

  it('is drawn at most 20 times a second, and only where it changed', async () => {
    const { view: progress, terminal, clock } = view();
    await progress.show(layer('aaa', 'Waiting'));
    for (let current = 0; current < 1000; current += 1) {
      await progress.show(layer('bbb', 'Downloading', current, 1000));
      clock.advance(1);
    }
    assert.ok(terminal.writes <= 21, `${terminal.writes} frames`);
    assert.equal(terminal.text.split('aaa').length - 1, 1);
  });

  it('counts what was there already neither for the rate nor twice', async () => {
    const { view: progress, clock, shown } = view();
    await progress.show(layer('aaa', 'Downloading', 3_000_000, 4_000_000));
    clock.advance(50);
    clock.advance(1000);
    await progress.show(layer('aaa', 'Downloading', 3_105_000, 4_000_000));
    clock.advance(50);
    assert.match(shown().at(-2) ?? '', /^Total: 3\.105MB\/4MB {2}100kB\/s {2}9s left$/);
  });

  it('fits a narrow and low terminal, and says what it does not show', async () => {
    const { view: progress, clock, shown } = view(30, 5);
    for (const id of ['a1', 'b2', 'c3', 'd4', 'e5', 'f6']) await progress.show(layer(id, 'Waiting'));
    await progress.show(layer('e5', 'Downloading', 500_000, 1_000_000));
    await progress.show(layer('a1', 'Already exists'));
    clock.advance(50);
    const lines = shown();
    assert.ok(
      lines.every((line) => line.length < 30),
      lines.join('\n'),
    );
    assert.deepEqual(lines, [
      'b2: Waiting',
      'e5: Downloading    500kB/1MB'.slice(0, 29),
      '… 4 more: 1 Already exists, 3',
      'Total: 500kB/1MB and more',
      '',
    ]);
  });

  it('is drawn over its broken lines when the terminal becomes narrower', async () => {
    const { view: progress, terminal, clock, shown } = view(60);
    await progress.show(layer('aaa', 'Downloading', 1_000_000, 4_000_000));
    clock.advance(50);
    // From here on the terminal shows the old text, too, in 20 columns.
    terminal.columns = 20;
    await progress.show(layer('aaa', 'Downloading', 2_000_000, 4_000_000));
    clock.advance(50);
    assert.deepEqual(shown(), ['aaa: Downloading   ', 'Total: 2MB/4MB', '']);
  });

  it('ends with the last state of every layer, whatever came when', async () => {
    const id = fc.constantFrom('a', 'b', 'c', 'd');
    const status = fc.constantFrom('Waiting', 'Downloading', 'Extracting', 'Pull complete', 'Already exists');
    const step = fc.record({ id, status, current: fc.nat(2000), total: fc.nat(2000), wait: fc.nat(120) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.integer({ min: 12, max: 120 }), async (steps, columns) => {
        const { view: progress, clock, shown } = view(columns);
        const last = new Map<string, string>();
        for (const { id: name, status: text, current, total, wait } of steps) {
          await progress.show(layer(name, text, current, total));
          last.set(name, text);
          clock.advance(wait);
        }
        await progress.end();
        const lines = shown().slice(0, -1);
        assert.equal(lines.length, last.size);
        assert.ok(lines.every((line) => line.length < columns));
        [...last].forEach(([name, text], row) => {
          const wanted = `${name}: ${text}`.slice(0, columns - 1);
          assert.ok(lines[row]?.startsWith(wanted), `${lines[row] ?? ''} begins with ${wanted}`);
        });
      }),
    );
  });

  it('takes a terminal that does not know its size for 80 by 24', async () => {
    const { view: progress, clock, shown } = view(0, 0);
    for (const id of ['a', 'b', 'c']) await progress.show(layer(id, 'Waiting'));
    clock.advance(50);
    assert.deepEqual(
      shown().map((row) => row.trimEnd()),
      ['a: Waiting', 'b: Waiting', 'c: Waiting', ''],
    );
  });

  it('lets no registry control the terminal', async () => {
    const { view: progress, terminal } = view();
    await progress.show({ status: 'Pulling\u001b]0;title\u0007 from \u009b31mx' });
    assert.equal(terminal.text, 'Pulling]0;title from 31mx\n');
  });

  it('is coloured unless NO_COLOR is set', async () => {
    for (const [env, isColoured] of [
      [{}, true],
      [{ NO_COLOR: '' }, true],
      [{ NO_COLOR: '1' }, false],
    ] as const) {
      const terminal = new Capture(true);
      const progress = new TerminalView(new Output(terminal, env), new ManualClock());
      await progress.show(layer('a', 'Pull complete'));
      await progress.end();
      assert.equal(terminal.text.includes('\u001b[32m'), isColoured);
    }
  });
});

describe('progress in a pipe', () => {
  it('is a line for each change, without the moves of bars', async () => {
    const capture = new Capture();
    const progress = new PlainView(new Output(capture, {}));
    for (const message of [
      { status: 'Pulling from library/redis', id: '7' },
      layer('a', 'Pulling fs layer'),
      layer('a', 'Downloading', 1, 2),
      layer('a', 'Pull complete'),
      { status: 'Status: done' },
    ]) {
      await progress.show(message);
    }
    await progress.end();
    assert.equal(capture.text, '7: Pulling from library/redis\na: Pulling fs layer\na: Pull complete\nStatus: done\n');
  });
});
