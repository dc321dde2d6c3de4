import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import type { Call } from './call.ts';
import { failureOf } from './errors.ts';
import type { Log } from './parts.ts';
import { ProgressStream } from './progress.ts';

/** Answers with the progress of the work, line by line; with a status if it fails before the first. */
export async function streamed(
  call: Call,
  log: Log,
  work: (progress: (message: ProgressMessage) => void | Promise<void>) => Promise<void>,
): Promise<void> {
  const { signal } = call;
  const stream = new ProgressStream(call.response);
  try {
    await work((message) => stream.send(message));
  } catch (error) {
    if (!stream.begun || signal.aborted) throw withoutPrompt(error);
    stream.end(failureOf(error, call, log).message);
    return;
  }
  stream.end();
}

/**
 * Refused or missing credentials as 403: at a 401 of a pull the docker CLI asks for the account of Docker Hub, whichever
 * registry it was, and waits for ever where nobody types. dockerd never answers a pull with 401.
 */
function withoutPrompt(error: unknown): unknown {
  return isKind(error, 'unauthorized') ? new LayerdError('forbidden', error.message, { cause: error }) : error;
}
