import { LayerdError } from '../../protocol/errors.ts';

/** A piece of a template: text to copy, or the tokens between `{{` and `}}`. */
export type Piece =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'action'; readonly tokens: readonly Token[]; readonly at: number; readonly end: number };

export interface Token {
  readonly type: 'field' | 'variable' | 'word' | 'string' | 'number' | 'symbol';
  /** As written; of a string its value, of a field its path without the leading dot, of a variable its name. */
  readonly text: string;
  /** Position in the template, from 0. */
  readonly at: number;
}

/** A template that cannot be understood or does not fit its data; `at` is the position, from 0. */
export class TemplateError extends LayerdError {
  constructor(source: string, at: number, problem: string) {
    const before = source.slice(0, at).split('\n');
    const line = before.length > 1 ? `line ${before.length}, ` : '';
    const column = (before.at(-1)?.length ?? 0) + 1;
    super('invalid', `--format: ${problem} (at ${line}column ${column} of the template)`);
    this.name = 'TemplateError';
  }
}

// The order matters: a field before a lone dot, a number before a word.
const TOKEN =
  /(?<space>\s+)|(?<string>"(?:[^"\\\n]|\\.)*")|(?<raw>`[^`]*`)|(?<number>-?\d+(?:\.\d+)?(?![\w.]))|(?<field>(?:\.[\p{L}_][\p{L}\p{N}_]*)+|\.)|(?<variable>\$(?:[\p{L}_][\p{L}\p{N}_]*)?)|(?<word>[\p{L}_][\p{L}\p{N}_]*)|(?<symbol>:=|[()|,])/uy;

/** Splits a template into text and actions; `{{-` and `-}}` trim the white space beside them. */
export function split(source: string): Piece[] {
  const pieces: Piece[] = [];
  let position = 0;
  let trim = false;
  const addText = (text: string): void => {
    const shown = trim ? text.trimStart() : text;
    if (shown !== '') pieces.push({ type: 'text', text: unescape(shown) });
  };
  for (let open = source.indexOf('{{'); open >= 0; open = source.indexOf('{{', position)) {
    const text = source.slice(position, open);
    const trimsBefore = /^\{\{-\s/.test(source.slice(open, open + 4));
    addText(trimsBefore ? text.trimEnd() : text);
    const start = open + (trimsBefore ? 3 : 2);
    const comment = /^\s*\/\*[^]*?\*\/\s*(-?\}\})/.exec(source.slice(start));
    if (comment !== null) {
      position = start + comment[0].length;
      trim = comment[1] === '-}}';
      continue;
    }
    const action = scan(source, open, start);
    pieces.push({ type: 'action', tokens: action.tokens, at: open, end: action.end });
    position = action.end;
    trim = action.trimsAfter;
  }
  addText(source.slice(position));
  return pieces;
}

/** `\t` and `\n` outside of actions, as people type them within a shell's single quotes. */
function unescape(text: string): string {
  return text.replace(/\\([tn])/g, (_all, letter: string) => (letter === 't' ? '\t' : '\n'));
}

function scan(source: string, open: number, start: number): { tokens: Token[]; end: number; trimsAfter: boolean } {
  const tokens: Token[] = [];
  let position = start;
  for (;;) {
    const close = /^(?:\s-)?\}\}/.exec(source.slice(position, position + 4));
    if (close !== null) {
      return { tokens, end: position + close[0].length, trimsAfter: close[0].length > 2 };
    }
    if (position >= source.length) throw new TemplateError(source, open, "'{{' is not closed by '}}'");
    TOKEN.lastIndex = position;
    const match = TOKEN.exec(source);
    if (match === null) {
      const character = String.fromCodePoint(source.codePointAt(position) ?? 0);
      const problem = /["`]/.test(character) ? 'the string is not closed' : `unexpected ${character}`;
      throw new TemplateError(source, position, problem);
    }
    // White space before a closing `-}}` belongs to it: it is taken one character at a time.
    const token = tokenOf(source, match, position);
    position = token === undefined ? position + 1 : TOKEN.lastIndex;
    if (token !== undefined) tokens.push(token);
  }
}

function tokenOf(source: string, match: RegExpExecArray, at: number): Token | undefined {
  const { string, raw, number, field, variable, word, symbol } = match.groups ?? {};
  if (string !== undefined) return { type: 'string', text: unquote(source, string, at), at };
  if (raw !== undefined) return { type: 'string', text: raw.slice(1, -1), at };
  if (number !== undefined) return { type: 'number', text: number, at };
  if (field !== undefined) return { type: 'field', text: field.slice(1), at };
  if (variable !== undefined) return { type: 'variable', text: variable, at };
  if (word !== undefined) return { type: 'word', text: word, at };
  return symbol === undefined ? undefined : { type: 'symbol', text: symbol, at };
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\', '"': '"', "'": "'" };

function unquote(source: string, quoted: string, at: number): string {
  return quoted.slice(1, -1).replace(/\\(.)/g, (_all, character: string, offset: number) => {
    const value = ESCAPES[character];
    if (value === undefined) throw new TemplateError(source, at + 1 + offset, `unknown escape \\${character}`);
    return value;
  });
}
