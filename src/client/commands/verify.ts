import type { Finding, VerifyReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { parseReference } from '../../protocol/reference.ts';
import type { RegistryAuth } from '../engine.ts';
import { plain } from '../format/table.ts';
import { humanSize } from '../format/units.ts';
import { Exit, type Context, type Run } from './command.ts';
import { createView, credentialsForRegistry } from './pull.ts';

interface Options {
  readonly format?: string;
  readonly quiet?: boolean;
  readonly repair?: boolean;
}

/** `layerctl verify`. */
export const verify: Run<Options> = async (context, [image], { format, quiet, repair }) => {
  const { client, out, signal } = context;
  if (format !== undefined && format !== 'json') {
    throw new LayerdError('invalid', `--format ${format}: the only format is json`);
  }
  const isShown = quiet !== true && format === undefined;
  const view = isShown ? await createView(context) : undefined;
  let report: VerifyReport | undefined;
  try {
    const auths = repair === true ? await credentialsOfAll(context) : {};
    for await (const message of client.verify({ image, repair, auths, signal })) {
      if (message.aux !== undefined) report = message.aux as VerifyReport;
      else await view?.show(message);
    }
  } finally {
    await view?.end();
  }
  const { findings = [] } = report ?? {};
  if (format === 'json') await out.line(JSON.stringify(report));
  else if (report !== undefined && quiet !== true) await out.lines(linesOf(report));
  return findings.every(({ repaired }) => repaired) ? Exit.ok : Exit.failure;
};

/** The user's credentials for the registries that any of the daemon's images comes from. */
async function credentialsOfAll(context: Context): Promise<Record<string, RegistryAuth>> {
  const images = await context.client.images({ all: true, signal: context.signal });
  const names = images.flatMap(({ RepoTags, RepoDigests }) => [...RepoTags, ...RepoDigests]);
  const auths: Record<string, RegistryAuth> = {};
  for (const registry of new Set(names.map((name) => parseReference(name).registry))) {
    const auth = await credentialsForRegistry(context, registry);
    if (auth !== undefined) auths[registry] = auth;
  }
  return auths;
}

function linesOf({ blobs, layers, bytes, findings }: VerifyReport): string[] {
  const what = `${blobs} blobs and ${layers} layers, ${humanSize(bytes, 4)}`;
  if (findings.length === 0) return [`Verified ${what}: all sound`];
  const left = findings.filter(({ repaired }) => !repaired);
  const outcome = left.length === 0 ? 'all repaired' : `${left.length} not repaired`;
  const images = [...new Set(left.flatMap((finding: Finding) => finding.images))].toSorted();
  return [
    `Verified ${what}: ${findings.length} ${findings.length === 1 ? 'finding' : 'findings'}, ${outcome}`,
    ...(images.length === 0 ? [] : [plain(`Images affected: ${images.join(', ')}`)]),
  ];
}
