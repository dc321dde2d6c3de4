import { LayerdError } from '../../protocol/errors.ts';

/** What may come next in a JSON text (RFC 8259). */
type Expects = 'value' | 'value or ]' | 'name' | 'name or }' | ':' | ', or end' | 'nothing';

/** Objects and lists within each other. */
const MAX_DEPTH = 512;
/** Characters of a number. */
const MAX_ATOM_LENGTH = 1024;
const ATOM = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/;
const ATOM_CHARACTERS = /[-+.\w]+/y;
// eslint-disable-next-line no-control-regex -- they are what a string must not hold
const STRING_CHARACTERS = /[^"\\\u0000-\u001f]+/y;
const SPACES = /[ \t\r\n]+/y;

/**
 * Checks that a text is one JSON object, piece by piece as it comes, so that a document of any size can be passed on as it
 * is: neither held in memory nor parsed in one go. What is passed on unchecked could end the document that it is put into
 * and go on with one of its own.
 */
export class JsonCheck {
  readonly #what: string;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  readonly #open: ('{' | '[')[] = [];
  #expects: Expects = 'value';
  /** A number or word that may go on in the next piece. */
  #atom = '';
  #inString = false;
  /** After a backslash: 5 for the character that follows it, then the hex digits that are left. */
  #escape = 0;

  /** `what`: names the text in errors. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Takes the next piece. Throws `corrupt` as soon as the text cannot be an object any more. */
  push(piece: Uint8Array): void {
    this.#take(this.#decode(piece));
  }

  /** Throws `corrupt` where the text ended too early. */
  end(): void {
    this.#take(this.#decode());
    if (this.#expects !== 'nothing' || this.#atom !== '') throw this.#corrupt();
  }

  #decode(piece?: Uint8Array): string {
    try {
      return piece === undefined ? this.#decoder.decode() : this.#decoder.decode(piece, { stream: true });
    } catch (error) {
      throw this.#corrupt(error);
    }
  }

  #take(text: string): void {
    let at = 0;
    const skip = (pattern: RegExp): string => {
      pattern.lastIndex = at;
      const found = pattern.exec(text)?.[0] ?? '';
      at += found.length;
      return found;
    };
    while (at < text.length) {
      if (this.#inString) {
        if (this.#escape === 0 && skip(STRING_CHARACTERS) !== '') continue;
        this.#takeInString(text.charAt(at));
        at += 1;
        continue;
      }
      this.#atom += skip(ATOM_CHARACTERS);
      if (this.#atom.length > MAX_ATOM_LENGTH) throw this.#corrupt();
      if (at === text.length) return;
      this.#endAtom();
      if (skip(SPACES) !== '') continue;
      this.#takeMark(text.charAt(at));
      at += 1;
    }
  }

  #takeInString(character: string): void {
    if (this.#escape === 5) {
      if (character === 'u') this.#escape = 4;
      else if ('"\\/bfnrt'.includes(character)) this.#escape = 0;
      else throw this.#corrupt();
    } else if (this.#escape > 0) {
      if (!/[0-9a-fA-F]/.test(character)) throw this.#corrupt();
      this.#escape -= 1;
    } else if (character === '\\') this.#escape = 5;
    else if (character === '"') this.#endString();
    else throw this.#corrupt();
  }

  #endString(): void {
    this.#inString = false;
    this.#expects = this.#expects === 'name' || this.#expects === 'name or }' ? ':' : this.#afterValue();
  }

  #endAtom(): void {
    if (this.#atom === '') return;
    if (!this.#takesValue() || this.#open.length === 0 || !ATOM.test(this.#atom)) throw this.#corrupt();
    this.#atom = '';
    this.#expects = this.#afterValue();
  }

  #takeMark(mark: string): void {
    const within = this.#open.at(-1);
    const expects = this.#expects;
    if (mark === '"' && within !== undefined && (this.#takesValue() || expects === 'name' || expects === 'name or }')) {
      this.#inString = true;
    } else if ((mark === '{' || (mark === '[' && within !== undefined)) && this.#takesValue()) {
      if (this.#open.length === MAX_DEPTH) throw this.#corrupt();
      this.#open.push(mark);
      this.#expects = mark === '{' ? 'name or }' : 'value or ]';
    } else if (mark === ':' && expects === ':') this.#expects = 'value';
    else if (mark === ',' && expects === ', or end') this.#expects = within === '{' ? 'name' : 'value';
    else if (mark === '}' && within === '{' && (expects === ', or end' || expects === 'name or }')) this.#close();
    else if (mark === ']' && within === '[' && (expects === ', or end' || expects === 'value or ]')) this.#close();
    else throw this.#corrupt();
  }

  #close(): void {
    this.#open.pop();
    this.#expects = this.#afterValue();
  }

  #takesValue(): boolean {
    return this.#expects === 'value' || this.#expects === 'value or ]';
  }

  #afterValue(): Expects {
    return this.#open.length === 0 ? 'nothing' : ', or end';
  }

  #corrupt(cause?: unknown): LayerdError {
    return new LayerdError('corrupt', `${this.#what} is not a JSON object`, { cause });
  }
}
