import { ConnectionError, EngineError } from '../errors.ts';
import { Exit, type Context, type ExitStatus } from './command.ts';

/**
 * Does the work for each name in turn and goes on after a failure, as docker does: each is told, and the exit status is
 * that of a failure if there was one. Without a connection there is no sense in going on.
 */
export async function forEachName(
  { err }: Context,
  names: readonly string[],
  work: (name: string) => Promise<void>,
): Promise<ExitStatus> {
  let status: ExitStatus = Exit.ok;
  for (const name of names) {
    try {
      await work(name);
    } catch (error) {
      if (!(error instanceof EngineError) || error instanceof ConnectionError) throw error;
      await err.line(`layerctl: ${error.message}`);
      status = Exit.failure;
    }
  }
  return status;
}
