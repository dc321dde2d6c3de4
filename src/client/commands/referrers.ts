import type { ReferrerReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { familiarName, parseAnyReference } from '../../protocol/reference.ts';
import { DocumentFormat } from '../format/format.ts';
import { alignTabs, plain } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import type { Context, ExitStatus } from './command.ts';
import { forEachName } from './each.ts';
import type { InspectOptions } from './inspect.ts';
import { credentialsFor } from './pull.ts';

/** `layerctl inspect --referrers`. */
export async function inspectReferrers(
  context: Context,
  names: readonly string[],
  options: InspectOptions,
): Promise<ExitStatus> {
  const { client, out, signal } = context;
  const { platform, artifactType } = options;
  if (options.layers === true) throw new LayerdError('invalid', '--layers and --referrers exclude each other');
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format);
  let isFirst = true;
  return forEachName(context, names, async (name) => {
    // Named so that the daemon cannot mean another registry than the one whose credentials it is sent.
    const known = await referenceOf(context, name);
    const auth = known === undefined ? undefined : await credentialsFor(context, known);
    const report = await client.referrers(known ?? name, { platform, artifactType, auth, signal });
    if (format !== undefined) return out.line(format.render(report));
    const heading = out.style.bold(`${report.repository}@${report.digest}`);
    await out.lines([...(isFirst ? [] : ['']), heading, ...referrerTable(report, options.trunc !== false)]);
    isFirst = false;
  });
}

/** The image's digest in a repository: in the one that the name is of, else in the first that has it. */
async function referenceOf({ client, signal }: Context, name: string): Promise<string | undefined> {
  const { RepoDigests, Descriptor } = await client.inspect(name, { signal });
  const { reference } = parseAnyReference(name);
  const target = `@${Descriptor?.digest ?? ''}`;
  const named = reference === undefined ? undefined : familiarName(reference) + target;
  return (
    RepoDigests.find((each) => each === named) ?? RepoDigests.find((each) => each.endsWith(target)) ?? RepoDigests[0]
  );
}

/** The referrers as a table. What they say of themselves comes from strangers. */
function referrerTable({ referrers }: ReferrerReport, truncates: boolean): string[] {
  if (referrers.length === 0) return ['Nothing refers to it.'];
  const rows = referrers.map(({ artifactType = '-', digest, size, annotations = {} }) =>
    [
      plain(artifactType),
      truncates ? shortenId(digest) : digest,
      humanSize(size),
      Object.entries(annotations)
        .map(([key, value]) => plain(`${key}=${value}`))
        .join(', ') || '-',
    ].join('\t'),
  );
  return alignTabs(['ARTIFACT TYPE\tDIGEST\tSIZE\tANNOTATIONS', ...rows]);
}
