import { EngineError } from '../errors.ts';

/** What only layerd tells; undefined where the daemon is another engine, or a layerd that does not have it yet. */
export async function unlessUnknown<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof EngineError && (error.kind === 'not-found' || error.kind === 'not-implemented'))
      return undefined;
    throw error;
  }
}
