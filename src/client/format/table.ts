/** A column is at least this wide, the space after it included, as docker's are. */
const MIN_COLUMN = 10;
const PADDING = 3;

/** Lines whose cells end with tabs, aligned in columns; the last cell of a line stays as it is. */
export function alignTabs(lines: readonly string[]): string[] {
  const rows = lines.map((line) => line.split('\t'));
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.slice(0, -1).entries()) {
      widths[column] = Math.max(widths[column] ?? 0, MIN_COLUMN, width(cell) + PADDING);
    }
  }
  return rows.map((row) =>
    row.map((cell, column) => (column === row.length - 1 ? cell : pad(cell, widths[column] ?? 0))).join(''),
  );
}

/** Columns of a terminal that the text takes, counted in characters. */
export function width(text: string): number {
  return characters(text).length;
}

export function pad(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - width(text)));
}

/**
 * Text that strangers wrote, on one line and in one cell: a newline would begin a row, a tab a cell, and a terminal would
 * obey escape sequences.
 */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
}

/** The text's characters (code points), which a position in a terminal stands for. */
export function characters(text: string): string[] {
  return Array.from(text);
}

/** The text's first characters. */
export function cut(text: string, length: number): string {
  return characters(text).slice(0, Math.max(0, length)).join('');
}
