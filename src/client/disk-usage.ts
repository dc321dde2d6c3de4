import type { DiskUsage, ImageSummary, UsageTotals } from '../protocol/engine.ts';

/** What takes space as engines tell it before 1.52: lists of all objects. */
export interface ListedUsage {
  readonly LayersSize?: number;
  readonly Images?: ImageSummary[] | null;
  readonly Containers?: { readonly SizeRw?: number; readonly State?: string }[] | null;
  readonly Volumes?: { readonly UsageData?: { readonly Size: number; readonly RefCount: number } | null }[] | null;
  readonly BuildCache?: { readonly Size: number; readonly InUse: boolean; readonly Shared: boolean }[] | null;
}

/** The same as totals, reckoned as the docker CLI does. What is not known, -1, counts nothing. */
export function totalsOf(usage: ListedUsage): DiskUsage {
  const images = usage.Images ?? [];
  const used = images.filter(({ Containers }) => Containers !== 0);
  const ownOfUsed = used.reduce(
    (sum, { Size, SharedSize }) => (Size < 0 || SharedSize < 0 ? sum : sum + Size - SharedSize),
    0,
  );
  const layers = usage.LayersSize ?? 0;
  return {
    ImageUsage: {
      ActiveCount: images.filter(({ Containers }) => Containers > 0).length,
      TotalCount: images.length,
      TotalSize: layers,
      Reclaimable: layers - ownOfUsed,
      Items: images,
    },
    ContainerUsage: sum(usage.Containers ?? [], ({ SizeRw = 0, State = '' }) => ({
      size: SizeRw,
      isUsed: ['running', 'paused', 'restarting'].includes(State),
    })),
    VolumeUsage: sum(usage.Volumes ?? [], ({ UsageData }) => ({
      size: Math.max(0, UsageData?.Size ?? 0),
      isUsed: (UsageData?.RefCount ?? 0) !== 0,
    })),
    BuildCacheUsage: sum(usage.BuildCache ?? [], ({ Size, InUse, Shared }) => ({
      size: Shared ? 0 : Size,
      isUsed: InUse,
    })),
  };
}

function sum<T extends object>(
  items: T[],
  partOf: (item: T) => { readonly size: number; readonly isUsed: boolean },
): UsageTotals<object> {
  const parts = items.map(partOf);
  const size = (some: typeof parts): number => some.reduce((total, part) => total + part.size, 0);
  return {
    ActiveCount: parts.filter(({ isUsed }) => isUsed).length,
    TotalCount: parts.length,
    TotalSize: size(parts),
    Reclaimable: size(parts.filter(({ isUsed }) => !isUsed)),
    Items: items,
  };
}
