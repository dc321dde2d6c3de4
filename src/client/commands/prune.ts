import { parseFilters } from '../filters.ts';
import { humanSize } from '../format/units.ts';
import { Exit, type Run } from './command.ts';
import { confirm } from './confirm.ts';

interface Options {
  readonly all?: boolean;
  readonly filter?: readonly string[];
  readonly force?: boolean;
}

/** `layerctl prune`. */
export const prune: Run<Options> = async (context, _args, { all = false, filter = [], force }) => {
  const { client, out, signal } = context;
  const filters = { dangling: [String(!all)], ...parseFilters(filter) };
  if (force !== true) {
    const which = all ? 'all images without at least one container associated to them' : 'all dangling images';
    await confirm(context, 'prune', `This will remove ${which}.`);
  }
  const { ImagesDeleted, SpaceReclaimed } = await client.prune({ filters, signal });
  const lines = ImagesDeleted.map(({ Untagged, Deleted }) =>
    Deleted === undefined ? `untagged: ${Untagged ?? ''}` : `deleted: ${Deleted}`,
  );
  if (lines.length > 0) await out.lines(['Deleted Images:', ...lines, '']);
  await out.line(`Total reclaimed space: ${humanSize(SpaceReclaimed, 4)}`);
  return Exit.ok;
};
