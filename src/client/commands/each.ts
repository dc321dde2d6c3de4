import { ConnectionError, EngineError } from '../errors.ts';
import { Exit, type Context, type ExitStatus } from './command.ts';

/**
 * Does the work for each name in turn and goes on after a failure, as docker does. Then finishes what the work has
 * gathered, tells each failure, and gives the exit status. Without a connection there is no sense in going on.
 */
export async function forEachName(
  { err }: Context,
  names: readonly string[],
  work: (name: string) => Promise<void>,
  finish: () => Promise<void> = () => Promise.resolve(),
): Promise<ExitStatus> {
  const failures: EngineError[] = [];
  for (const name of names) {
    try {
      await work(name);
    } catch (error) {
      if (!(error instanceof EngineError) || error instanceof ConnectionError) throw error;
      failures.push(error);
    }
  }
  await finish();
  await err.lines(failures.map(({ message }) => `layerctl: ${message}`));
  return failures.length === 0 ? Exit.ok : Exit.failure;
}
