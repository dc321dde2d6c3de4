import type { DemandReport } from '../../protocol/engine.ts';
import { EngineError } from '../errors.ts';
import { stringify } from '../json.ts';
import { DocumentFormat, ListFormat, type RowFormat } from '../format/format.ts';
import { plain } from '../format/table.ts';
import { humanSize } from '../format/units.ts';
import { shortDuration } from '../progress/terminal.ts';
import { Exit, type Context, type Run } from './command.ts';
import { forEachName } from './each.ts';
import { parsePriority } from './priority.ts';

interface ListOptions {
  readonly all?: boolean;
  readonly format?: string;
}

const ROW: RowFormat = {
  headings: {
    Client: 'CLIENT',
    Detached: 'DETACHED',
    Ended: 'ENDED',
    Error: 'LAST ERROR',
    ID: 'ID',
    Left: 'LEFT',
    Priority: 'PRIORITY',
    Rate: 'RATE',
    Received: 'RECEIVED',
    Reference: 'REFERENCE',
    Since: 'SINCE',
    Size: 'SIZE',
    State: 'STATE',
    Verb: 'VERB',
  },
  table:
    '{{.ID}}\t{{.Verb}}\t{{.Reference}}\t{{.State}}\t{{.Received}}\t{{.Size}}\t{{.Rate}}\t{{.Left}}\t{{.Detached}}\t{{.Error}}',
};

/** `layerctl pulls`. */
export const pulls: Run<ListOptions> = async ({ client, out, signal }, _args, { all, format }) => {
  const list = new ListFormat(format, ROW);
  await out.lines(list.lines((await client.pulls({ all, signal })).map(rowOf)));
  return Exit.ok;
};

/** `layerctl pulls inspect`. */
export const inspectPulls: Run<{ readonly format?: string }> = async (context, ids, options) => {
  const { client, out, signal } = context;
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format, OPTIONAL_FIELDS);
  const found: DemandReport[] = [];
  const finish = async (): Promise<void> => {
    if (format === undefined) await out.line(stringify(found, 2));
    else await out.lines(found.map((report) => format.render({ ...report })));
  };
  return forEachName(context, ids, async (id) => void found.push(await client.inspectPull(id, { signal })), finish);
};

/** Those that not every one has. */
const OPTIONAL_FIELDS = ['secondsLeft', 'lastError', 'endedAt'];

/** `layerctl pulls wait`. */
export const waitForPulls: Run<object> = (context, ids) =>
  forEachName(context, ids, async (id) => {
    const { state, reference, lastError } = await endOf(context, id);
    await context.out.line(state);
    if (state === 'done') return;
    throw new EngineError(state === 'cancelled' ? 'cancelled' : 'unavailable', `${reference}: ${lastError ?? state}`);
  });

/** `layerctl pulls priority`. */
export const prioritizePulls: Run<object> = (context, [text = '', ...ids]) => {
  const priority = parsePriority('PRIORITY', text);
  return forEachName(context, ids, async (id) => {
    await context.client.prioritizePull(id, priority, { signal: context.signal });
    await context.out.line(id);
  });
};

/** `layerctl pulls cancel`. */
export const cancelPulls: Run<object> = (context, ids) =>
  forEachName(context, ids, async (id) => {
    await context.client.cancelPull(id, { signal: context.signal });
    await context.out.line(id);
  });

/** Its last report. One that is not detached leaves none. */
async function endOf({ client, signal }: Context, id: string): Promise<DemandReport> {
  for await (const report of client.watchPull(id, { signal })) if (report.endedAt !== undefined) return report;
  throw new EngineError(
    'unavailable',
    `how ${id} ends is not known: the daemon has stopped, or it is not a detached pull; see layerctl pulls --all`,
  );
}

function rowOf(report: DemandReport): Record<string, string> {
  const { id, verb, state, detached, size, received, rate, secondsLeft, priority } = report;
  return {
    Client: plain(report.client),
    Detached: detached ? 'yes' : 'no',
    Ended: report.endedAt ?? '',
    Error: plain(report.lastError ?? ''),
    ID: id,
    Left: secondsLeft === undefined ? '' : shortDuration(secondsLeft),
    Priority: String(priority),
    Rate: rate === 0 ? '' : `${humanSize(rate)}/s`,
    Received: humanSize(received),
    Reference: plain(report.reference),
    Since: report.since,
    Size: humanSize(size),
    State: state,
    Verb: verb,
  };
}
