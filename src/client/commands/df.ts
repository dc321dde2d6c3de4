import type { DiskUsage, UsageReport, UsageTotals } from '../../protocol/engine.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { humanSize } from '../format/units.ts';
import { Exit, type Context, type Run } from './command.ts';
import { IMAGE_HEADINGS, imageRow, NONE, namesOf } from './images.ts';
import { unlessUnknown } from './own.ts';

interface Options {
  readonly format?: string;
  readonly verbose?: boolean;
}

const ROW: RowFormat = {
  headings: { Active: 'ACTIVE', Reclaimable: 'RECLAIMABLE', Size: 'SIZE', TotalCount: 'TOTAL', Type: 'TYPE' },
  table: '{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}',
};
const IMAGE_ROW: RowFormat = {
  headings: IMAGE_HEADINGS,
  table:
    '{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}',
};

/** `layerctl df`. */
export const df: Run<Options> = async (context, _args, options) => {
  const { client, out, signal } = context;
  const isVerbose = options.verbose === true;
  const format = new ListFormat(options.format, isVerbose ? IMAGE_ROW : ROW);
  const usage = await client.diskUsage({ verbose: isVerbose, signal });
  if (!isVerbose) {
    await out.lines(format.lines(rowsOf(usage, await reportOf(context))));
    return Exit.ok;
  }
  const rows = (usage.ImageUsage?.Items ?? []).map((image) => {
    const [names = { repository: NONE, tag: NONE, digest: NONE }] = namesOf(image, false, false);
    return imageRow(image, names, options.format === undefined || options.format.startsWith('table'), context.now());
  });
  await out.lines(format.lines(rows));
  return Exit.ok;
};

/** What layerd alone tells: what is stored that is not part of an image. */
function reportOf({ client, signal }: Context): Promise<UsageReport | undefined> {
  return unlessUnknown(() => client.usage({ signal }));
}

function rowsOf(usage: DiskUsage, report: UsageReport | undefined): Record<string, string>[] {
  const { ImageUsage: images, ContainerUsage, VolumeUsage, BuildCacheUsage } = usage;
  // Engines know no other place for what layerd tells apart than among the images.
  const others =
    report === undefined
      ? [row('Images', images)]
      : [
          row('Images', images && { ...images, TotalSize: report.images.size, Reclaimable: report.images.size }),
          row('Interrupted Pulls', {
            ActiveCount: 0,
            TotalCount: report.interrupted.count,
            TotalSize: report.interrupted.size,
            Reclaimable: report.interrupted.size,
          }),
          row('Under Way', {
            ActiveCount: report.underWay.count,
            TotalCount: report.underWay.count,
            TotalSize: report.underWay.size,
            Reclaimable: 0,
          }),
        ];
  return [
    ...others,
    row('Containers', ContainerUsage),
    row('Local Volumes', VolumeUsage),
    row('Build Cache', BuildCacheUsage),
  ];
}

function row(type: string, totals: UsageTotals<object> | undefined): Record<string, string> {
  const { ActiveCount = 0, TotalCount = 0, TotalSize = 0, Reclaimable = 0 } = totals ?? {};
  const share = TotalSize > 0 ? ` (${Math.floor((Reclaimable * 100) / TotalSize)}%)` : '';
  return {
    Active: String(ActiveCount),
    Reclaimable: humanSize(Reclaimable, 4) + share,
    Size: humanSize(TotalSize, 4),
    TotalCount: String(TotalCount),
    Type: type,
  };
}
