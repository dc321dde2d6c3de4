import type { Writable } from 'node:stream';

/**
 * Writes to a connection, and resolves when the system has taken all of it, or the signal says that the connection is gone;
 * with whether it had to wait. Who goes on only then holds for a client that does not read what was written last, instead
 * of all that a stream lets pile up.
 */
export function written(connection: Writable, data: string | Uint8Array, signal: AbortSignal): Promise<boolean> {
  let wake: (() => void) | undefined;
  connection.write(data, () => wake?.());
  // The listener costs more than the write.
  if (connection.writableLength === 0 || signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    wake = () => {
      signal.removeEventListener('abort', wake as () => void);
      resolve(true);
    };
    signal.addEventListener('abort', wake);
  });
}
