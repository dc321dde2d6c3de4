import type { CommandSpec, OptionSpec } from './command.ts';
import { COMMANDS, GLOBAL_OPTIONS, PARENTS } from './table.ts';

/** An option's names as they are typed, `-f` and `--filter`, and whether a value follows. */
export interface Flag {
  readonly spec: OptionSpec;
  readonly short: string | undefined;
  readonly long: string;
  readonly takesValue: boolean;
}

export function flagOf(spec: OptionSpec): Flag {
  const match = /^(?:(-\w), )?(--[\w-]+)( <\S+>)?$/.exec(spec.flags);
  if (match?.[2] === undefined) throw new TypeError(`an option has the form '-f, --flag <VALUE>', not '${spec.flags}'`);
  return { spec, short: match[1], long: match[2], takesValue: match[3] !== undefined };
}

/** The flag a word begins with, and what follows its `=`. A short one may have its value at once, as in `-fVALUE`. */
export function matchFlag(flags: readonly Flag[], word: string): { flag: Flag; value: string | undefined } | undefined {
  const [name = '', ...rest] = word.split('=');
  const exact = flags.find(({ short, long }) => name === long || name === short);
  if (exact !== undefined) return { flag: exact, value: rest.length === 0 ? undefined : rest.join('=') };
  const joined = flags.find(({ short, takesValue }) => takesValue && short !== undefined && word.startsWith(short));
  return joined === undefined || word.startsWith('--') ? undefined : { flag: joined, value: word.slice(2) };
}

/** How far the words of a command line lead: into which command, and where its own words begin. */
export interface Location {
  readonly command: CommandSpec | undefined;
  /** The words of the command so far: [], ['image'], ['image', 'ls']. */
  readonly path: readonly string[];
  /** Index of the first word that is neither a global option nor part of the path. */
  readonly start: number;
}

const GLOBAL_FLAGS = GLOBAL_OPTIONS.map(flagOf);

export function locate(words: readonly string[]): Location {
  let index = 0;
  while (words[index]?.startsWith('-') === true) {
    const found = matchFlag(GLOBAL_FLAGS, words[index] ?? '');
    index += found?.flag.takesValue === true && found.value === undefined ? 2 : 1;
  }
  const path: string[] = [];
  for (let word = words[index]; word !== undefined; word = words[index]) {
    const candidate = [...path, word].join(' ');
    const command = COMMANDS.find(({ paths }) => paths.includes(candidate));
    if (command === undefined && !(path.length === 0 && Object.hasOwn(PARENTS, word))) break;
    path.push(word);
    index += 1;
    const below = [...path, words[index]].join(' ');
    if (command !== undefined && !COMMANDS.some(({ paths }) => paths.includes(below))) {
      return { command, path, start: index };
    }
  }
  return { command: undefined, path, start: index };
}

const TRUE = /^(?:1|t|true)$/i;
const FALSE = /^(?:0|f|false)$/i;

/**
 * Switches with a value, `--human=false` and `-q=true`, as docker's flag package allows them: the command line without
 * them, and what they set. A switch that begins with `no-` sets what follows it.
 */
export function extractSwitches(words: readonly string[]): { words: string[]; values: Record<string, boolean> } {
  const { command, start } = locate(words);
  const values: Record<string, boolean> = {};
  if (command === undefined) return { words: [...words], values };
  const flags = command.options.map(flagOf);
  const kept: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    const found = index < start || !word.startsWith('-') ? undefined : matchFlag(flags, word);
    const value = found?.value;
    if (word === '--' && index >= start) {
      kept.push(...words.slice(index));
      break;
    }
    if (
      found === undefined ||
      found.flag.takesValue ||
      value === undefined ||
      !(TRUE.test(value) || FALSE.test(value))
    ) {
      kept.push(word);
      if (found?.flag.takesValue === true && value === undefined && index + 1 < words.length) {
        index += 1;
        kept.push(words[index] ?? '');
      }
      continue;
    }
    const name = found.flag.long.slice(2);
    const isNegative = name.startsWith('no-');
    values[camelCase(isNegative ? name.slice(3) : name)] = TRUE.test(value) !== isNegative;
  }
  return { words: kept, values };
}

function camelCase(name: string): string {
  return name.replace(/-(\w)/g, (_all, letter: string) => letter.toUpperCase());
}
