import { LayerdError } from '../../protocol/errors.ts';

/** One step of a pattern. */
type Step =
  | { readonly kind: 'star' }
  | { readonly kind: 'any' }
  | { readonly kind: 'literal'; readonly character: string }
  | { readonly kind: 'class'; readonly negated: boolean; readonly ranges: readonly (readonly [string, string])[] };

/**
 * A pattern as Go's `path.Match` has them: `*` and `?` never stand for a slash, `[a-z]` and `[^a-z]` are classes, a
 * backslash takes the next character as it is. Matched without backtracking over more than the last star, so that no
 * pattern a client sends takes long.
 */
export class Glob {
  readonly #steps: readonly Step[];

  /** Throws `invalid` where the pattern is malformed. */
  constructor(pattern: string) {
    this.#steps = parse(pattern);
  }

  /** Whether the pattern stands for the whole text. */
  matches(text: string): boolean {
    const characters = Array.from(text);
    let at = 0;
    let step = 0;
    let star: { step: number; at: number } | undefined;
    for (;;) {
      const wanted = this.#steps[step];
      const character = characters[at];
      if (wanted?.kind === 'star') {
        star = { step, at };
        step += 1;
      } else if (wanted === undefined && character === undefined) {
        return true;
      } else if (wanted !== undefined && character !== undefined && accepts(wanted, character)) {
        step += 1;
        at += 1;
      } else {
        // The last star takes one character more, and all after it starts again.
        const next = star === undefined ? undefined : characters[star.at];
        if (star === undefined || next === undefined || next === '/') return false;
        star.at += 1;
        step = star.step + 1;
        at = star.at;
      }
    }
  }
}

function accepts(step: Exclude<Step, { kind: 'star' }>, character: string): boolean {
  switch (step.kind) {
    case 'any':
      return character !== '/';
    case 'literal':
      return step.character === character;
    case 'class':
      return step.ranges.some(([low, high]) => low <= character && character <= high) !== step.negated;
  }
}

function parse(pattern: string): Step[] {
  const characters = Array.from(pattern);
  const steps: Step[] = [];
  let at = 0;
  const malformed = (): LayerdError => new LayerdError('invalid', `syntax error in pattern: ${pattern}`);
  const next = (): string => {
    const character = characters[at];
    if (character === undefined) throw malformed();
    at += 1;
    return character;
  };
  /** A character of a class, which a bare dash or closing bracket cannot be. */
  const member = (): string => {
    const character = next();
    if (character === '-' || character === ']') throw malformed();
    return character === '\\' ? next() : character;
  };
  while (at < characters.length) {
    const character = next();
    if (character === '*') {
      if (steps.at(-1)?.kind !== 'star') steps.push({ kind: 'star' });
    } else if (character === '?') {
      steps.push({ kind: 'any' });
    } else if (character === '[') {
      const negated = characters[at] === '^';
      if (negated) at += 1;
      const ranges: [string, string][] = [];
      while (ranges.length === 0 || characters[at] !== ']') {
        const low = member();
        if (characters[at] === '-') {
          at += 1;
          ranges.push([low, member()]);
        } else {
          ranges.push([low, low]);
        }
      }
      at += 1;
      steps.push({ kind: 'class', negated, ranges });
    } else {
      steps.push({ kind: 'literal', character: character === '\\' ? next() : character });
    }
  }
  return steps;
}
