import type { GcKept, GcRemoved, GcReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { GcOptions } from '../engine.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { humanSize, parseSize, shortenId, since } from '../format/units.ts';
import { Exit, type Run } from './command.ts';
import { confirm } from './confirm.ts';
import { NONE } from './images.ts';

interface Options {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly format?: string;
  readonly free?: string;
  readonly high?: string;
  readonly local?: boolean;
  readonly low?: string;
  readonly maxAge?: string;
  readonly minAge?: string;
  readonly trunc?: boolean;
}

const ROW: RowFormat = {
  headings: {
    Action: 'ACTION',
    ID: 'IMAGE ID',
    Image: 'IMAGE',
    LastUsed: 'LAST USED',
    Names: 'NAMES',
    Reason: 'REASON',
    Size: 'SIZE',
  },
  table: '{{.Image}}\t{{.ID}}\t{{.LastUsed}}\t{{.Size}}\t{{.Action}}\t{{.Reason}}',
};

const REASONS: Readonly<Record<GcRemoved['reason'] | Exclude<GcKept['reason'], 'held'>, string>> = {
  'maximum-age': 'not used for longer than the maximum age',
  dangling: 'has no tag',
  'least-recently-used': 'least recently used',
  'in-use': 'a pull, push, save or load needs it',
  parent: 'other images stand on it',
  young: 'used within the minimum age',
  local: 'no registry is known to have it',
  enough: 'enough is free without it',
};

/** `layerctl gc`. */
export const gc: Run<Options> = async (context, _args, options) => {
  const { client, out, err, signal, now } = context;
  const { dryRun = false, force = false } = options;
  const format = new ListFormat(options.format, ROW);
  const terms = termsOf(options);
  if (!dryRun && !force) {
    await confirm(context, 'collection', 'This will remove images, those that were used least recently first.');
  }
  const report = await client.gc({ ...terms, dryRun, signal });
  const { removed, interrupted, missing } = report;
  // Of a collection that went well people want to know what is gone.
  const kept = dryRun || missing > 0 || options.format !== undefined ? report.kept : [];
  const action = dryRun ? 'would remove' : 'removed';
  const rowOf = (image: GcRemoved | GcKept, done: string): Record<string, string> => ({
    Action: done,
    ID: options.trunc === false ? image.id : shortenId(image.id),
    Image: image.names[0] ?? NONE,
    LastUsed: since(Date.parse(image.lastUsed) / 1000, now()),
    Names: image.names.join(', '),
    Reason: image.reason === 'held' ? `held by ${image.holders.join(', ')}` : REASONS[image.reason],
    Size: humanSize(image.bytes, 4),
  });
  const rows = [...removed.map((image) => rowOf(image, action)), ...kept.map((image) => rowOf(image, 'kept'))];
  if (options.format !== undefined) await out.lines(format.lines(rows));
  else {
    if (rows.length > 0) await out.lines([...format.lines(rows), '']);
    if (interrupted > 0) await out.line(`Interrupted pulls: ${action} ${humanSize(interrupted, 4)}`);
    await out.line(summaryOf(report));
  }
  if (missing === 0) return Exit.ok;
  await err.line(
    `layerctl: ${humanSize(missing, 4)} of ${humanSize(report.wanted, 4)} could not be freed: see for each image why it is kept, or free other space`,
  );
  return dryRun ? Exit.ok : Exit.failure;
};

function summaryOf({ dryRun, before, after, reclaimed }: GcReport): string {
  if (reclaimed === 0) return `Nothing to remove: ${before.percent}% of the disk is in use`;
  const words = dryRun ? 'Total space that would be reclaimed' : 'Total reclaimed space';
  return `${words}: ${humanSize(reclaimed, 4)}; use of the disk from ${before.percent}% to ${after.percent}%`;
}

/** Throws `invalid`, naming the option that is wrong. */
function termsOf({ high, low, free, minAge, maxAge, local }: Options): GcOptions {
  return {
    high: percent('--high', high),
    low: percent('--low', low),
    free: bytes('--free', free),
    minimumAge: minAge,
    maximumAge: maxAge,
    local,
  };
}

function percent(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,3}%?$/.test(text) ? Number.parseInt(text, 10) : NaN;
  if (value <= 100) return value;
  throw new LayerdError('invalid', `${option} '${text}': expected percent of the disk, from 0 to 100`);
}

function bytes(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = parseSize(text);
  if (value !== undefined) return value;
  throw new LayerdError('invalid', `${option} '${text}': expected a size such as 500m or 20g`);
}
