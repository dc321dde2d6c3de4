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
  LAYERD_TOKEN                   Token that the daemon's authorization policy knows the client by
  DOCKER_CONFIG                  Directory with config.json, instead of ~/.docker
  DOCKER_TLS_VERIFY, DOCKER_TLS  As --tlsverify and --tls
  DOCKER_CERT_PATH               Directory with ca.pem, cert.pem and key.pem
  DOCKER_API_VERSION             Version of the API to speak, instead of the newest both know
  TRACEPARENT, TRACESTATE        Trace that the daemon goes on with (W3C Trace Context)
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
  const program = programOf(out).configureOutput({
    writeOut: (text) => (standard += text),
    writeErr: (text) => (error += text),
    getOutHelpWidth: () => out.columns,
    getErrHelpWidth: () => out.columns,
    outputError: (text, write) => write(oneLine(text)),
  });
  addCommands(program, (command, args, options) => {
    request = { type: 'run', command, args, options: { ...options, ...values }, globals: program.opts() };
  });
  try {
    program.parse(words, { from: 'user' });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    // A group of commands, or the program, without a command shows its help, which is no mistake.
    if (thrown.code === 'commander.help') return { type: 'text', text: standard + error };
    if (thrown.exitCode !== 0) return { type: 'usage', text: error };
  }
  return request ?? { type: 'text', text: standard };
}

/** A mistake in the command line, as the parser words it, in the words and on the one line of layerctl's errors. */
function oneLine(text: string): string {
  return text.replace(/^error: /, 'layerctl: ').replace(/\n\(Did (.*)\)\n$/, '; did $1\n');
}

function programOf(out: Output): Command {
  const program = new Command('layerctl')
    .description('Pull, push, list, inspect and remove container images through the daemon layerd.')
    .usage('[OPTIONS] COMMAND')
    .version(`layerctl version ${packageVersion()}`, '-v, --version', 'Print the version and quit')
    .helpOption('--help', 'Show help')
    .enablePositionalOptions()
    .showHelpAfterError("Run 'layerctl --help' for the commands.")
    .exitOverride()
    .addHelpCommand(
      new Command('help').argument('[COMMAND]').summary('Show help for a command').helpGroup('This client:'),
    )
    .addHelpText('after', ENVIRONMENT)
    .configureHelp({ subcommandTerm: (command) => command.name(), styleTitle: (title) => out.style.bold(title) });
  for (const spec of GLOBAL_OPTIONS) program.addOption(optionOf(spec));
  return program;
}

/** Adds the table's commands; one that is called is handed to `found` with its arguments and options. */
function addCommands(
  program: Command,
  found: (command: CommandSpec, args: readonly string[], options: Record<string, unknown>) => void,
): void {
  const parents = new Map<string, Command>();
  for (const [name, { summary, group }] of Object.entries(PARENTS)) {
    const parent = new Command(name).copyInheritedSettings(program).description(`${summary}.`).summary(summary);
    parents.set(
      name,
      parent.usage('COMMAND').helpOption('--help', 'Show help').helpGroup(`${group}:`).helpCommand(false),
    );
    parent.showHelpAfterError(`Run 'layerctl ${name} --help' for its commands.`);
  }
  for (const spec of COMMANDS) {
    const seen = new Set<Command>();
    for (const path of spec.paths) {
      const [first = '', second] = path.split(' ');
      const parent = second === undefined ? program : parents.get(first);
      if (parent === undefined) throw new TypeError(`the command '${path}' has no parent in the table`);
      const command = commandOf(spec, path, program);
      // One that has others below it, which stand after it in the table.
      if (COMMANDS.some(({ paths }) => paths.some((other) => other.startsWith(`${path} `)))) {
        parents.set(path, command.helpCommand(false));
      }
      command.action((...parts: unknown[]) => {
        const args = parts.slice(0, -2).flat();
        found(
          spec,
          args.filter((arg): arg is string => typeof arg === 'string'),
          command.opts(),
        );
      });
      // Of several names in one group, help lists the first.
      parent.addCommand(command, { hidden: seen.has(parent) });
      seen.add(parent);
      // Help lists groups in the order of the table, so a group comes with the first command that is only in it.
      if (parent !== program && path === spec.paths[0] && !program.commands.includes(parent))
        program.addCommand(parent);
    }
  }
  for (const parent of parents.values()) {
    if (!program.commands.includes(parent)) program.addCommand(parent);
  }
}

function commandOf(spec: CommandSpec, path: string, program: Command): Command {
  const name = path.split(' ').at(-1) ?? path;
  const command = new Command(name)
    .copyInheritedSettings(program)
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
  command.usage([...(spec.options.length === 0 ? [] : ['[OPTIONS]']), ...args].join(' '));
  for (const arg of spec.args) {
    const dots = arg.variadic === true ? '...' : '';
    command.argument(arg.optional === true ? `[${arg.name}${dots}]` : `<${arg.name}${dots}>`, arg.description);
  }
  for (const option of spec.options) command.addOption(optionOf(option));
  if (spec.paths.length > 1) {
    const others = spec.paths.filter((other) => other !== path).map((other) => `  layerctl ${other}`);
    command.addHelpText('after', `\nAlso as:\n${others.join('\n')}`);
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
