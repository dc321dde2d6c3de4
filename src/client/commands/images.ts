import type { ImageSummary } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { parseFilters } from '../filters.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { formatCreatedAt } from '../format/time.ts';
import { humanSize, shortenId, since } from '../format/units.ts';
import { Exit, type Run } from './command.ts';

interface Options {
  readonly all?: boolean;
  readonly digests?: boolean;
  readonly filter?: readonly string[];
  readonly format?: string;
  readonly trunc?: boolean;
  readonly quiet?: boolean;
  readonly tree?: boolean;
}

/** Shown where there is no name. */
export const NONE = '<none>';

/** The fields of {@link imageRow}. */
export const IMAGE_HEADINGS: RowFormat['headings'] = {
  Containers: 'CONTAINERS',
  CreatedAt: 'CREATED AT',
  CreatedSince: 'CREATED',
  Digest: 'DIGEST',
  ID: 'IMAGE ID',
  Repository: 'REPOSITORY',
  SharedSize: 'SHARED SIZE',
  Size: 'SIZE',
  Tag: 'TAG',
  UniqueSize: 'UNIQUE SIZE',
  VirtualSize: 'SIZE',
};

const ROW: RowFormat = {
  headings: IMAGE_HEADINGS,
  table: '{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}',
};
const ROW_WITH_DIGEST: RowFormat = { ...ROW, table: ROW.table.replace('{{.ID}}', '{{.Digest}}\t{{.ID}}') };

/** `layerctl images`. */
export const images: Run<Options> = async (context, [name], options) => {
  const { client, out, signal } = context;
  const filters = parseFilters([...(options.filter ?? []), ...(name === undefined ? [] : [`reference=${name}`])]);
  if (options.tree === true) {
    for (const other of ['digests', 'format', 'quiet'] as const) {
      if (options[other] !== undefined) throw new LayerdError('invalid', `--tree and --${other} exclude each other`);
    }
    const { treeLines } = await import('./tree.ts');
    const list = await client.images({ all: options.all, manifests: true, filters, signal });
    await out.lines(treeLines(list, out));
    return Exit.ok;
  }
  const format =
    options.quiet === true && (options.format === undefined || options.format === 'table')
      ? new ListFormat('{{.ID}}', ROW)
      : new ListFormat(options.format, options.digests === true ? ROW_WITH_DIGEST : ROW);
  const sharedSize = format.reads('SharedSize') || format.reads('UniqueSize');
  const withDigests = options.digests === true || format.reads('Digest');
  const list = await client.images({ all: options.all, digests: withDigests, sharedSize, filters, signal });
  const rows = list.flatMap((image) =>
    namesOf(image, withDigests, options.digests === true).map((names) =>
      imageRow(image, names, options.trunc !== false, context.now()),
    ),
  );
  await out.lines(format.lines(rows));
  return Exit.ok;
};

interface Names {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
}

/** One row for each tag, and with digests for each digest of its repository; digests without a tag have their own. */
export function namesOf(image: ImageSummary, withDigests: boolean, rowPerDigest: boolean): Names[] {
  const tags = image.RepoTags.filter((name) => name !== '<none>:<none>').map((name) =>
    splitAt(name, name.lastIndexOf(':')),
  );
  const digests = image.RepoDigests.filter((name) => name !== '<none>@<none>').map((name) =>
    splitAt(name, name.indexOf('@')),
  );
  const tagged = tags.flatMap(([repository, tag]) => {
    const own = withDigests ? digests.filter(([other]) => other === repository).map(([, digest]) => digest) : [];
    return (own.length === 0 ? [NONE] : own).map((digest) => ({ repository, tag, digest }));
  });
  const repositories = new Set(tags.map(([repository]) => repository));
  const untagged = digests.filter(([repository]) => !repositories.has(repository));
  const byDigest =
    rowPerDigest || withDigests
      ? untagged.map(([repository, digest]) => ({ repository, tag: NONE, digest }))
      : [...new Set(untagged.map(([repository]) => repository))].map((repository) => ({
          repository,
          tag: NONE,
          digest: NONE,
        }));
  const names = [...tagged, ...byDigest];
  return names.length === 0 ? [{ repository: NONE, tag: NONE, digest: NONE }] : names;
}

function splitAt(text: string, position: number): [string, string] {
  return position < 0 ? [text, NONE] : [text.slice(0, position), text.slice(position + 1)];
}

/** An image under one of its names, for a list. */
export function imageRow(image: ImageSummary, names: Names, truncates: boolean, now: number): Record<string, string> {
  const isSharedKnown = image.SharedSize >= 0;
  return {
    Containers: image.Containers < 0 ? 'N/A' : String(image.Containers),
    CreatedAt: formatCreatedAt(image.Created),
    CreatedSince: since(image.Created, now),
    Digest: names.digest,
    ID: truncates ? shortenId(image.Id) : image.Id,
    Repository: names.repository,
    SharedSize: isSharedKnown ? humanSize(image.SharedSize, 4) : 'N/A',
    Size: humanSize(image.Size),
    Tag: names.tag,
    UniqueSize: isSharedKnown ? humanSize(image.Size - image.SharedSize, 4) : 'N/A',
    VirtualSize: humanSize(image.Size, 4),
  };
}
