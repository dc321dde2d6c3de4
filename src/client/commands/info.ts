import type { RegistryReport } from '../../protocol/engine.ts';
import type { SystemInfo } from '../engine.ts';
import { DocumentFormat } from '../format/format.ts';
import { binarySize } from '../format/units.ts';
import { packageVersion } from '../package.ts';
import { Exit, type Context, type Run } from './command.ts';
import { unlessUnknown } from './own.ts';

/** `layerctl info`. */
export const info: Run<{ readonly format?: string }> = async (context, _args, options) => {
  const { client, out, signal } = context;
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format);
  const [system, registries] = await Promise.all([client.info({ signal }), registriesOf(context)]);
  const own = { Version: packageVersion(), Host: client.host };
  if (format !== undefined) {
    await out.line(format.render({ ...system, Registries: registries, ClientInfo: own }));
    return Exit.ok;
  }
  await out.lines([
    'Client:',
    ` Version: ${own.Version}`,
    ` Host: ${own.Host}`,
    '',
    'Server:',
    ...systemLines(system),
    ...registryLines(registries),
  ]);
  for (const warning of stringsOf(system['Warnings'])) await context.err.line(warning);
  return Exit.ok;
};

/** layerd's registries; other engines have no such list. */
async function registriesOf({ client, signal }: Context): Promise<RegistryReport[]> {
  return (await unlessUnknown(() => client.registries({ signal }))) ?? [];
}

/** What is printed of the system: its field, and its name for people. */
const FIELDS: readonly (readonly [field: string, name: string])[] = [
  ['Images', 'Images'],
  ['ServerVersion', 'Server Version'],
  ['Driver', 'Storage Driver'],
  ['DriverStatus', ''],
  ['LoggingDriver', 'Logging Driver'],
  ['CgroupDriver', 'Cgroup Driver'],
  ['CgroupVersion', 'Cgroup Version'],
  ['KernelVersion', 'Kernel Version'],
  ['OperatingSystem', 'Operating System'],
  ['OSType', 'OSType'],
  ['Architecture', 'Architecture'],
  ['NCPU', 'CPUs'],
  ['MemTotal', 'Total Memory'],
  ['Name', 'Name'],
  ['ID', 'ID'],
  ['DockerRootDir', 'Docker Root Dir'],
  ['HttpProxy', 'HTTP Proxy'],
  ['HttpsProxy', 'HTTPS Proxy'],
  ['NoProxy', 'No Proxy'],
  ['IndexServerAddress', 'Registry'],
  ['Labels', 'Labels'],
  ['Debug', 'Debug Mode'],
  ['ExperimentalBuild', 'Experimental'],
];

function systemLines(system: SystemInfo): string[] {
  const lines = typeof system['Containers'] === 'number' ? containerLines(system) : [];
  for (const [field, name] of FIELDS) {
    const value = system[field];
    if (field === 'DriverStatus') lines.push(...pairsOf(value).map(([key, status]) => `  ${key}: ${status}`));
    else if (Array.isArray(value)) lines.push(...listLines(name, stringsOf(value)));
    else if (field === 'MemTotal' && typeof value === 'number') lines.push(` ${name}: ${binarySize(value)}`);
    else if (typeof value === 'string' && value !== '') lines.push(` ${name}: ${value}`);
    else if (typeof value === 'number' || typeof value === 'boolean') lines.push(` ${name}: ${value}`);
  }
  return [...lines, ...configLines(system['RegistryConfig'])];
}

function containerLines(system: SystemInfo): string[] {
  const count = (field: string): string => String(Number(system[field] ?? 0));
  return [
    ` Containers: ${count('Containers')}`,
    `  Running: ${count('ContainersRunning')}`,
    `  Paused: ${count('ContainersPaused')}`,
    `  Stopped: ${count('ContainersStopped')}`,
  ];
}

function configLines(config: unknown): string[] {
  if (typeof config !== 'object' || config === null) return [];
  const { InsecureRegistryCIDRs, IndexConfigs, Mirrors } = config as Readonly<Record<string, unknown>>;
  const named = Object.values(
    (IndexConfigs ?? {}) as Readonly<Record<string, { Name?: string; Secure?: boolean } | null>>,
  )
    .filter((index) => index?.Secure === false)
    .map((index) => index?.Name ?? '');
  return [
    ...listLines('Insecure Registries', [...named, ...stringsOf(InsecureRegistryCIDRs)]),
    ...listLines('Registry Mirrors', stringsOf(Mirrors)),
  ];
}

function registryLines(registries: readonly RegistryReport[]): string[] {
  const limited = registries.flatMap(({ registry, rateLimit }) => {
    if (rateLimit === undefined) return [];
    const source = rateLimit.source === undefined ? '' : ` for ${rateLimit.source}`;
    return `${registry}: ${rateLimit.remaining} of ${rateLimit.limit} pulls left${source} (as of ${rateLimit.at})`;
  });
  return listLines('Registry Rate Limits', limited);
}

function listLines(name: string, items: readonly string[]): string[] {
  return items.length === 0 ? [] : [` ${name}:`, ...items.map((item) => `  ${item}`)];
}

function stringsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
}

function pairsOf(value: unknown): [string, string][] {
  return Array.isArray(value)
    ? value.filter((pair): pair is [string, string] => Array.isArray(pair) && pair.length === 2)
    : [];
}
