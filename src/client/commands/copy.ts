import { canonicalString, parseReference, withDefaultTag } from '../../protocol/reference.ts';
import { Interruption } from '../interruption.ts';
import { Exit, type Run } from './command.ts';
import { priorityOf } from './priority.ts';
import { createView, credentialsFor } from './pull.ts';

interface Options {
  readonly platform?: string;
  readonly priority?: string;
  readonly quiet?: boolean;
}

/** `layerctl copy`. */
export const copy: Run<Options> = async (context, [source = '', target = ''], options) => {
  const { platform, quiet } = options;
  const priority = priorityOf(options);
  const { client, out, err, signal } = context;
  const name = canonicalString(withDefaultTag(parseReference(target)));
  parseReference(source);
  const view = quiet === true ? undefined : await createView(context);
  try {
    const fromAuth = await credentialsFor(context, source);
    const toAuth = await credentialsFor(context, target);
    const messages = client.copy(source, target, { platform, priority, fromAuth, toAuth, signal });
    for await (const message of messages) await view?.show(message);
    await view?.end();
  } catch (error) {
    await view?.end();
    if (signal.reason instanceof Interruption && signal.aborted) {
      await err.line('layerctl: interrupted; what is there already is not copied again by the same command');
      return signal.reason.exitStatus;
    }
    throw error;
  }
  await out.line(name);
  return Exit.ok;
};
