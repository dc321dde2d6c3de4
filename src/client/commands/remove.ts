import { type Run } from './command.ts';
import { forEachName } from './each.ts';

interface Options {
  readonly force?: boolean;
  readonly prune?: boolean;
  readonly platform?: readonly string[];
}

/** `layerctl rmi`. */
export const remove: Run<Options> = async (context, names, options) => {
  const { client, out, signal } = context;
  const request = { force: options.force, noPrune: options.prune === false, platforms: options.platform, signal };
  return forEachName(context, names, async (name) => {
    const done = await client.remove(name, request);
    await out.lines(
      done.map(({ Untagged, Deleted }) =>
        Deleted === undefined ? `Untagged: ${Untagged ?? ''}` : `Deleted: ${Deleted}`,
      ),
    );
  });
};
