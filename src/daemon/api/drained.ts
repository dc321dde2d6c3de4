import type { Writable } from 'node:stream';

/** Resolves when the connection takes more, or the signal says that it is gone. */
export function drained(connection: Writable, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      connection.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    connection.once('drain', done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
