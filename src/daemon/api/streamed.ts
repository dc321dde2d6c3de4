import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import type { Call } from './call.ts';
import { failureOf } from './errors.ts';
import type { Log } from './parts.ts';
import { ProgressStream } from './progress.ts';

/** Where work tells how far it is. */
export type TellProgress = (message: ProgressMessage) => void | Promise<void>;

/** Answers with the progress of the work, line by line; with a status if it fails before the first. */
export async function streamed(call: Call, log: Log, work: (progress: TellProgress) => Promise<void>): Promise<void> {
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

/** As {@link streamed}, for work that takes the body of the request, not always to its end. */
export function streamedFrom(
  call: Call,
  log: Log,
  work: (body: AsyncIterable<Uint8Array>, progress: TellProgress) => Promise<void>,
): Promise<void> {
  const { request } = call;
  const body = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
  return streamed(call, log, async (progress) => {
    try {
      await work(body, progress);
    } catch (error) {
      // What the client still sends is discarded, so that it gets to the answer.
      request.resume();
      throw error;
    }
  });
}

/**
 * Refused or missing credentials as 403: at a 401 of a pull the docker CLI asks for the account of Docker Hub, whichever
 * registry it was, and waits for ever where nobody types. dockerd never answers a pull with 401.
 */
function withoutPrompt(error: unknown): unknown {
  return isKind(error, 'unauthorized') ? new LayerdError('forbidden', error.message, { cause: error }) : error;
}
