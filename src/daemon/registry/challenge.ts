/** One challenge of a WWW-Authenticate header: the scheme and the names of the parameters in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const SEPARATORS = /[ \t,]*/y;
const SPACES = /[ \t]*/y;
/** The other form of credentials, such as Negotiate's; it ends where the challenge ends. */
const TOKEN68 = /[ \t]+[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)/y;
const QUOTED = /"((?:[^"\\]|\\.)*)(?:"|\\?$)/sy;
/** Also what is not a token, such as a URL without quotes, which some servers send. */
const UNQUOTED = /[^ \t,"]*/y;
const GARBAGE = /[^,]*/y;

/**
 * Parses the challenges of WWW-Authenticate headers (RFC 9110 section 11.6.1), joined by commas. What makes no sense is
 * left out: one broken challenge must not hide the others. The first of repeated parameters counts.
 */
export function parseChallenges(text: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let position = 0;
  const read = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match === null) return undefined;
    position += match[0].length;
    return match;
  };
  for (;;) {
    read(SEPARATORS);
    if (position >= text.length) return challenges;
    const name = read(TOKEN)?.[0].toLowerCase();
    if (name === undefined) {
      read(GARBAGE);
      continue;
    }
    const afterName = position;
    read(SPACES);
    if (text[position] !== '=') {
      position = afterName;
      challenges.push({ scheme: name, parameters: new Map() });
      read(TOKEN68);
      continue;
    }
    position += 1;
    read(SPACES);
    const quoted = read(QUOTED);
    const value = quoted === undefined ? (read(UNQUOTED)?.[0] ?? '') : (quoted[1] ?? '').replace(/\\(.)/gs, '$1');
    const parameters = challenges.at(-1)?.parameters;
    if (parameters?.has(name) === false) parameters.set(name, value);
  }
}
