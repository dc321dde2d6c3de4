import type { DirectionLimits, DirectionLimitsChange, LimitsReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { plain } from '../format/table.ts';
import { Exit, type Context, type Run } from './command.ts';

interface Options {
  readonly format?: string;
}

interface Changes {
  readonly maxConcurrentDownloads?: string;
  readonly maxConcurrentUploads?: string;
  readonly maxConcurrentDownloadsPerRegistry?: readonly string[];
  readonly maxConcurrentUploadsPerRegistry?: readonly string[];
  readonly downloadBandwidth?: readonly string[];
  readonly uploadBandwidth?: readonly string[];
}

/** Takes a limit away. */
const NONE = 'none';
/** Each registry that is not named. */
const ANY_REGISTRY = '*';

const ROW: RowFormat = {
  headings: { Direction: 'DIRECTION', Limit: 'LIMIT', Registry: 'REGISTRY', Time: 'TIME', Value: 'VALUE' },
  table: '{{.Direction}}\t{{.Limit}}\t{{.Registry}}\t{{.Time}}\t{{.Value}}',
};

/** `layerctl limits`. */
export const limits: Run<Options> = async ({ client, out, signal }, _args, options) => {
  const format = new ListFormat(options.format, ROW);
  await out.lines(format.lines(rowsOf(await client.limits({ signal }))));
  return Exit.ok;
};

/** `layerctl limit set`. */
export const setLimits: Run<Changes> = async (context: Context, _args, options) => {
  const { client, out, signal } = context;
  const downloads = changeOf('downloads', {
    concurrency: options.maxConcurrentDownloads,
    registries: options.maxConcurrentDownloadsPerRegistry,
    bandwidth: options.downloadBandwidth,
  });
  const uploads = changeOf('uploads', {
    concurrency: options.maxConcurrentUploads,
    registries: options.maxConcurrentUploadsPerRegistry,
    bandwidth: options.uploadBandwidth,
  });
  if (downloads === undefined && uploads === undefined) {
    throw new LayerdError('invalid', 'nothing to set: name a limit, such as --max-concurrent-downloads 5');
  }
  await out.lines(
    new ListFormat(undefined, ROW).lines(rowsOf(await client.changeLimits({ downloads, uploads }, { signal }))),
  );
  return Exit.ok;
};

interface Given {
  readonly concurrency: string | undefined;
  readonly registries: readonly string[] | undefined;
  readonly bandwidth: readonly string[] | undefined;
}

function changeOf(direction: 'downloads' | 'uploads', given: Given): DirectionLimitsChange | undefined {
  const { concurrency, registries, bandwidth } = given;
  if (concurrency === undefined && registries === undefined && bandwidth === undefined) return undefined;
  return {
    concurrency: concurrency === undefined ? undefined : whole(`--max-concurrent-${direction}`, concurrency),
    registries:
      registries === undefined ? undefined : registriesOf(`--max-concurrent-${direction}-per-registry`, registries),
    bandwidth: bandwidth?.filter((rule) => rule !== NONE),
  };
}

/** `[REGISTRY=]N`, or `none` in place of the number. */
function registriesOf(flag: string, rules: readonly string[]): Record<string, number | null> {
  return Object.fromEntries(
    rules.map((rule) => {
      const at = rule.lastIndexOf('=');
      const value = rule.slice(at + 1);
      return [at === -1 ? ANY_REGISTRY : rule.slice(0, at), value === NONE ? null : whole(flag, value)];
    }),
  );
}

function whole(flag: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new LayerdError('invalid', `${flag} '${text}': expected a whole number`);
}

function rowsOf({ downloads, uploads }: LimitsReport): Record<string, string>[] {
  return [...directionRows('download', downloads), ...directionRows('upload', uploads)];
}

function directionRows(direction: string, { concurrency, registries, bandwidth }: DirectionLimits) {
  const row = (limit: string, registry: string, time: string, value: string): Record<string, string> => ({
    Direction: direction,
    Limit: limit,
    Registry: plain(registry),
    Time: time,
    Value: value,
  });
  return [
    row('concurrency', '', '', String(concurrency)),
    ...Object.entries(registries).map(([registry, count]) =>
      row('concurrency', registry === ANY_REGISTRY ? 'each' : registry, '', String(count)),
    ),
    ...bandwidth.map((rule) => {
      const [, registry = '', rate = '', time = ''] = /^(?:(.*)=)?([^@]*)(?:@(.*))?$/.exec(rule) ?? [];
      return row('bandwidth', registry, time, `${rate}/s`);
    }),
  ];
}
