import type { EventMessage } from '../../protocol/event.ts';
import { parseFilters } from '../filters.ts';
import { DocumentFormat } from '../format/format.ts';
import { formatNanos } from '../format/time.ts';
import { toEngineTime } from '../timestamp.ts';
import { Exit, type Run } from './command.ts';

interface Options {
  readonly filter?: readonly string[];
  readonly format?: string;
  readonly since?: string;
  readonly until?: string;
}

/** Fields of older engines, and those that only events of containers have. */
const OPTIONAL_FIELDS = ['status', 'id', 'from'];

/** `layerctl events`. */
export const events: Run<Options> = async (context, _args, options) => {
  const { client, out, signal } = context;
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format, OPTIONAL_FIELDS);
  const time = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : toEngineTime(text, context.now());
  const stream = client.events({
    since: time(options.since),
    until: time(options.until),
    filters: parseFilters(options.filter ?? []),
    signal,
  });
  for await (const event of stream) await out.line(format === undefined ? eventLine(event) : format.render(event));
  return Exit.ok;
};

/** `TIME TYPE ACTION ID (name=value, …)`. */
function eventLine({ timeNano, Type, Action, Actor }: EventMessage): string {
  const attributes = Object.entries(Actor.Attributes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  const shown = attributes.length === 0 ? '' : ` (${attributes.join(', ')})`;
  return `${formatNanos(timeNano)} ${Type} ${Action} ${Actor.ID}${shown}`;
}
