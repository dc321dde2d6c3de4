import type { Call } from './call.ts';
import { written } from './written.ts';

/** Answers with a line of JSON for each value, as they come. */
export async function answerLines(
  { response, signal }: Call,
  batches: AsyncIterable<readonly unknown[]>,
): Promise<void> {
  response.setHeader('Content-Type', 'application/x-ndjson');
  response.flushHeaders();
  for await (const batch of batches) {
    const lines = batch.map((value) => `${JSON.stringify(value)}\n`).join('');
    // Nothing is asked for while the connection is full: what changes meanwhile is told as it is then.
    if (lines !== '') await written(response, lines, signal);
  }
  response.end();
}
