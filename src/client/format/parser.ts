import { split, TemplateError, type Piece, type Token } from './lexer.ts';
import { FUNCTIONS } from './functions.ts';

/** A parsed template. `at` is a position in its source, from 0. */
export type Node =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'output'; readonly pipeline: Pipeline }
  | {
      readonly type: 'if' | 'with';
      readonly pipeline: Pipeline;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    }
  | {
      readonly type: 'range';
      readonly pipeline: Pipeline;
      /** `$value`, or `$key, $value`. */
      readonly variables: readonly string[];
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    };

/** Commands in a row: the result of each is the last argument of the next. */
export interface Pipeline {
  readonly commands: readonly Command[];
  readonly at: number;
}

export type Command =
  | { readonly type: 'call'; readonly name: string; readonly operands: readonly Operand[]; readonly at: number }
  | { readonly type: 'value'; readonly operand: Operand; readonly at: number };

export type Operand =
  | { readonly type: 'field'; readonly path: readonly string[]; readonly at: number }
  | { readonly type: 'variable'; readonly name: string; readonly path: readonly string[]; readonly at: number }
  | { readonly type: 'literal'; readonly value: string | number | boolean | null; readonly at: number }
  | { readonly type: 'pipeline'; readonly pipeline: Pipeline; readonly path: readonly string[]; readonly at: number };

const KEYWORDS: ReadonlySet<string> = new Set(['if', 'else', 'end', 'range', 'with']);
const LITERALS: ReadonlyMap<string, boolean | null> = new Map([
  ['true', true],
  ['false', false],
  ['nil', null],
]);
/** Parts of Go templates that this subset leaves out, named so that the error says what is missing. */
const LEFT_OUT: ReadonlySet<string> = new Set(['define', 'template', 'block', 'break', 'continue']);

/** A template's nodes, and the first name of every field path in it. */
export interface Parsed {
  readonly nodes: readonly Node[];
  readonly fields: ReadonlySet<string>;
}

/** Parses the template. Throws a {@link TemplateError} that names the position of what it does not know. */
export function parse(source: string): Parsed {
  return new Parser(source).template();
}

class Parser {
  readonly #source: string;
  readonly #pieces: readonly Piece[];
  #piece = 0;
  /** Variables in scope, innermost last. */
  readonly #variables: string[] = ['$'];
  readonly #fields = new Set<string>();

  constructor(source: string) {
    this.#source = source;
    this.#pieces = split(source);
  }

  template(): Parsed {
    const { nodes, end } = this.#nodes();
    if (end !== undefined) this.#fail(end.at, `'${end.keyword}' belongs to no if, range or with`);
    return { nodes, fields: this.#fields };
  }

  /** Nodes up to an `else` or `end`, which is returned, or to the end of the template. */
  #nodes(): { nodes: Node[]; end?: { keyword: 'else' | 'end'; tokens: readonly Token[]; at: number } } {
    const nodes: Node[] = [];
    for (let piece = this.#pieces[this.#piece]; piece !== undefined; piece = this.#pieces[this.#piece]) {
      this.#piece += 1;
      if (piece.type === 'text') {
        nodes.push(piece);
        continue;
      }
      const [first, ...rest] = piece.tokens;
      if (first === undefined) this.#fail(piece.at, 'the action is empty');
      const keyword = first.type === 'word' ? first.text : undefined;
      if (keyword === 'else' || keyword === 'end') return { nodes, end: { keyword, tokens: rest, at: first.at } };
      nodes.push(
        keyword === 'if' || keyword === 'range' || keyword === 'with'
          ? this.#block(keyword, rest, first.at, piece.end)
          : { type: 'output', pipeline: this.#whole(piece.tokens, piece.end) },
      );
    }
    return { nodes };
  }

  #block(type: 'if' | 'range' | 'with', tokens: readonly Token[], at: number, actionEnd: number): Node {
    const { variables, rest } = type === 'range' ? this.#rangeVariables(tokens) : { variables: [], rest: tokens };
    const pipeline = this.#whole(rest, actionEnd);
    this.#variables.push(...variables);
    const { nodes: body, end } = this.#nodes();
    this.#variables.length -= variables.length;
    if (end === undefined) this.#fail(at, `'${type}' has no 'end'`);
    const otherwise = end.keyword === 'else' ? this.#otherwise(type, end) : this.#ended(end);
    return type === 'range' ? { type, pipeline, variables, body, otherwise } : { type, pipeline, body, otherwise };
  }

  #otherwise(type: string, end: { tokens: readonly Token[]; at: number }): readonly Node[] {
    const [next, ...tokens] = end.tokens;
    // `else if` is an if inside of the else, with the same end.
    if (next?.type === 'word' && (next.text === 'if' || next.text === 'with')) {
      const last = tokens.at(-1) ?? next;
      return [this.#block(next.text, tokens, next.at, last.at + last.text.length)];
    }
    if (next !== undefined) this.#fail(next.at, `unexpected '${next.text}' after else`);
    const { nodes, end: close } = this.#nodes();
    if (close === undefined) this.#fail(end.at, `the else of '${type}' has no 'end'`);
    if (close.keyword === 'else') this.#fail(close.at, `'${type}' has a second 'else'`);
    this.#ended(close);
    return nodes;
  }

  #ended(end: { tokens: readonly Token[] }): readonly Node[] {
    const extra = end.tokens[0];
    if (extra !== undefined) this.#fail(extra.at, `unexpected '${extra.text}' after end`);
    return [];
  }

  /** `$value :=` or `$key, $value :=` at the start of a range. */
  #rangeVariables(tokens: readonly Token[]): { variables: string[]; rest: readonly Token[] } {
    const assign = tokens.findIndex(({ type, text }) => type === 'symbol' && text === ':=');
    if (assign < 0) return { variables: [], rest: tokens };
    const names = tokens.slice(0, assign);
    const isList =
      (names.length === 1 || (names.length === 3 && names[1]?.text === ',')) &&
      names.every(({ type, text }, index) => (index === 1 ? text === ',' : type === 'variable' && text !== '$'));
    if (!isList) this.#fail(tokens[0]?.at ?? 0, 'a range declares $value or $key, $value');
    return {
      variables: names.filter(({ text }) => text !== ',').map(({ text }) => text),
      rest: tokens.slice(assign + 1),
    };
  }

  #whole(tokens: readonly Token[], end: number): Pipeline {
    const cursor = new Cursor(tokens, end);
    const pipeline = this.#pipeline(cursor);
    const extra = cursor.peek();
    if (extra !== undefined) this.#fail(extra.at, `unexpected '${extra.text}'`);
    return pipeline;
  }

  #pipeline(cursor: Cursor): Pipeline {
    const { at } = cursor;
    const commands = [this.#command(cursor, true)];
    while (cursor.take('|')) commands.push(this.#command(cursor, false));
    return { commands, at };
  }

  #command(cursor: Cursor, isFirst: boolean): Command {
    const token = cursor.peek();
    if (token === undefined) this.#fail(cursor.at, 'a field or function is missing');
    const { at } = token;
    if (token.type !== 'word' || LITERALS.has(token.text)) {
      const operand = this.#operand(cursor);
      const next = cursor.peek();
      if (next !== undefined && next.type !== 'symbol') this.#fail(next.at, `unexpected '${next.text}' after a value`);
      if (!isFirst) this.#fail(at, 'only a function can follow |');
      return { type: 'value', operand, at };
    }
    cursor.next();
    const name = token.text;
    if (KEYWORDS.has(name)) this.#fail(at, `'${name}' must be the first word of an action`);
    if (LEFT_OUT.has(name)) this.#fail(at, `'${name}' is not supported`);
    if (!Object.hasOwn(FUNCTIONS, name)) {
      this.#fail(at, `there is no function '${name}'; there are ${Object.keys(FUNCTIONS).sort().join(', ')}`);
    }
    const operands: Operand[] = [];
    for (let next = cursor.peek(); next !== undefined; next = cursor.peek()) {
      if (next.type === 'symbol' && next.text !== '(') break;
      operands.push(this.#operand(cursor));
    }
    return { type: 'call', name, operands, at };
  }

  #operand(cursor: Cursor): Operand {
    const token = cursor.next();
    if (token === undefined) this.#fail(cursor.at, 'a value is missing');
    const { at } = token;
    switch (token.type) {
      case 'field': {
        const path = pathOf(token);
        if (path[0] !== undefined) this.#fields.add(path[0]);
        return { type: 'field', path, at };
      }
      case 'variable':
        if (!this.#variables.includes(token.text)) this.#fail(at, `the variable ${token.text} is not declared`);
        return { type: 'variable', name: token.text, path: cursor.takePath(at + token.text.length), at };
      case 'string':
        return { type: 'literal', value: token.text, at };
      case 'number':
        return { type: 'literal', value: Number(token.text), at };
      case 'word': {
        const value = LITERALS.get(token.text);
        if (value === undefined) this.#fail(at, `'${token.text}' as an argument must be in parentheses`);
        return { type: 'literal', value, at };
      }
      case 'symbol': {
        if (token.text !== '(') this.#fail(at, `unexpected '${token.text}'`);
        const pipeline = this.#pipeline(cursor);
        const close = cursor.next();
        if (close?.text !== ')') this.#fail(at, "'(' is not closed");
        return { type: 'pipeline', pipeline, path: cursor.takePath(close.at + 1), at };
      }
    }
  }

  #fail(at: number, problem: string): never {
    throw new TemplateError(this.#source, at, problem);
  }
}

const pathOf = ({ text }: Token): string[] => (text === '' ? [] : text.split('.'));

/** Walks over the tokens of one action. */
class Cursor {
  readonly #tokens: readonly Token[];
  readonly #end: number;
  #index = 0;

  constructor(tokens: readonly Token[], end: number) {
    this.#tokens = tokens;
    this.#end = end;
  }

  /** Position of the next token, or of the end of the action. */
  get at(): number {
    return this.peek()?.at ?? this.#end;
  }

  peek(): Token | undefined {
    return this.#tokens[this.#index];
  }

  next(): Token | undefined {
    const token = this.peek();
    if (token !== undefined) this.#index += 1;
    return token;
  }

  /** Takes the symbol if it comes next. */
  take(symbol: string): boolean {
    const token = this.peek();
    if (token?.type !== 'symbol' || token.text !== symbol) return false;
    this.#index += 1;
    return true;
  }

  /** Takes a field path that follows at once, as in `$image.Config` or `(index . 0).Name`. */
  takePath(at: number): string[] {
    const token = this.peek();
    if (token?.type !== 'field' || token.at !== at || token.text === '') return [];
    this.#index += 1;
    return pathOf(token);
  }
}
