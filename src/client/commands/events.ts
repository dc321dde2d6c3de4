import type { TransferUpdate } from '../../protocol/engine.ts';
import type { EventMessage } from '../../protocol/event.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import { CursorFile } from '../cursor-file.ts';
import { parseFilters } from '../filters.ts';
import { gapText } from '../follow.ts';
import { DocumentFormat } from '../format/format.ts';
import { formatNanos } from '../format/time.ts';
import { stringify } from '../json.ts';
import { ProgressLines } from '../progress/lines.ts';
import { toEngineTime } from '../timestamp.ts';
import { Exit, type Run } from './command.ts';

interface Options {
  readonly cursorFile?: string;
  readonly filter?: readonly string[];
  readonly follow?: boolean;
  readonly format?: string;
  readonly progress?: boolean;
  readonly since?: string;
  readonly until?: string;
}

/** Fields of older engines, those that only events of containers have, and those of layerd alone. */
const OPTIONAL_FIELDS = ['status', 'id', 'from', 'seq'];

/** `layerctl events`. */
export const events: Run<Options> = async (context, _args, options) => {
  const { client, out, err, signal } = context;
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format, OPTIONAL_FIELDS);
  const hasProgress = options.progress === true;
  if (hasProgress && options.format !== undefined && options.format !== 'json') {
    throw new LayerdError(
      'invalid',
      '--progress is shown without --format, or with --format json: a template is for events',
    );
  }
  const progress = new ProgressLines(context.now);
  const time = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : toEngineTime(text, context.now());
  const since = time(options.since);
  const until = time(options.until);
  const filters = parseFilters(options.filter ?? []);
  const file = options.cursorFile === undefined ? undefined : await CursorFile.open(options.cursorFile);
  const kept = file?.place;
  const isFollowed = options.follow === true;
  let store = '';
  const stream = client.events({
    ...(kept === undefined ? { since } : { cursor: kept.seq, store: kept.store }),
    until,
    filters,
    resumable: isFollowed || file !== undefined || hasProgress,
    reconnect: isFollowed,
    onHello: (hello) => {
      store = hello.id;
      file?.keep({ store, seq: hello.cursor });
    },
    onBookmark: (seq) => file?.keep({ store, seq }),
    onGap: (gap) => err.line(`layerctl: ${gapText(gap)}`),
    ...(hasProgress
      ? {
          onProgress: async (update: TransferUpdate): Promise<void> => {
            const line = format === undefined ? progress.line(update) : stringify({ progress: update });
            if (line !== undefined) await out.line(line);
          },
        }
      : {}),
    onOutage: async ({ error, failures }) => {
      if (failures === 1) await err.line(`layerctl: ${error.message}; connecting again until it is back`);
    },
    signal,
  });
  try {
    for await (const event of stream) {
      await out.line(format === undefined ? eventLine(event) : format.render(event));
      if (event.seq !== undefined) file?.keep({ store, seq: event.seq });
    }
  } catch (error) {
    if (kept === undefined || !isKind(error, 'conflict')) throw error;
    throw new LayerdError('conflict', `${error.message}; to do so remove ${file?.path ?? ''}`, { cause: error });
  } finally {
    await file?.settled();
  }
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
