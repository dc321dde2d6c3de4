import { Command, CommanderError, Option } from 'commander';
import type { GlobalOptions } from './connect.ts';
import type { CommandSpec, OptionSpec } from './commands/command.ts';
import { extractSwitches } from './commands/flags.ts';
import { COMMANDS, GLOBAL_OPTIONS, PARENTS } from './commands/table.ts';
import type { Output } from './output.ts';
import { packageVersion } from './package.ts';

/** What a command line asks for. */
export type Request =
  | {
      readonly type: 'run';
      readonly command: CommandSpec;
      readonly args: readonly string[];
      readonly options: Readonly<Record<string, unknown>>;
      readonly globals: GlobalOptions;
    }
  /** Text that was asked for: help, or the version. */
  | { readonly type: 'text'; readonly text: string }
  /** The command line cannot be understood; the text says why and where help is. */
  | { readonly type: 'usage'; readonly text: string };

const ENVIRONMENT = `
Environment:
  LAYERD_HOST                    Daemon to talk to, unless --host is given; then DOCKER_HOST
  DOCKER_CONFIG                  Directory with config.json, instead of ~/.docker
  DOCKER_TLS_VERIFY, DOCKER_TLS  As --tlsverify and --tls
  DOCKER_CERT_PATH               Directory with ca.pem, cert.pem and key.pem
  DOCKER_API_VERSION             Version of the API to speak, instead of the newest both know
  NO_COLOR                       No colours

Exit status:
  0 done, 1 failed in part or whole, 2 the command line is wrong, 130 interrupted (a pull goes on where it was)

Run 'layerctl COMMAND --help' for a command's options and examples.`;

/** Understands a command line: the words after the program's name. */
export function parseCommandLine(argv: readonly string[], out: Output): Request {
  const { words, values } = extractSwitches(argv);
  let standard = '';
  let error = '';
  let request: Request | undefined;
  const program = build(out, (found) => (request = found), values);
  program.configureOutput({
    writeOut: (text) => (standard += text),
    writeErr: (text) => (error += text),
    getOutHelpWidth: () => out.columns,
    getErrHelpWidth: () => out.columns,
    outputError: (text, write) => write(text.replace(/^error: /, 'layerctl: ').replace(/\n\((.*)\)\n$/, '; $1\n')),
  });
  for (const command of descendants(program)) command.copyInheritedSettings(program);
  try {
    if (words.length === 0) program.outputHelp();
    program.parse(words, { from: 'user' });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    // A group of commands without one shows its help, which is no mistake.
    if (thrown.code === 'commander.help') return { type: 'text', text: standard + error };
    if (thrown.exitCode !== 0) return { type: 'usage', text: error };
  }
  return request ?? { type: 'text', text: standard };
}

function build(out: Output, found: (request: Request) => void, values: Readonly<Record<string, boolean>>): Command {
  const program = new Command('layerctl')
    .description('Pull, list, inspect and remove container images through the daemon layerd.')
    .usage('[OPTIONS] COMMAND')
    .version(`layerctl version ${packageVersion()}`, '-v, --version', 'Print the version and quit')
    .helpOption('--help', 'Show help')
    .enablePositionalOptions()
    .showHelpAfterError("Run 'layerctl --help' for the commands.")
    .exitOverride()
    .helpCommand('help [COMMAND]', 'Show help for a command')
    .addHelpText('after', ENVIRONMENT)
    .configureHelp({ styleTitle: (title) => out.style.bold(title) });
  for (const spec of GLOBAL_OPTIONS) program.addOption(optionOf(spec));
  const parents = new Map<string, Command>();
  for (const [name, summary] of Object.entries(PARENTS)) {
    parents.set(name, new Command(name).description(summary).usage('COMMAND').helpGroup('Groups:'));
  }
  for (const spec of COMMANDS) {
    for (const path of spec.paths) {
      const [first = '', second] = path.split(' ');
      const parent = second === undefined ? program : parents.get(first);
      if (parent === undefined) throw new TypeError(`the command '${path}' has no parent in the table`);
      const command = commandOf(spec, path);
      command.action((...parts: unknown[]) => {
        const options = { ...command.opts<Record<string, unknown>>(), ...values };
        const args = parts
          .slice(0, -2)
          .flat()
          .filter((arg): arg is string => typeof arg === 'string');
        found({ type: 'run', command: spec, args, options, globals: program.opts() });
      });
      parent.addCommand(command);
    }
  }
  for (const parent of parents.values()) program.addCommand(parent);
  return program;
}

function commandOf(spec: CommandSpec, path: string): Command {
  const name = path.split(' ').at(-1) ?? path;
  const command = new Command(name)
    .summary(spec.summary)
    .description(spec.description ?? `${spec.summary}.`)
    .helpOption('--help', 'Show help')
    .helpGroup(`${spec.group}:`)
    .allowExcessArguments(false)
    .showHelpAfterError(`Run 'layerctl ${path} --help' for its options and examples.`);
  const args = spec.args.map((arg) => {
    const shown = arg.variadic === true ? `${arg.name} [${arg.name}...]` : arg.name;
    return arg.optional === true ? `[${shown}]` : shown;
  });
  command.usage(['[OPTIONS]', ...args].join(' '));
  for (const arg of spec.args) {
    const dots = arg.variadic === true ? '...' : '';
    command.argument(arg.optional === true ? `[${arg.name}${dots}]` : `<${arg.name}${dots}>`, arg.description);
  }
  for (const option of spec.options) command.addOption(optionOf(option));
  if (spec.paths.length > 1) {
    command.addHelpText('after', `\nAlso as:\n${spec.paths.map((other) => `  layerctl ${other}`).join('\n')}`);
  }
  if (spec.examples.length > 0) {
    const lines = spec.examples.map(([line, meaning]) => `  # ${meaning}\n  ${line}`);
    command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
  }
  return command;
}

function optionOf(spec: OptionSpec): Option {
  const option = new Option(spec.flags, spec.description);
  if (spec.repeatable === true) {
    option.argParser((value: string, previous: readonly string[] | undefined) => [...(previous ?? []), value]);
  }
  return option;
}

function descendants(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...descendants(child)]);
}
