import { posix } from 'node:path';
import { LayerdError } from '../../../protocol/errors.ts';
import type { ContainerDefaults } from '../../../protocol/oci.ts';
import { parseDuration } from '../../../protocol/time.ts';
import { jsonForm, parseInstructions, unusableInstruction, type Instruction } from './instruction.ts';
import { expand, splitWords } from './words.ts';

/** What runs a line that is not in JSON form, where the image has no shell of its own. */
const SHELL: readonly string[] = ['/bin/sh', '-c'];
const MAX_PORT = 65_535;
const PROTOCOLS: ReadonlySet<string> = new Set(['tcp', 'udp', 'sctp']);
/** What cannot be put off to a build on top of the image. */
const NO_TRIGGERS: ReadonlySet<string> = new Set(['ONBUILD', 'MAINTAINER', 'FROM']);

/** Options of HEALTHCHECK that are durations, with the fields they set. */
const HEALTH_DURATIONS: ReadonlyMap<string, string> = new Map([
  ['interval', 'Interval'],
  ['timeout', 'Timeout'],
  ['start-period', 'StartPeriod'],
  ['start-interval', 'StartInterval'],
]);
/** The shortest duration of a health check, in nanoseconds: a millisecond. */
const MIN_HEALTH_DURATION = 1_000_000n;

type Apply = (defaults: ContainerDefaults, instruction: Instruction, state: State) => void;

interface State {
  /** Whether a CMD has come in these changes, which an ENTRYPOINT after it leaves alone. */
  hasCommand: boolean;
}

const INSTRUCTIONS: Readonly<Record<string, Apply>> = {
  CMD: (defaults, instruction, state) => {
    defaults.Cmd = commandOf(defaults, instruction);
    state.hasCommand = true;
  },
  ENTRYPOINT: (defaults, instruction, state) => {
    const entrypoint = commandOf(defaults, instruction);
    defaults.Entrypoint = entrypoint.length === 0 ? null : entrypoint;
    // The arguments of another program.
    if (!state.hasCommand) defaults.Cmd = null;
  },
  ENV: (defaults, instruction) => {
    const env = [...(defaults.Env ?? [])];
    for (const [name, value] of pairsOf(defaults, instruction)) {
      const at = env.findIndex((each) => each.startsWith(`${name}=`));
      env.splice(at < 0 ? env.length : at, 1, `${name}=${value}`);
    }
    defaults.Env = env;
  },
  EXPOSE: (defaults, instruction) => {
    const words = wordsOf(defaults, instruction);
    const ports = words.flatMap((word) => portsOf(instruction, word));
    defaults.ExposedPorts = { ...defaults.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) };
  },
  HEALTHCHECK: (defaults, instruction) => {
    defaults.Healthcheck = healthcheckOf(instruction);
  },
  LABEL: (defaults, instruction) => {
    defaults.Labels = { ...defaults.Labels, ...Object.fromEntries(pairsOf(defaults, instruction)) };
  },
  ONBUILD: (defaults, instruction) => {
    const [trigger] = parseInstructions(instruction.rest);
    if (trigger === undefined) throw unusableInstruction(instruction, 'it needs the instruction to put off');
    if (NO_TRIGGERS.has(trigger.name)) throw unusableInstruction(instruction, `${trigger.name} cannot be put off`);
    defaults.OnBuild = [...(defaults.OnBuild ?? []), instruction.rest];
  },
  USER: (defaults, instruction) => {
    defaults.User = onlyWord(defaults, instruction);
  },
  VOLUME: (defaults, instruction) => {
    const paths = (jsonForm(instruction) ?? splitWords(instruction.rest)).map((word) =>
      expanded(defaults, instruction, word),
    );
    if (paths.length === 0) throw unusableInstruction(instruction, 'it needs at least one path');
    if (paths.includes('')) throw unusableInstruction(instruction, 'a volume cannot have an empty path');
    defaults.Volumes = { ...defaults.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) };
  },
  WORKDIR: (defaults, instruction) => {
    const path = expanded(defaults, instruction, instruction.rest);
    if (path === '') throw unusableInstruction(instruction, 'it needs a path');
    defaults.WorkingDir = posix.resolve('/', defaults.WorkingDir ?? '', path);
  },
};

/**
 * Applies changes to an image's defaults, written as the instructions of a Dockerfile that docker import and commit take:
 * CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, USER, VOLUME and WORKDIR, each as the Dockerfile reference
 * says. Throws `invalid`.
 */
export function applyChanges(defaults: ContainerDefaults, changes: readonly string[]): ContainerDefaults {
  const applied: ContainerDefaults = { ...defaults };
  const state: State = { hasCommand: false };
  for (const instruction of parseInstructions(changes.join('\n'))) {
    const apply = Object.hasOwn(INSTRUCTIONS, instruction.name) ? INSTRUCTIONS[instruction.name] : undefined;
    if (apply === undefined) {
      throw new LayerdError(
        'invalid',
        `${instruction.name.toLowerCase()} is not a valid change command: expected one of ${Object.keys(INSTRUCTIONS).join(', ')}`,
      );
    }
    apply(applied, instruction, state);
  }
  return applied;
}

/** A command in its JSON form, or a line for the shell. */
function commandOf({ Shell }: ContainerDefaults, instruction: Instruction): string[] {
  const list = jsonForm(instruction);
  if (list !== undefined) return list;
  return instruction.rest === '' ? [] : [...(Shell ?? SHELL), instruction.rest];
}

function expanded({ Env }: ContainerDefaults, instruction: Instruction, word: string): string {
  const variable = (name: string): string | undefined =>
    Env?.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  try {
    return expand(word, variable);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw unusableInstruction(instruction, error.message);
  }
}

function wordsOf(defaults: ContainerDefaults, instruction: Instruction): string[] {
  const words = splitWords(instruction.rest).map((word) => expanded(defaults, instruction, word));
  if (words.length === 0) throw unusableInstruction(instruction, 'it needs at least one argument');
  return words;
}

function onlyWord(defaults: ContainerDefaults, instruction: Instruction): string {
  const [word, ...others] = splitWords(instruction.rest);
  if (word === undefined || others.length > 0) throw unusableInstruction(instruction, 'it takes exactly one argument');
  return expanded(defaults, instruction, word);
}

/** Names and values: `a=1 b="2 3"`, or the old form of a single pair, `a the rest of the line`. */
function pairsOf(defaults: ContainerDefaults, instruction: Instruction): [string, string][] {
  const words = splitWords(instruction.rest);
  const [first] = words;
  if (first === undefined) throw unusableInstruction(instruction, 'it needs at least one name=value');
  const pairs: [string, string][] = [];
  if (first.includes('=')) {
    for (const word of words) {
      const at = word.indexOf('=');
      if (at < 0) throw unusableInstruction(instruction, `${JSON.stringify(word)} must have the form name=value`);
      pairs.push([word.slice(0, at), word.slice(at + 1)]);
    }
  } else {
    const [, name = '', value] = /^(\S+)\s+([\s\S]+)$/.exec(instruction.rest) ?? [];
    if (value === undefined) throw unusableInstruction(instruction, 'it must have the form name=value');
    pairs.push([name, value]);
  }
  return pairs.map(([name, value]) => {
    const plain = expanded(defaults, instruction, name);
    if (plain === '') throw unusableInstruction(instruction, 'a name cannot be blank');
    return [plain, expanded(defaults, instruction, value)];
  });
}

/** The ports of `80`, `53/udp` or `8000-8010/tcp`, as an image config lists them. */
function portsOf(instruction: Instruction, text: string): string[] {
  const [, from = '', to, protocol = 'tcp'] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/([A-Za-z]+))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to ?? from)];
  if (from === '' || last > MAX_PORT || first > last || !PROTOCOLS.has(protocol.toLowerCase())) {
    throw unusableInstruction(
      instruction,
      `${JSON.stringify(text)} is no port; expected one such as 80, 53/udp or 8000-8010/tcp`,
    );
  }
  return Array.from({ length: last - first + 1 }, (_, index) => `${first + index}/${protocol.toLowerCase()}`);
}

/** Docker's extension of the image config: durations are nanoseconds. */
function healthcheckOf(instruction: Instruction): Record<string, unknown> {
  const check: Record<string, unknown> = {};
  let { rest } = instruction;
  for (let option = optionOf(rest); option !== undefined; option = optionOf(rest)) {
    const [field, value] = healthOption(instruction, option.name, option.value);
    if (value !== 0) check[field] = value;
    rest = option.rest;
  }
  const [, kind = '', command = ''] = /^(\S+)\s*([\s\S]*)$/.exec(rest) ?? [];
  switch (kind.toUpperCase()) {
    case 'NONE':
      if (command !== '' || rest !== instruction.rest)
        throw unusableInstruction(instruction, 'NONE takes no arguments');
      return { Test: ['NONE'] };
    case 'CMD': {
      if (command === '') throw unusableInstruction(instruction, 'CMD needs a command');
      const list = jsonForm({ name: kind, rest: command });
      return { Test: list === undefined ? ['CMD-SHELL', command] : ['CMD', ...list], ...check };
    }
    default:
      throw unusableInstruction(instruction, 'it must be CMD with a command, or NONE');
  }
}

function optionOf(text: string): { name: string; value: string; rest: string } | undefined {
  const [, name, value = '', rest = ''] = /^--([\w-]+)=?(\S*)\s*([\s\S]*)$/.exec(text) ?? [];
  return name === undefined ? undefined : { name, value, rest };
}

function healthOption(instruction: Instruction, name: string, value: string): [field: string, value: number] {
  if (name === 'retries') {
    if (!/^\d{1,9}$/.test(value)) throw unusableInstruction(instruction, '--retries must be a number');
    return ['Retries', Number(value)];
  }
  const field = HEALTH_DURATIONS.get(name);
  if (field === undefined) throw unusableInstruction(instruction, `--${name} is not known`);
  const nanoseconds = parseDuration(value);
  if (nanoseconds === undefined || (nanoseconds !== 0n && nanoseconds < MIN_HEALTH_DURATION)) {
    throw unusableInstruction(instruction, `--${name} must be a duration of at least 1ms, such as 30s`);
  }
  return [field, Number(nanoseconds)];
}
