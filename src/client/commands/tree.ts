import type { ImageSummary, ManifestSummary } from '../../protocol/engine.ts';
import { pad, width } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import type { Output } from '../output.ts';
import { formatPlatform } from '../platform.ts';

const GAP = '   ';
const UNTAGGED = '<untagged>';

/** A row of the tree, before it is aligned. */
interface Row {
  readonly name: string;
  readonly cells: readonly [id: string, diskUsage: string, contentSize: string, used: string];
  readonly look: 'image' | 'platform' | 'absent';
}

/** Each image with the platforms of its index below; those whose content is not here are dim. */
export function treeLines(images: readonly ImageSummary[], { style }: Output): string[] {
  const groups = [...images].sort((a, b) => b.Created - a.Created).map(rowsOf);
  const nameWidth = Math.max('IMAGE'.length, ...groups.flat().map(({ name }) => width(name)));
  const line = (name: string, [id, disk, content, used]: Row['cells']): string =>
    [pad(name, nameWidth), pad(id, 12), disk.padStart(10), content.padStart(12), used].join(GAP).trimEnd();
  const looks = {
    image: (text: string) => style.bold(text),
    platform: (text: string) => text,
    absent: (text: string) => style.dim(text),
  };
  return [
    style.bold(line('IMAGE', ['ID', 'DISK USAGE', 'CONTENT SIZE', 'USED'])),
    ...groups.flatMap((rows, index) => [
      ...(index === 0 ? [] : ['']),
      ...rows.map(({ name, cells, look }) => looks[look](line(name, cells))),
    ]),
  ];
}

function rowsOf(image: ImageSummary): Row[] {
  const platforms = (image.Manifests ?? []).filter(({ Kind }) => Kind === 'image');
  const content = platforms.reduce((sum, { Size }) => sum + Size.Content, 0);
  const isUsed = image.Containers > 0 || platforms.some(isManifestUsed);
  const names = image.RepoTags.filter((name) => name !== '<none>:<none>');
  const cells = [shortenId(image.Id), humanSize(image.Size), humanSize(content), mark(isUsed)] as const;
  const last = names.at(-1) ?? UNTAGGED;
  return [
    // Only the last of several names carries the figures: they are one image's.
    ...names.slice(0, -1).map((name): Row => ({ name, cells: ['', '', '', ''], look: 'image' })),
    { name: last, cells, look: 'image' },
    ...platforms.map((manifest, index) => platformRow(manifest, index === platforms.length - 1)),
  ];
}

function platformRow(manifest: ManifestSummary, isLast: boolean): Row {
  const platform = manifest.ImageData?.Platform ?? manifest.Descriptor.platform;
  return {
    name: `${isLast ? '└─' : '├─'} ${platform === undefined ? 'unknown' : formatPlatform(platform)}`,
    cells: [
      shortenId(manifest.ID),
      humanSize(manifest.Size.Total),
      humanSize(manifest.Size.Content),
      mark(isManifestUsed(manifest)),
    ],
    look: manifest.Available ? 'platform' : 'absent',
  };
}

const isManifestUsed = ({ ImageData }: ManifestSummary): boolean => (ImageData?.Containers.length ?? 0) > 0;
const mark = (isUsed: boolean): string => (isUsed ? ' ✔' : '');
