import type { HistoryItem } from '../../protocol/engine.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { formatSeconds } from '../format/time.ts';
import { ellipsis, humanSize, shortenId, since } from '../format/units.ts';
import { Exit, type Run } from './command.ts';

interface Options {
  readonly format?: string;
  readonly human?: boolean;
  readonly platform?: string;
  readonly quiet?: boolean;
  readonly trunc?: boolean;
}

/** How much of a step's command is shown. */
const COMMAND_LENGTH = 45;

const ROW: RowFormat = {
  headings: {
    Comment: 'COMMENT',
    CreatedAt: 'CREATED AT',
    CreatedBy: 'CREATED BY',
    CreatedSince: 'CREATED',
    ID: 'IMAGE',
    Size: 'SIZE',
  },
  table: '{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}',
};
const EXACT_ROW: RowFormat = { ...ROW, table: ROW.table.replace('CreatedSince', 'CreatedAt') };

/** `layerctl history`. */
export const history: Run<Options> = async (context, [name = ''], options) => {
  const { client, out, signal } = context;
  const isHuman = options.human !== false;
  const format =
    options.quiet === true ? new ListFormat('{{.ID}}', ROW) : new ListFormat(options.format, isHuman ? ROW : EXACT_ROW);
  const steps = await client.history(name, { platform: options.platform, signal });
  await out.lines(format.lines(steps.map((step) => rowOf(step, isHuman, options.trunc !== false, context.now()))));
  return Exit.ok;
};

function rowOf(step: HistoryItem, isHuman: boolean, truncates: boolean, now: number): Record<string, string> {
  // A tab would begin a cell, a newline a row.
  const command = step.CreatedBy.replace(/[\t\n\r]/g, ' ');
  const createdAt = formatSeconds(step.Created);
  return {
    Comment: step.Comment,
    CreatedAt: createdAt,
    CreatedBy: truncates ? ellipsis(command, COMMAND_LENGTH) : command,
    CreatedSince: isHuman ? since(step.Created, now) : createdAt,
    ID: truncates ? shortenId(step.Id) : step.Id,
    Size: isHuman ? humanSize(step.Size) : String(step.Size),
  };
}
