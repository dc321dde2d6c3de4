import { LayerdError } from '../../../protocol/errors.ts';

/** A line of a Dockerfile: `EXPOSE 80/tcp`. Changes to an image's defaults are written as such lines. */
export interface Instruction {
  /** In upper case. */
  readonly name: string;
  /** What follows the name, as it was written. */
  readonly rest: string;
}

/** Characters of an instruction that are quoted in an error. */
const QUOTED = 100;

/** Reads instructions the way of Dockerfiles: without comments and blank lines, with lines that go on after a backslash. */
export function parseInstructions(text: string): Instruction[] {
  const instructions: Instruction[] = [];
  let open: string | undefined;
  for (const line of text.split(/\r?\n/)) {
    // Within a continued line too, comments and blank lines are as if they were not there.
    if (/^\s*(?:#.*)?$/.test(line)) continue;
    const joined = (open ?? '') + (open === undefined ? line.trimStart() : line);
    const [whole, before = ''] = /^(.*)\\[ \t]*$/.exec(joined) ?? [];
    open = whole === undefined ? undefined : before;
    if (open === undefined) instructions.push(toInstruction(joined));
  }
  if (open !== undefined && open.trim() !== '') instructions.push(toInstruction(open));
  return instructions;
}

function toInstruction(line: string): Instruction {
  const [, name = '', rest = ''] = /^(\S+)\s*([\s\S]*?)\s*$/.exec(line) ?? [];
  return { name: name.toUpperCase(), rest };
}

/** Says what is wrong with an instruction. */
export function unusableInstruction({ name, rest }: Instruction, why: string): LayerdError {
  const text = `${name} ${rest}`.trim();
  return new LayerdError(
    'invalid',
    `the change ${JSON.stringify(text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text)} cannot be made: ${why}`,
  );
}

/**
 * The list of strings that an instruction gives in its JSON form; undefined where it is not in that form, so that it is
 * words or a line for a shell. Throws `invalid` for a JSON list of other things.
 */
export function jsonForm(instruction: Instruction): string[] | undefined {
  if (!instruction.rest.startsWith('[')) return undefined;
  let list: unknown;
  try {
    list = JSON.parse(instruction.rest);
  } catch {
    return undefined;
  }
  if (!Array.isArray(list)) return undefined;
  if (!list.every((each) => typeof each === 'string')) {
    throw unusableInstruction(instruction, 'a list in JSON must be of strings');
  }
  return list;
}
