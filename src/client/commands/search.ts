import type { SearchResult } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { splitSearchTerm } from '../../protocol/reference.ts';
import { parseFilters } from '../filters.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { ellipsis } from '../format/units.ts';
import { plain } from '../format/table.ts';
import { Exit, type Run } from './command.ts';
import { credentialsForRegistry } from './pull.ts';

interface Options {
  readonly filter?: readonly string[];
  readonly format?: string;
  readonly limit?: string;
  readonly trunc?: boolean;
}

/** How much of a description is shown. */
const DESCRIPTION_LENGTH = 45;

const ROW: RowFormat = {
  headings: {
    Description: 'DESCRIPTION',
    IsAutomated: 'AUTOMATED',
    IsOfficial: 'OFFICIAL',
    Name: 'NAME',
    StarCount: 'STARS',
  },
  table: '{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}',
};

/** `layerctl search`. */
export const search: Run<Options> = async (context, [term = ''], options) => {
  const { client, out, signal } = context;
  const format = new ListFormat(options.format, ROW);
  const filters = parseFilters(options.filter ?? []);
  const limit = options.limit === undefined ? undefined : parseLimit(options.limit);
  const auth = await credentialsForRegistry(context, splitSearchTerm(term).registry);
  const found = await client.search(term, { limit, filters, auth, signal });
  const show = options.format === 'json' ? String : (value: boolean): string => (value ? '[OK]' : '');
  await out.lines(format.lines(found.map((result) => rowOf(result, options.trunc !== false, show))));
  return Exit.ok;
};

function parseLimit(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new LayerdError('invalid', `--limit '${text}': expected a number from 1 to 100`);
}

function rowOf(result: SearchResult, truncates: boolean, show: (value: boolean) => string): Record<string, string> {
  const description = plain(result.description);
  return {
    Description: truncates ? ellipsis(description, DESCRIPTION_LENGTH) : description,
    IsAutomated: show(result.is_automated),
    IsOfficial: show(result.is_official),
    Name: plain(result.name),
    StarCount: String(result.star_count),
  };
}
