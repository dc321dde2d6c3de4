import type { LayerReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { DocumentFormat } from '../format/format.ts';
import { alignTabs } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import { stringify } from '../json.ts';
import type { Context, ExitStatus, Run } from './command.ts';
import { forEachName } from './each.ts';

export interface InspectOptions {
  readonly format?: string;
  readonly platform?: string;
  readonly layers?: boolean;
  readonly referrers?: boolean;
  readonly artifactType?: string;
  readonly trunc?: boolean;
}

/** What an image may have and the engine leaves out when it has not. */
const OPTIONAL_FIELDS = [
  'Created',
  'Descriptor',
  'GraphDriver',
  'Manifests',
  'OsVersion',
  'Parent',
  'RepoDigests',
  'RepoTags',
  'Variant',
  'DockerVersion',
];

/** `layerctl inspect`. */
export const inspect: Run<InspectOptions> = async (context, names, options) => {
  if (options.referrers === true) {
    const { inspectReferrers } = await import('./referrers.ts');
    return inspectReferrers(context, names, options);
  }
  if (options.artifactType !== undefined) throw new LayerdError('invalid', '--artifact-type needs --referrers');
  if (options.layers === true) return inspectLayers(context, names, options);
  const { client, out, signal } = context;
  const { platform } = options;
  if (options.format === undefined) {
    const found: unknown[] = [];
    return forEachName(
      context,
      names,
      async (name) => void found.push(await client.inspect(name, { platform, signal })),
      () => out.line(stringify(found, 4)),
    );
  }
  const format = new DocumentFormat(options.format, OPTIONAL_FIELDS);
  return forEachName(context, names, async (name) => {
    await out.line(format.render(await client.inspect(name, { platform, signal })));
  });
};

async function inspectLayers(context: Context, names: readonly string[], options: InspectOptions): Promise<ExitStatus> {
  const { client, out, signal } = context;
  if (options.platform !== undefined) throw new LayerdError('invalid', '--layers and --platform exclude each other');
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format);
  let isFirst = true;
  return forEachName(context, names, async (name) => {
    const layers = await client.layers(name, { signal });
    if (format !== undefined) return out.line(format.render(layers));
    const heading = names.length === 1 ? [] : [...(isFirst ? [] : ['']), out.style.bold(name)];
    isFirst = false;
    await out.lines([...heading, ...layerTable(layers, options.trunc !== false)]);
  });
}

/** The layers as a table, bottom first, and below it how much of them is this image's alone. */
export function layerTable(layers: readonly LayerReport[], truncates: boolean): string[] {
  const show = truncates ? shortenId : (digest: string) => digest;
  const rows = layers.map((layer, index) =>
    [
      String(index + 1),
      show(layer.diffId),
      show(layer.layerDigest),
      show(layer.chainId),
      humanSize(layer.blobSize),
      humanSize(layer.size),
      humanSize(layer.imageSize),
      layer.mediaType,
      layer.sharedWith.length === 0 ? '-' : layer.sharedWith.join(', '),
    ].join('\t'),
  );
  // An image may have the same layer several times; it is stored once.
  const stored = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
  const own = stored.filter(({ sharedWith }) => sharedWith.length === 0);
  const sum = (list: readonly LayerReport[]): string =>
    `${list.length} layer${list.length === 1 ? '' : 's'}, ${humanSize(list.reduce((size, layer) => size + layer.blobSize + layer.imageSize, 0))} on the disk`;
  const headings = 'LAYER\tDIFF ID\tLAYER DIGEST\tCHAIN ID\tBLOB\tUNPACKED\tSTORED\tMEDIA TYPE\tSHARED WITH';
  return [...alignTabs([headings, ...rows]), '', `In all ${sum(stored)}; not shared: ${sum(own)}.`];
}
