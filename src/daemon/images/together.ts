/**
 * Does the parts of a work at the same time and waits for all of them; the first that fails ends the others, as `signal`
 * does. Returns or throws only when nothing of it goes on, so that what is left over can be collected.
 */
export async function together(
  signal: AbortSignal,
  parts: readonly ((signal: AbortSignal) => Promise<unknown>)[],
): Promise<void> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  await Promise.allSettled(
    parts.map(async (part) => {
      try {
        await part(either);
      } catch (error) {
        // The first failure is the one that is told.
        stop.abort(error);
      }
    }),
  );
  stop.signal.throwIfAborted();
}
