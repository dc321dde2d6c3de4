/** One party's wish for a transfer. */
export interface Interest<Result = void> {
  /** Settles with the transfer: rejects when it failed for every source, or when the interest was released. */
  readonly done: Promise<Result>;
  /**
   * Lets go of the transfer; it stops when this was the last interest. Resolves when it has stopped then, and nothing
   * writes to the blob's files any more. Harmless after the end.
   */
  release(): Promise<void>;
}

/** Waits for the transfer as long as the signal lets it. Either way the interest is released in the end. */
export async function untilAborted<Result>(interest: Interest<Result>, signal: AbortSignal): Promise<Result> {
  const release = (): void => void interest.release();
  signal.addEventListener('abort', release);
  try {
    if (signal.aborted) release();
    return await interest.done;
  } finally {
    signal.removeEventListener('abort', release);
    await interest.release();
  }
}
