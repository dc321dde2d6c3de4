import type { LayerdClient } from '../engine.ts';
import type { ArgumentSpec, Completes, CommandSpec } from './command.ts';
import { shortenId } from '../format/units.ts';
import { flagOf, locate, matchFlag, type Flag } from './flags.ts';
import { COMMANDS, GLOBAL_OPTIONS, PARENTS } from './table.ts';

/** How long the daemon may take to name what it has before the shell gets none. */
const NAMES_TIMEOUT_MS = 2_000;

/** What a shell offers: words with a description each, or the names of files. */
export type Completion =
  | { readonly type: 'words'; readonly words: readonly (readonly [word: string, description: string])[] }
  | { readonly type: 'file' | 'directory' };

/** Gives the client that the options before the command ask for. */
export type ConnectTo = (globalWords: readonly string[]) => Promise<LayerdClient>;

/**
 * What the last of the words can become; the others are complete. This is what the scripts of all shells ask for on
 * each press of the key.
 */
export async function complete(words: readonly string[], connect: ConnectTo): Promise<Completion> {
  const current = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const { command, path, start } = locate(before);
  const isHelp = before[start] === 'help' && path.length === 0;
  const flags = (command?.options ?? (path.length === 0 ? GLOBAL_OPTIONS : [])).map(flagOf);
  const globalWords = before.slice(0, start - path.length);
  const offer = (completes: Completes | undefined, prefix = ''): Promise<Completion> =>
    candidates(completes, current, prefix, () => connect(globalWords));

  const valued = flagBefore(flags, before, start);
  if (valued !== undefined) return offer(valued.spec.completes);
  const assigned = current.startsWith('--') && current.includes('=') ? matchFlag(flags, current) : undefined;
  if (assigned?.flag.takesValue === true) return offer(assigned.flag.spec.completes, `${assigned.flag.long}=`);
  if (current.startsWith('-')) return flagWords(flags, current);
  if (command === undefined) return isHelp ? subcommands([], current) : subcommands(path, current);
  const given = positionals(flags, before.slice(start));
  // A command that has others below it takes no arguments of its own.
  if (command.args.length === 0 && given === 0 && path.length === 1) return subcommands(path, current);
  return offer(argumentAt(command, given)?.completes);
}

/** The option whose value the current word is, if the word before it is one that takes a value. */
function flagBefore(flags: readonly Flag[], before: readonly string[], start: number): Flag | undefined {
  const last = before.at(-1);
  // Before the command the walk over the global options has already stepped beyond the words: the last one waits.
  if (last?.startsWith('-') !== true || (start === before.length && flags.every(({ takesValue }) => !takesValue))) {
    return undefined;
  }
  const found = matchFlag(flags, last);
  return found?.flag.takesValue === true && found.value === undefined ? found.flag : undefined;
}

function flagWords(flags: readonly Flag[], current: string): Completion {
  const words = flags.flatMap(({ short, long, spec }) =>
    [long, ...(short === undefined ? [] : [short])].map((name) => [name, spec.description] as const),
  );
  return matching([...words, ['--help', 'Show help']], current);
}

function subcommands(path: readonly string[], current: string): Completion {
  const words = new Map<string, string>();
  for (const { paths, summary } of COMMANDS) {
    for (const name of paths) {
      const parts = name.split(' ');
      const isBelow = path.every((word, index) => parts[index] === word);
      const next = parts[path.length];
      if (!isBelow || next === undefined) continue;
      words.set(next, parts.length > path.length + 1 ? (PARENTS[next]?.summary ?? summary) : summary);
    }
  }
  if (path.length === 0) words.set('help', 'Show help for a command');
  return matching([...words], current);
}

/** How many arguments that are no options there are. */
function positionals(flags: readonly Flag[], words: readonly string[]): number {
  let count = 0;
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (!word.startsWith('-') || word === '-') count += 1;
    else if (word !== '--') {
      const found = matchFlag(flags, word);
      if (found?.flag.takesValue === true && found.value === undefined) index += 1;
    }
  }
  return count;
}

function argumentAt({ args }: CommandSpec, index: number): ArgumentSpec | undefined {
  const last = args.at(-1);
  return args[index] ?? (last?.variadic === true ? last : undefined);
}

async function candidates(
  completes: Completes | undefined,
  current: string,
  prefix: string,
  client: () => Promise<LayerdClient>,
): Promise<Completion> {
  if (completes === undefined) return matching([], current);
  if (completes === 'file' || completes === 'directory') return { type: completes };
  const words =
    typeof completes === 'string'
      ? await namesFrom(await client(), NAMES[completes])
      : completes.map((word) => [word, ''] as const);
  return matching(
    words.map(([word, description]) => [prefix + word, description] as const),
    current,
  );
}

type Names = (readonly [name: string, description: string])[];

async function imageNames(client: LayerdClient, signal: AbortSignal): Promise<Names> {
  const images = await client.images({ signal });
  return images.flatMap(({ RepoTags }) =>
    RepoTags.filter((name) => !name.includes('<none>')).map((name) => [name, ''] as const),
  );
}

async function transferDigests(client: LayerdClient, signal: AbortSignal): Promise<Names> {
  const transfers = await client.transfers({ signal });
  return transfers.map(({ digest, state }) => [shortenId(digest), state] as const);
}

async function pullIds(client: LayerdClient, signal: AbortSignal): Promise<Names> {
  const pulls = await client.pulls({ signal });
  return pulls.map(({ id, reference }) => [id, reference] as const);
}

async function setNames(client: LayerdClient, signal: AbortSignal): Promise<Names> {
  const sets = await client.sets({ signal });
  return sets.map(({ name, images }) => [name, `${images.length} images`] as const);
}

/** How names of each kind are asked for. */
const NAMES = { image: imageNames, set: setNames, transfer: transferDigests, pull: pullIds };

/** The daemon's names of something; none when it cannot be asked, since a shell has no place for an error. */
async function namesFrom(
  client: LayerdClient,
  ask: (client: LayerdClient, signal: AbortSignal) => Promise<Names>,
): Promise<Names> {
  try {
    return await ask(client, AbortSignal.timeout(NAMES_TIMEOUT_MS));
  } catch {
    return [];
  } finally {
    client.close();
  }
}

function matching(words: readonly (readonly [string, string])[], current: string): Completion {
  return { type: 'words', words: words.filter(([word]) => word.startsWith(current)) };
}
