import { LayerdError } from '../../protocol/errors.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import { canonicalName, canonicalString, parseReference, withDefaultTag } from '../../protocol/reference.ts';
import { Interruption } from '../interruption.ts';
import { Exit, type Context, type Run } from './command.ts';
import { priorityOf } from './priority.ts';
import { createView, credentialsFor } from './pull.ts';

interface Options {
  readonly allTags?: boolean;
  readonly platform?: string;
  readonly priority?: string;
  readonly quiet?: boolean;
}

/** `layerctl push`. */
export const push: Run<Options> = async (context, [name = ''], options) => {
  const { client, out, err, signal } = context;
  const parsed = parseReference(name);
  const { allTags, platform, quiet } = options;
  const priority = priorityOf(options);
  if (allTags === true && (parsed.tag !== undefined || parsed.digest !== undefined)) {
    throw new LayerdError('invalid', 'with --all-tags the name must have neither a tag nor a digest');
  }
  const reference = allTags === true ? parsed : withDefaultTag(parsed);
  if (quiet !== true && reference !== parsed) await out.line(`Using default tag: ${reference.tag ?? ''}`);
  const view = quiet === true ? undefined : await createView(context);
  const notes: string[] = [];
  try {
    const auth = await credentialsFor(context, name);
    for await (const message of client.push(name, { allTags, platform, priority, auth, signal })) {
      notes.push(...notesOf(message));
      await view?.show(message);
    }
    await view?.end();
  } catch (error) {
    await view?.end();
    if (signal.reason instanceof Interruption && signal.aborted) {
      await err.line('layerctl: interrupted; layers that are there already are not uploaded again by the same command');
      return signal.reason.exitStatus;
    }
    throw error;
  }
  await tell(context, notes);
  if (quiet === true) await out.line(allTags === true ? canonicalName(reference) : canonicalString(reference));
  return Exit.ok;
};

/** What the user should know of a push that was done in another way than it was asked for. */
function notesOf({ aux }: ProgressMessage): string[] {
  if (typeof aux !== 'object' || aux === null || !('manifestPushedInsteadOfIndex' in aux)) return [];
  const { originalIndex, selectedManifest } = aux as Partial<Record<string, { digest?: string }>>;
  const from = originalIndex?.digest ?? 'the index';
  return [
    `not all platforms of ${from} are here, so the one that is was pushed instead: ${selectedManifest?.digest ?? ''}`,
  ];
}

async function tell({ err }: Context, notes: readonly string[]): Promise<void> {
  await err.lines(notes.map((note) => `layerctl: note: ${note}`));
}
