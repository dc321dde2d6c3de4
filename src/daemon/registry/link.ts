/** One link of a Link header. */
export interface Link {
  /** As written; relative to the page that has it. */
  readonly target: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TARGET = /[ \t,]*<([^<>]*)>/y;
const PARAMETER = /[ \t]*;[ \t]*([^ \t;,="<]*)[ \t]*(?:=[ \t]*(?:"((?:[^"\\]|\\.)*)(?:"|$)|([^ \t;,"<]*)))?/sy;
const GARBAGE = /[^<]+/y;

/** Parses a Link header (RFC 8288 section 3), leaving out what makes no sense. */
export function parseLinks(text: string): Link[] {
  const links: Link[] = [];
  let position = 0;
  const read = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match === null) return undefined;
    position += match[0].length;
    return match;
  };
  while (position < text.length) {
    const target = read(TARGET)?.[1];
    if (target === undefined) {
      if (read(GARBAGE) === undefined) position += 1;
      continue;
    }
    const parameters = new Map<string, string>();
    for (let match = read(PARAMETER); match !== undefined; match = read(PARAMETER)) {
      const [, name = '', quoted, plain = ''] = match;
      const key = name.toLowerCase();
      if (key !== '' && !parameters.has(key)) parameters.set(key, quoted?.replace(/\\(.)/gs, '$1') ?? plain);
    }
    links.push({ target, parameters });
  }
  return links;
}

/** The target of the link to the next page; undefined on the last one. */
export function nextLink(text: string | undefined): string | undefined {
  const isNext = ({ parameters }: Link): boolean =>
    (parameters.get('rel') ?? '').toLowerCase().split(/\s+/).includes('next');
  return parseLinks(text ?? '').find(isNext)?.target;
}
