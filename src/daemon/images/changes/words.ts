/** Finds the value of a variable; undefined where it is not set. */
export type Variables = (name: string) => string | undefined;

/** What a backslash takes its meaning from within double quotes. */
const ESCAPED_IN_QUOTES = '"$\\';
const VARIABLE = /^(?:([A-Za-z_]\w*)|([0-9@*#]))/;

/** Splits at white space that is neither quoted nor escaped. Quotes and backslashes stay, for {@link expand}. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charAt(at);
    if (quote === '' && /\s/.test(character)) {
      if (word !== '') words.push(word);
      word = '';
      continue;
    }
    word += character;
    if (character === '\\' && quote !== "'" && at + 1 < text.length) {
      at += 1;
      word += text.charAt(at);
    } else if (character === quote) quote = '';
    else if (quote === '' && (character === '"' || character === "'")) quote = character;
  }
  if (word !== '') words.push(word);
  return words;
}

/**
 * Takes quotes and backslashes away and puts the values of variables in, as a Dockerfile has them: `$name`, `${name}`,
 * `${name:-default}`, `${name:+instead}`. Throws a SyntaxError that says what is not closed or not known.
 */
export function expand(word: string, variables: Variables): string {
  return new Expansion(word, variables).run();
}

class Expansion {
  readonly #text: string;
  readonly #variables: Variables;
  #at = 0;

  constructor(text: string, variables: Variables) {
    this.#text = text;
    this.#variables = variables;
  }

  run(): string {
    return this.#until('');
  }

  /** Up to the closing brace, or to the end of the text. */
  #until(end: '}' | ''): string {
    let result = '';
    for (;;) {
      const character = this.#next();
      if (character === end) return result;
      if (character === '') throw new SyntaxError('a ${ is not closed');
      if (character === "'") result += this.#single();
      else if (character === '"') result += this.#double();
      else if (character === '$') result += this.#variable();
      else if (character === '\\') result += this.#next();
      else result += character;
    }
  }

  #single(): string {
    const end = this.#text.indexOf("'", this.#at);
    if (end < 0) throw new SyntaxError('a single quote is not closed');
    const quoted = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return quoted;
  }

  #double(): string {
    let result = '';
    for (;;) {
      const character = this.#next();
      if (character === '"') return result;
      if (character === '') throw new SyntaxError('a double quote is not closed');
      if (character === '$') result += this.#variable();
      else if (character === '\\' && ESCAPED_IN_QUOTES.includes(this.#text.charAt(this.#at))) result += this.#next();
      else result += character;
    }
  }

  /** What comes after a dollar sign. */
  #variable(): string {
    const isBraced = this.#text.charAt(this.#at) === '{';
    if (isBraced) this.#at += 1;
    const name = VARIABLE.exec(this.#text.slice(this.#at))?.[0] ?? '';
    this.#at += name.length;
    if (!isBraced) return name === '' ? '$' : (this.#variables(name) ?? '');
    if (name === '') throw new SyntaxError('a ${ is not followed by a name');
    const value = this.#variables(name) ?? '';
    const next = this.#next();
    if (next === '}') return value;
    const operator = next === ':' ? this.#next() : '';
    if (operator !== '-' && operator !== '+') {
      throw new SyntaxError(`of modifiers in \${${name}…} only :- and :+ are known`);
    }
    const word = this.#until('}');
    if (operator === '-') return value === '' ? word : value;
    return value === '' ? '' : word;
  }

  /** The next character; empty at the end. */
  #next(): string {
    const character = this.#text.charAt(this.#at);
    this.#at += 1;
    return character;
  }
}
