import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { configDirectories, tlsFiles, type Config, type Surroundings } from './config.ts';
import { readConfigFile, type FileValues } from './file.ts';
import type { FlagValues } from './flags.ts';
import { formatHost, isLoopback } from './host.ts';
import { optionList, options, type OptionName, type Values } from './options.ts';
import { readTracing } from './tracing.ts';
import { ItemError, masked } from './value.ts';

/**
 * Merges flags, file and defaults into the configuration.
 * @param configFile The file somebody named, which must exist; else the default one, which need not.
 * @throws LayerdError of kind invalid, in one line that says which option is wrong, where, and why.
 */
export function loadConfig(flags: FlagValues, configFile: string | undefined, surroundings: Surroundings): Config {
  const path = configFile ?? defaultConfigFile(surroundings);
  const file = readConfigFile(path, configFile !== undefined);
  if (file !== undefined) refuseConflicts(flags, file);

  const entries = optionList.map(([name, option]) => {
    if (flags.has(name)) return [name, check(name, flags.get(name), undefined)];
    if (file?.has(name)) return [name, check(name, file.get(name), path)];
    return [name, option.standard(surroundings)];
  });
  const values = Object.fromEntries(entries) as Values;
  // An empty list of hosts would be a daemon that nobody can reach; dockerd listens on the default socket then.
  if (values.hosts.length === 0) values.hosts = options.hosts.standard(surroundings);
  const config: Config = {
    ...values,
    configFile: file === undefined ? undefined : path,
    certsDirs: configDirectories(surroundings).flatMap((folder) => [
      `${folder}/docker/certs.d`,
      `${folder}/layerd/certs.d`,
    ]),
    tracing: readTracing(values.otlpEndpoint, surroundings.env),
  };
  checkTls(config);
  checkGc(config);
  return deepFreeze(config);
}

function defaultConfigFile(surroundings: Surroundings): string {
  return `${configDirectories(surroundings)[0]}/layerd/daemon.json`;
}

/** An option in both places is refused as dockerd does it: which of the two counts would be anybody's guess. */
function refuseConflicts(flags: FlagValues, file: FileValues): void {
  const conflicts = [...flags.keys()]
    .filter((name) => file.has(name))
    .map((name) => `${options[name].key}: (from flag: ${show(flags.get(name))}, from file: ${show(file.get(name))})`);
  if (conflicts.length > 0) {
    throw new LayerdError(
      'invalid',
      `the following directives are specified both as a flag and in the configuration file: ${conflicts.join(', ')}`,
    );
  }
}

function check(name: OptionName, value: unknown, file: string | undefined): unknown {
  const { type, flag, key } = options[name];
  try {
    return type.check(value);
  } catch (error) {
    const where = file === undefined ? (flag.split(' ').at(-1) ?? flag) : `"${key}" in ${file}`;
    const shown = show(error instanceof ItemError ? error.item : value);
    throw new LayerdError('invalid', `invalid value for ${where}: ${shown} ${messageOf(error)}`, { cause: error });
  }
}

function show(value: unknown): string {
  return masked(JSON.stringify(value));
}

/**
 * Checks what the TLS options say together. Whoever reaches an unprotected tcp listener is root on this host, so one
 * that other machines can reach must be asked for twice: tcp:// and an explicit --tls=false or --tlsverify=false.
 */
function checkTls(config: Config): void {
  const invalid = (message: string) => new LayerdError('invalid', message);
  if (config.tls === false && config.tlsVerify === true) {
    throw invalid('tls is false and tlsverify is true: leave one of them out');
  }
  const files = tlsFiles(config);
  if (files === undefined) {
    const given = (['tlsCaCert', 'tlsCert', 'tlsKey'] as const).find((name) => config[name] !== undefined);
    if (given !== undefined && config.tls !== false) {
      throw invalid(`${options[given].key} is given but TLS is off: add --tlsverify, or leave it out`);
    }
  } else {
    if (files.cert === '' || files.key === '')
      throw invalid('TLS needs a certificate and its key: --tlscert, --tlskey');
    if (files.clientCa === '') {
      throw invalid(
        'tlsverify needs the authority that signs client certificates: --tlscacert, or --tlsverify=false to let in anyone',
      );
    }
  }
  if (files?.clientCa !== undefined || config.tls === false || config.tlsVerify === false) return;
  const open = config.hosts.find((host) => host.kind === 'tcp' && !isLoopback(host.host));
  if (open !== undefined) {
    throw invalid(
      `refusing to listen on ${formatHost(open)} without TLS, which gives root on this machine to everyone who reaches it: use --tlsverify with --tlscacert, --tlscert and --tlskey, or say --tls=false if the network is trusted`,
    );
  }
}

/** Checks what the options of garbage collection say together. */
function checkGc(config: Config): void {
  const { imageGcHighThreshold: high, imageGcLowThreshold: low } = config;
  const { imageGcMinimumAge: minimumAge, imageGcMaximumAge: maximumAge } = config;
  if (low !== undefined && high === undefined) {
    throw new LayerdError('invalid', 'image-gc-low-threshold is given but image-gc-high-threshold is not: give both');
  }
  if (low !== undefined && high !== undefined && low > high) {
    throw new LayerdError(
      'invalid',
      `image-gc-low-threshold ${low} is above image-gc-high-threshold ${high}: images are removed from the high one on, down to the low one`,
    );
  }
  if (maximumAge !== undefined && maximumAge <= minimumAge) {
    throw new LayerdError('invalid', 'image-gc-maximum-age must be longer than image-gc-minimum-age');
  }
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value) as unknown[]) {
    if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  }
  return Object.freeze(value);
}
