import type { Value } from './functions.ts';
import { stringify } from '../json.ts';
import { alignTabs } from './table.ts';
import { Template } from './template.ts';

/** Rows of a list: each field's heading, and how the list looks when nobody says. */
export interface RowFormat {
  /** Heading by field; these are all fields there are. */
  readonly headings: Readonly<Record<string, string>>;
  /** Template of the default table, cells parted by tabs. */
  readonly table: string;
}

/**
 * How a list is shown, from `--format`: `json` (one object a line), `table`, `table TEMPLATE` (headings above, cells
 * parted by `\t`), or `TEMPLATE` for each row. Throws a TemplateError at once when the template is none.
 */
export class ListFormat {
  readonly #template: Template | undefined;
  readonly #headings: Readonly<Record<string, string>> | undefined;

  constructor(format: string | undefined, { headings, table }: RowFormat) {
    if (format === 'json') return;
    const isTable = format === undefined || format === 'table' || /^table\s/.test(format);
    if (isTable) this.#headings = headings;
    const own = format === undefined || format === 'table' ? table : format.replace(/^table\s+/, '');
    this.#template = new Template(own);
  }

  /** Whether the format shows the field, and it must be asked for. */
  reads(field: string): boolean {
    return this.#template?.reads(field) ?? false;
  }

  /** The lines to print. */
  lines(rows: readonly Readonly<Record<string, Value>>[]): string[] {
    const template = this.#template;
    if (template === undefined) return rows.map((row) => stringify(row));
    if (this.#headings === undefined) return rows.map((row) => template.render(row));
    return alignTabs([template.render(this.#headings), ...rows.map((row) => template.render(row))]);
  }
}

/** How documents are shown, from `--format`: `json` on one line, or `TEMPLATE`. */
export class DocumentFormat {
  readonly #template: Template | undefined;
  readonly #optional: ReadonlySet<string>;

  constructor(format: string, optional: readonly string[] = []) {
    this.#template = format === 'json' ? undefined : new Template(format);
    this.#optional = new Set(optional);
  }

  render(document: Value): string {
    return this.#template === undefined ? stringify(document) : this.#template.render(document, this.#optional);
  }
}
