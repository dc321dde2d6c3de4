import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { canonicalName, canonicalString, parseReference, withDefaultTag } from '../../protocol/reference.ts';
import { DockerConfig } from '../credentials/config.ts';
import type { RegistryAuth } from '../engine.ts';
import { Interruption } from '../interruption.ts';
import { PlainView, type ProgressView } from '../progress/view.ts';
import { Exit, type Context, type Run } from './command.ts';
import { priorityOf } from './priority.ts';

interface Options {
  readonly allPlatforms?: boolean;
  readonly allTags?: boolean;
  readonly detach?: boolean;
  readonly platform?: string;
  readonly priority?: string;
  readonly quiet?: boolean;
}

/** `layerctl pull`. */
export const pull: Run<Options> = async (context, [name = ''], options) => {
  const { client, out, err, signal } = context;
  const parsed = parseReference(name);
  if (options.allTags === true && (parsed.tag !== undefined || parsed.digest !== undefined)) {
    throw new LayerdError('invalid', 'with --all-tags the name must have neither a tag nor a digest');
  }
  if (options.allPlatforms === true && options.platform !== undefined) {
    throw new LayerdError('invalid', '--all-platforms and --platform exclude each other');
  }
  const reference = options.allTags === true ? parsed : withDefaultTag(parsed);
  const priority = priorityOf(options);
  if (options.detach === true) {
    if (options.allTags === true) throw new LayerdError('invalid', '--detach and --all-tags exclude each other');
    const auth = await credentialsFor(context, name);
    const { allPlatforms, platform } = options;
    await out.line((await client.pullDetached(name, { allPlatforms, platform, priority, auth, signal })).id);
    return Exit.ok;
  }
  const isQuiet = options.quiet === true;
  if (!isQuiet && reference !== parsed) await out.line(`Using default tag: ${reference.tag ?? ''}`);
  const view = isQuiet ? undefined : await createView(context);
  try {
    const auth = await credentialsFor(context, name);
    const { allTags, allPlatforms, platform } = options;
    const messages = client.pull(name, { allTags, allPlatforms, platform, priority, auth, signal });
    for await (const message of messages) await view?.show(message);
    await view?.end();
  } catch (error) {
    if (signal.reason instanceof Interruption && signal.aborted) {
      await view?.end();
      await err.line(`layerctl: interrupted; what has arrived is kept: run the same command again to go on from there`);
      return signal.reason.exitStatus;
    }
    await view?.end();
    throw error;
  }
  await out.line(options.allTags === true ? canonicalName(reference) : canonicalString(reference));
  return Exit.ok;
};

/** The view for where the output goes. */
export async function createView({ out }: Context): Promise<ProgressView> {
  if (!out.isTerminal) return new PlainView(out);
  const { TerminalView } = await import('../progress/terminal.ts');
  return new TerminalView(out);
}

/** The user's credentials for the registry of an image reference. */
export function credentialsFor(context: Context, reference: string): Promise<RegistryAuth | undefined> {
  return credentialsForRegistry(context, parseReference(reference).registry);
}

/**
 * The user's credentials for a registry. A helper that cannot be asked is warned of, and no reason to
 * fail: most images need no credentials, and where they are needed the registry says so.
 */
export async function credentialsForRegistry(context: Context, registry: string): Promise<RegistryAuth | undefined> {
  const config = await DockerConfig.load(context.configDirectory, context.env);
  try {
    return await config.forRegistry(registry, context.signal);
  } catch (error) {
    if (!(error instanceof LayerdError) || error.kind !== 'unavailable') throw error;
    await context.err.line(`layerctl: ${messageOf(error)}; going on without credentials`);
    return undefined;
  }
}
