import { EngineError } from './errors.ts';

/** A line longer than this is no message of the Engine API: 16 Mi characters. It bounds what a stream can make us hold. */
const MAX_LINE_LENGTH = 16 * 1024 * 1024;

/**
 * Reads newline-delimited JSON, however its bytes are cut into chunks. Blank lines are skipped; the last line needs no
 * newline. Holds one line at a time. Throws an {@link EngineError} of kind `corrupt` for a line that is not JSON.
 */
export async function* parseNdjson<T>(
  source: AsyncIterable<Uint8Array>,
  parse: (line: string) => unknown = JSON.parse,
): AsyncGenerator<T, void, undefined> {
  const decoder = new TextDecoder();
  // The beginning of a line whose end has not come: pieces, so that a long line is not copied again for each chunk.
  let pieces: string[] = [];
  let held = 0;
  for await (const chunk of source) {
    const text = decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      const line = pieces.join('') + text.slice(start, end);
      pieces = [];
      held = 0;
      start = end + 1;
      if (line.trim() !== '') yield parseLine(line, parse) as T;
    }
    pieces.push(text.slice(start));
    held += text.length - start;
    if (held > MAX_LINE_LENGTH) {
      throw new EngineError('corrupt', `the daemon sent a message of more than ${MAX_LINE_LENGTH} characters`);
    }
  }
  const last = pieces.join('') + decoder.decode();
  if (last.trim() !== '') yield parseLine(last, parse) as T;
}

function parseLine(line: string, parse: (line: string) => unknown): unknown {
  try {
    return parse(line);
  } catch (cause) {
    const shown = line.length > 80 ? `${line.slice(0, 80)}…` : line;
    throw new EngineError('corrupt', `the daemon sent a message that is not JSON: ${shown}`, { cause });
  }
}
