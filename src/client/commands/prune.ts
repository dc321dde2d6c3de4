import { createInterface } from 'node:readline';
import { LayerdError } from '../../protocol/errors.ts';
import { parseFilters } from '../filters.ts';
import { humanSize } from '../format/units.ts';
import { Exit, type Context, type Run } from './command.ts';

interface Options {
  readonly all?: boolean;
  readonly filter?: readonly string[];
  readonly force?: boolean;
}

/** `layerctl prune`. */
export const prune: Run<Options> = async (context, _args, { all = false, filter = [], force }) => {
  const { client, out, signal } = context;
  const filters = { dangling: [String(!all)], ...parseFilters(filter) };
  if (force !== true) await confirm(context, all);
  const { ImagesDeleted, SpaceReclaimed } = await client.prune({ filters, signal });
  const lines = ImagesDeleted.map(({ Untagged, Deleted }) =>
    Deleted === undefined ? `untagged: ${Untagged ?? ''}` : `deleted: ${Deleted}`,
  );
  if (lines.length > 0) await out.lines(['Deleted Images:', ...lines, '']);
  await out.line(`Total reclaimed space: ${humanSize(SpaceReclaimed, 4)}`);
  return Exit.ok;
};

/** Asks the user. Throws `invalid` where nobody can be asked, `cancelled` where the answer is no. */
async function confirm({ out, input, signal }: Context, all: boolean): Promise<void> {
  const standard = input();
  if (standard.isTTY !== true) {
    throw new LayerdError('invalid', 'there is no terminal to ask whether to go on: prune without asking with --force');
  }
  const which = all ? 'all images without at least one container associated to them' : 'all dangling images';
  await out.write(`WARNING! This will remove ${which}.\nAre you sure you want to continue? [y/N] `);
  const lines = createInterface({ input: standard, signal });
  try {
    for await (const line of lines) {
      if (/^y(?:es)?$/i.test(line.trim())) return;
      break;
    }
  } finally {
    lines.close();
  }
  signal.throwIfAborted();
  throw new LayerdError('cancelled', 'the prune has been cancelled; nothing was removed');
}
