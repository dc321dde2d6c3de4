import { Command, CommanderError, Option as Flag } from 'commander';
import { resolve } from 'node:path';
import { LayerdError } from '../../protocol/errors.ts';
import { defaultText, optionList, type OptionName } from './options.ts';

/** What the command line asks for. */
export type CommandLine =
  | {
      readonly action: 'run' | 'validate' | 'rebuild';
      readonly configFile: string | undefined;
      readonly flags: FlagValues;
    }
  | { readonly action: 'print'; readonly text: string };

/** The options given as flags, as the file would have them. */
export type FlagValues = ReadonlyMap<OptionName, unknown>;

const EXAMPLES = `
Examples:
  layerd                                           listen on the default Unix socket
  layerd --data-root /srv/layerd --debug           keep images elsewhere, log everything
  layerd -H unix:///run/a.sock -H fd://            a socket of its own and those of systemd
  layerd -H tcp://0.0.0.0:2376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem
  layerd --validate --config-file daemon.json      check a file before a restart
  layerd --rebuild-metadata                        after metadata.db was damaged, while the daemon is stopped
  docker -H unix:///run/layerd/layerd.sock pull debian:12

Each option is also a key of daemon.json: its flag's name without dashes, except hosts, insecure-registries,
registry-mirrors, and http-proxy, https-proxy and no-proxy, which stand inside "proxies". An option may be given in one of
both only. Without root, paths follow XDG_RUNTIME_DIR and XDG_DATA_HOME.

Signals: SIGTERM and SIGINT stop the daemon, transfers can be resumed; a second one stops it at once. SIGHUP reads
daemon.json again and takes on what is marked (reload). Exit status: 0 after a clean stop, 1 after an error.
`;

/**
 * Reads the command line.
 * @throws LayerdError of kind invalid, in one line.
 */
export function parseCommandLine(args: readonly string[], version: string): CommandLine {
  let output = '';
  const flags = new Map<OptionName, unknown>();
  const command = new Command('layerd')
    .description('The layerd image daemon: owns the container images of this host and serves the Docker Engine API.')
    .usage('[options]')
    .exitOverride()
    .allowExcessArguments(false)
    .configureOutput({ writeOut: (text) => (output += text), writeErr: () => undefined })
    .configureHelp({ helpWidth: 120 })
    .version(`layerd version ${version}`, '-v, --version', 'Print the version and exit.')
    .helpOption('-h, --help', 'Print this help and exit.')
    .addHelpText('after', EXAMPLES);

  for (const [name, option] of optionList) {
    const standard = defaultText(option);
    const notes = [standard === '' ? '' : `default: ${standard}`, option.reloadable ? 'reload' : ''].filter(Boolean);
    const flag = new Flag(
      `${option.flag} ${option.type.placeholder}`,
      option.help + notes.map((note) => ` (${note})`).join(''),
    ).helpGroup(`${option.heading}:`);
    if (option.type.placeholder.startsWith('[')) flag.preset('true');
    flag.argParser((text) => {
      const given = flags.get(name);
      const value = option.type.fromFlag(text);
      if (!option.type.list && given !== undefined) throw twice(option.flag);
      flags.set(name, option.type.list ? [...((given as unknown[] | undefined) ?? []), value] : value);
      return value;
    });
    command.addOption(flag);
  }
  let configFile: string | undefined;
  command
    .addOption(
      new Flag(
        '--config-file <path>',
        'File of options. (default: /etc/layerd/daemon.json; without root $XDG_CONFIG_HOME/layerd/daemon.json)',
      )
        .helpGroup('Process:')
        .argParser((text) => {
          if (configFile !== undefined) throw twice('--config-file');
          configFile = resolve(text);
          return text;
        }),
    )
    .addOption(new Flag('--validate', 'Check flags and file, say so and exit.').helpGroup('Process:'))
    .addOption(
      new Flag(
        '--rebuild-metadata',
        'Make damaged or lost metadata again from the images that are in the data root, and exit.',
      )
        .conflicts('validate')
        .helpGroup('Process:'),
    );

  try {
    command.parse(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { action: 'print', text: output };
    const message = error.message.replace(/^error: /, '').replace(/\s+/g, ' ');
    throw new LayerdError('invalid', `${message}; see layerd --help`, { cause: error });
  }
  const { validate, rebuildMetadata } = command.opts<{ validate?: true; rebuildMetadata?: true }>();
  const action = validate === true ? 'validate' : rebuildMetadata === true ? 'rebuild' : 'run';
  return { action, configFile, flags };
}

function twice(flag: string): LayerdError {
  return new LayerdError('invalid', `${flag.split(' ').at(-1) ?? flag} is given twice`);
}
