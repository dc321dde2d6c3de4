/** A JSON text that cannot be taken: the message says what and on which line. */
export class JsonError extends Error {}

/**
 * Parses JSON as `JSON.parse` does, except that an object with the same key twice is an error. RFC 8259 leaves open what
 * such an object means and `JSON.parse` silently takes the last, so a line further down would undo one an
 * administrator reads higher up.
 */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const message = (error as Error).message.replace(/\s+/g, ' ');
    const comment = lineOfComment(text);
    throw new JsonError(
      comment === undefined
        ? message
        : `line ${comment} has a comment, and plain JSON, as dockerd's file is, has none: take out all of them (${message})`,
      { cause: error },
    );
  }
  refuseDuplicateKeys(text);
  return value;
}

/** The line on which the first comment of JavaScript begins, outside of strings. */
function lineOfComment(text: string): number | undefined {
  // A string that does not end is passed over to the end of its line: looked for again from each quote in it, a text of
  // quotes would take the square of its length.
  for (const { 0: lexeme, index } of text.matchAll(/"(?:[^"\\\n]|\\.)*"?|\/[/*]/g)) {
    if (!lexeme.startsWith('"')) return text.slice(0, index).split('\n').length;
  }
  return undefined;
}

/** Walks the tokens of a text that is known to be valid JSON. */
function refuseDuplicateKeys(text: string): void {
  /** The keys seen so far of each object around the token; undefined stands for an array. */
  const open: (Set<string> | undefined)[] = [];
  for (const token of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g)) {
    const [lexeme, colon] = token;
    if (lexeme === '{') open.push(new Set());
    else if (lexeme === '[') open.push(undefined);
    else if (lexeme === '}' || lexeme === ']') open.pop();
    else if (colon !== undefined) {
      const key = JSON.parse(lexeme.slice(0, -colon.length)) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) {
        const line = text.slice(0, token.index).split('\n').length;
        throw new JsonError(`the key ${JSON.stringify(key)} is given twice, the second time on line ${line}`);
      }
      keys?.add(key);
    }
  }
}
