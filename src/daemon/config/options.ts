import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { configDirectories, type Surroundings } from './config.ts';
import type { Host } from './host.ts';
import * as value from './value.ts';

/** An option of the daemon. Flags, help, validation, the JSON Schema and the commented example all come from it. */
export interface Option<T> {
  /** As on the command line: `-H, --host`. */
  readonly flag: string;
  /** As in daemon.json; a dot leads into a nested object. */
  readonly key: string;
  readonly type: value.ValueType<T>;
  /** Whether a running daemon takes a new value on SIGHUP. */
  readonly reloadable: boolean;
  /** Heading that the help text shows it under. */
  readonly heading: string;
  readonly help: string;
  /** What it is when nobody says. */
  readonly standard: (surroundings: Surroundings) => T;
  /** The default in words, where one line of code does not tell it. */
  readonly standardText?: string;
  /** A value for the commented example, as in the file. */
  readonly example: unknown;
}

const option = <T>(fields: Option<T>): Option<T> => fields;

/** A directory for what does not outlive a boot: sockets, PID files. */
function runtimeDirectory({ root, env }: Surroundings): string {
  if (root) return '/run/layerd';
  const parent = env['XDG_RUNTIME_DIR'];
  if (parent === undefined || parent === '') {
    throw new LayerdError(
      'invalid',
      'XDG_RUNTIME_DIR is not set, so there is no default place for the socket: log in with a session that sets it, or give --host, --exec-root and --pidfile',
    );
  }
  return `${parent}/layerd`;
}

/** An environment variable in upper or lower case, as curl and Go take them. */
function variable(name: string, type: value.ValueType<string>): (surroundings: Surroundings) => string | undefined {
  return ({ env }) => {
    const found = [name, name.toLowerCase()].find((each) => (env[each] ?? '') !== '');
    if (found === undefined) return undefined;
    try {
      return type.check(env[found]);
    } catch (error) {
      throw new LayerdError('invalid', `invalid environment variable ${found}: it ${messageOf(error)}`);
    }
  };
}

const optional = <T>(type: value.ValueType<T>): value.ValueType<T | undefined> => type;
const none = () => undefined;

/** Upper bounds that catch a slip of the finger; no host gains from more. */
export const MAX_CONCURRENCY = 1000;
const MAX_ATTEMPTS = 100;
const MAX_SHUTDOWN_SECONDS = 24 * 60 * 60;
const MAX_EVENTS = 100_000_000;

export const options = {
  hosts: option<readonly Host[]>({
    flag: '-H, --host',
    key: 'hosts',
    type: value.listOf(value.hostAddress),
    reloadable: false,
    heading: 'Listening',
    help: 'Where to listen: unix://PATH, tcp://HOST:PORT, or fd://[NAME] for the sockets systemd opened. May be repeated.',
    standard: (surroundings) => [{ kind: 'unix', path: `${runtimeDirectory(surroundings)}/layerd.sock` }],
    standardText: 'unix:///run/layerd/layerd.sock',
    example: ['unix:///run/layerd/layerd.sock'],
  }),
  group: option<string | undefined>({
    flag: '-G, --group',
    key: 'group',
    type: optional(value.group),
    reloadable: false,
    heading: 'Listening',
    help: 'Group that owns the Unix socket; its members control the daemon.',
    standard: none,
    standardText: 'layerd where that group exists',
    example: 'layerd',
  }),
  authorizationPolicy: option<string | undefined>({
    flag: '--authorization-policy',
    key: 'authorization-policy',
    type: optional(value.path),
    reloadable: true,
    heading: 'Listening',
    help: 'File that says which client may do what; see docs/security.md.',
    standard: none,
    standardText: 'whoever reaches a socket may do everything',
    example: '/etc/layerd/authorization.json',
  }),
  tls: option<boolean | undefined>({
    flag: '--tls',
    key: 'tls',
    type: optional(value.boolean),
    reloadable: false,
    heading: 'Listening',
    help: 'Use TLS on tcp; implied by --tlsverify. An explicit --tls=false lets tcp listen unprotected beyond loopback.',
    standard: none,
    standardText: 'false',
    example: true,
  }),
  tlsVerify: option<boolean | undefined>({
    flag: '--tlsverify',
    key: 'tlsverify',
    type: optional(value.boolean),
    reloadable: false,
    heading: 'Listening',
    help: 'Use TLS on tcp and demand a certificate of every client.',
    standard: none,
    standardText: 'true with --tls',
    example: true,
  }),
  tlsCaCert: option<string | undefined>({
    flag: '--tlscacert',
    key: 'tlscacert',
    type: optional(value.path),
    reloadable: true,
    heading: 'Listening',
    help: 'Authority (PEM) that client certificates must be signed by.',
    standard: none,
    example: '/etc/layerd/ca.pem',
  }),
  tlsCert: option<string | undefined>({
    flag: '--tlscert',
    key: 'tlscert',
    type: optional(value.path),
    reloadable: true,
    heading: 'Listening',
    help: "The daemon's certificate (PEM).",
    standard: none,
    example: '/etc/layerd/cert.pem',
  }),
  tlsKey: option<string | undefined>({
    flag: '--tlskey',
    key: 'tlskey',
    type: optional(value.path),
    reloadable: true,
    heading: 'Listening',
    help: 'The key of that certificate (PEM).',
    standard: none,
    example: '/etc/layerd/key.pem',
  }),
  dataRoot: option<string>({
    flag: '--data-root',
    key: 'data-root',
    type: value.path,
    reloadable: false,
    heading: 'Storage',
    help: 'Where images are kept. One daemon at a time may use it.',
    standard: ({ root, env, home }) => {
      if (root) return '/var/lib/layerd';
      const data = env['XDG_DATA_HOME'];
      return `${data === undefined || data === '' ? `${home}/.local/share` : data}/layerd`;
    },
    example: '/var/lib/layerd',
  }),
  execRoot: option<string>({
    flag: '--exec-root',
    key: 'exec-root',
    type: value.path,
    reloadable: false,
    heading: 'Storage',
    help: 'Where state lives that a reboot may forget.',
    standard: runtimeDirectory,
    example: '/run/layerd',
  }),
  pidfile: option<string>({
    flag: '-p, --pidfile',
    key: 'pidfile',
    type: value.path,
    reloadable: false,
    heading: 'Storage',
    help: "File for the daemon's process ID.",
    standard: (surroundings) => `${runtimeDirectory(surroundings)}/layerd.pid`,
    example: '/run/layerd/layerd.pid',
  }),
  registryMirrors: option<readonly string[]>({
    flag: '--registry-mirror',
    key: 'registry-mirrors',
    type: value.listOf(value.mirror),
    reloadable: true,
    heading: 'Registries',
    help: 'Mirror of Docker Hub to ask before it. May be repeated; tried in order.',
    standard: () => [],
    example: ['https://mirror.example.com'],
  }),
  insecureRegistries: option<readonly string[]>({
    flag: '--insecure-registry',
    key: 'insecure-registries',
    type: value.listOf(value.insecureRegistry),
    reloadable: true,
    heading: 'Registries',
    help: 'Registry that may be spoken to over plain HTTP or unverified TLS. May be repeated; loopback always may.',
    standard: () => [],
    example: ['registry.internal:5000', '10.20.0.0/16'],
  }),
  signaturePolicy: option<string | undefined>({
    flag: '--signature-policy',
    key: 'signature-policy',
    type: optional(value.path),
    reloadable: true,
    heading: 'Registries',
    help: 'Policy that says whose signatures an image must have, in the format of containers-policy.json(5).',
    standard: none,
    standardText: 'none, so that every image is accepted',
    example: '/etc/layerd/policy.json',
  }),
  signatureLookasides: option<readonly { readonly scope?: string | undefined; readonly url: string }[]>({
    flag: '--signature-lookaside',
    key: 'signature-lookasides',
    type: value.listOf(value.lookaside),
    reloadable: true,
    heading: 'Registries',
    help: 'Where simple signatures are kept, at https:// or file://, of all images or with SCOPE= of a registry, namespace or repository. May be repeated; the most specific counts.',
    standard: () => [],
    example: ['registry.example.com/team=https://signatures.example.com'],
  }),
  httpProxy: option<string | undefined>({
    flag: '--http-proxy',
    key: 'proxies.http-proxy',
    type: optional(value.proxy),
    reloadable: true,
    heading: 'Registries',
    help: 'Proxy for http:// registries.',
    standard: variable('HTTP_PROXY', value.proxy),
    standardText: '$HTTP_PROXY',
    example: 'http://proxy.example.com:3128',
  }),
  httpsProxy: option<string | undefined>({
    flag: '--https-proxy',
    key: 'proxies.https-proxy',
    type: optional(value.proxy),
    reloadable: true,
    heading: 'Registries',
    help: 'Proxy for https:// registries.',
    standard: variable('HTTPS_PROXY', value.proxy),
    standardText: '$HTTPS_PROXY',
    example: 'http://proxy.example.com:3128',
  }),
  noProxy: option<string | undefined>({
    flag: '--no-proxy',
    key: 'proxies.no-proxy',
    type: optional(value.hostList),
    reloadable: true,
    heading: 'Registries',
    help: 'Hosts that are reached without a proxy, separated by commas.',
    standard: variable('NO_PROXY', value.hostList),
    standardText: '$NO_PROXY',
    example: 'localhost,127.0.0.0/8,.internal',
  }),
  maxConcurrentDownloads: option<number>({
    flag: '--max-concurrent-downloads',
    key: 'max-concurrent-downloads',
    type: value.integer(1, MAX_CONCURRENCY),
    reloadable: true,
    heading: 'Transfers',
    help: 'Blobs that are downloaded at once, over all pulls.',
    standard: () => 3,
    example: 3,
  }),
  maxConcurrentUploads: option<number>({
    flag: '--max-concurrent-uploads',
    key: 'max-concurrent-uploads',
    type: value.integer(1, MAX_CONCURRENCY),
    reloadable: true,
    heading: 'Transfers',
    help: 'Blobs that are uploaded at once, over all pushes.',
    standard: () => 5,
    example: 5,
  }),
  maxDownloadsPerRegistry: option<readonly value.RegistryConcurrency[]>({
    flag: '--max-concurrent-downloads-per-registry',
    key: 'max-concurrent-downloads-per-registry',
    type: value.listOf(value.registryConcurrency(MAX_CONCURRENCY)),
    reloadable: true,
    heading: 'Transfers',
    help: 'Of those, blobs from one registry: 2 for each, or registry.example.com=2. May be repeated.',
    standard: () => [],
    standardText: 'no limit',
    example: ['registry.example.com=2'],
  }),
  maxUploadsPerRegistry: option<readonly value.RegistryConcurrency[]>({
    flag: '--max-concurrent-uploads-per-registry',
    key: 'max-concurrent-uploads-per-registry',
    type: value.listOf(value.registryConcurrency(MAX_CONCURRENCY)),
    reloadable: true,
    heading: 'Transfers',
    help: 'Of those, blobs to one registry, in the same form.',
    standard: () => [],
    standardText: 'no limit',
    example: ['registry.example.com=2'],
  }),
  maxDownloadAttempts: option<number>({
    flag: '--max-download-attempts',
    key: 'max-download-attempts',
    type: value.integer(1, MAX_ATTEMPTS),
    reloadable: true,
    heading: 'Transfers',
    help: 'How often a download is tried before its pull fails.',
    standard: () => 5,
    example: 5,
  }),
  downloadBandwidth: option<readonly value.BandwidthLimit[]>({
    flag: '--download-bandwidth',
    key: 'download-bandwidth',
    type: value.listOf(value.bandwidth),
    reloadable: true,
    heading: 'Transfers',
    help: 'Bytes a second of all downloads, such as 20m; of one registry, registry.example.com=5m; at a time of day, 2m@08:00-18:00. May be repeated; the last that fits counts.',
    standard: () => [],
    standardText: 'no limit',
    example: ['20m', 'registry.example.com=5m', '2m@08:00-18:00'],
  }),
  uploadBandwidth: option<readonly value.BandwidthLimit[]>({
    flag: '--upload-bandwidth',
    key: 'upload-bandwidth',
    type: value.listOf(value.bandwidth),
    reloadable: true,
    heading: 'Transfers',
    help: 'Bytes a second of all uploads, in the same form.',
    standard: () => [],
    standardText: 'no limit',
    example: ['5m'],
  }),
  imageSetsDir: option<string>({
    flag: '--image-sets-dir',
    key: 'image-sets-dir',
    type: value.path,
    reloadable: true,
    heading: 'Image sets',
    help: 'Where files of pinned image sets are: NAME.json is the set NAME.',
    standard: (surroundings) => `${configDirectories(surroundings)[0]}/layerd/image-sets.d`,
    example: '/etc/layerd/image-sets.d',
  }),
  credentialsDir: option<string>({
    flag: '--credentials-dir',
    key: 'credentials-dir',
    type: value.path,
    reloadable: true,
    heading: 'Image sets',
    help: 'Where credentials are that image sets name: NAME.json, readable by its owner alone.',
    standard: (surroundings) => `${configDirectories(surroundings)[0]}/layerd/credentials.d`,
    example: '/etc/layerd/credentials.d',
  }),
  eventsMaxAge: option<number>({
    flag: '--events-max-age',
    key: 'events-max-age',
    type: value.duration,
    reloadable: true,
    heading: 'Events',
    help: 'How long events are kept.',
    standard: () => 720 * 3600 * 1000,
    standardText: '720h',
    example: '720h',
  }),
  eventsMaxCount: option<number>({
    flag: '--events-max-count',
    key: 'events-max-count',
    type: value.integer(1, MAX_EVENTS),
    reloadable: true,
    heading: 'Events',
    help: 'How many events are kept.',
    standard: () => 100_000,
    example: 100_000,
  }),
  eventsMaxSize: option<number>({
    flag: '--events-max-size',
    key: 'events-max-size',
    type: value.size,
    reloadable: true,
    heading: 'Events',
    help: 'Bytes of events that are kept: a number, or one with a unit such as 64m.',
    standard: () => 64 * 1024 * 1024,
    standardText: '64m',
    example: '64m',
  }),
  scrubInterval: option<number>({
    flag: '--scrub-interval',
    key: 'scrub-interval',
    type: value.interval,
    reloadable: true,
    heading: 'Store',
    help: 'How often everything in the store is read again, to find damage early; 0 for never.',
    standard: () => 720 * 3600 * 1000,
    standardText: '720h',
    example: '720h',
  }),
  scrubRate: option<number>({
    flag: '--scrub-rate',
    key: 'scrub-rate',
    type: value.size,
    reloadable: true,
    heading: 'Store',
    help: 'Bytes a second that are read for that, at most.',
    standard: () => 20 * 1024 * 1024,
    standardText: '20m',
    example: '20m',
  }),
  scrubHours: option<{ readonly from: number; readonly to: number } | undefined>({
    flag: '--scrub-hours',
    key: 'scrub-hours',
    type: optional(value.dayTime),
    reloadable: true,
    heading: 'Store',
    help: 'The time of day at which that is done.',
    standard: none,
    standardText: 'all day',
    example: '01:00-05:00',
  }),
  imageGcHighThreshold: option<number | undefined>({
    flag: '--image-gc-high-threshold',
    key: 'image-gc-high-threshold',
    type: optional(value.integer(0, 100)),
    reloadable: true,
    heading: 'Garbage collection',
    help: 'Percent of the disk in use from which on images are removed, the least recently used first.',
    standard: none,
    standardText: 'unset: no image is removed for space',
    example: 85,
  }),
  imageGcLowThreshold: option<number | undefined>({
    flag: '--image-gc-low-threshold',
    key: 'image-gc-low-threshold',
    type: optional(value.integer(0, 100)),
    reloadable: true,
    heading: 'Garbage collection',
    help: 'Percent of the disk in use down to which images are removed then.',
    standard: none,
    standardText: '5 below the high threshold',
    example: 80,
  }),
  imageGcMinimumAge: option<number>({
    flag: '--image-gc-minimum-age',
    key: 'image-gc-minimum-age',
    type: value.duration,
    reloadable: true,
    heading: 'Garbage collection',
    help: 'An image that was used within this time stays.',
    standard: () => 2 * 60 * 1000,
    standardText: '2m',
    example: '2m',
  }),
  imageGcMaximumAge: option<number | undefined>({
    flag: '--image-gc-maximum-age',
    key: 'image-gc-maximum-age',
    type: optional(value.duration),
    reloadable: true,
    heading: 'Garbage collection',
    help: 'An image that was not used for longer is removed, however much of the disk is in use.',
    standard: none,
    standardText: 'unset: none is removed for its age',
    example: '720h',
  }),
  imageGcLocalImages: option<boolean>({
    flag: '--image-gc-local-images',
    key: 'image-gc-local-images',
    type: value.boolean,
    reloadable: true,
    heading: 'Garbage collection',
    help: 'Remove also images that no registry is known to have, such as loaded and imported ones. Nobody can pull those again.',
    standard: () => false,
    example: false,
  }),
  logLevel: option<'debug' | 'info' | 'warn' | 'error' | 'fatal'>({
    flag: '-l, --log-level',
    key: 'log-level',
    type: value.choice('debug', 'info', 'warn', 'error', 'fatal'),
    reloadable: true,
    heading: 'Logging',
    help: 'Least important level that is logged, to standard error.',
    standard: () => 'info',
    example: 'info',
  }),
  debug: option<boolean>({
    flag: '-D, --debug',
    key: 'debug',
    type: value.boolean,
    reloadable: true,
    heading: 'Logging',
    help: 'Log everything; the same as --log-level=debug.',
    standard: () => false,
    example: false,
  }),
  logFormat: option<'text' | 'json'>({
    flag: '--log-format',
    key: 'log-format',
    type: value.choice('text', 'json'),
    reloadable: false,
    heading: 'Logging',
    help: 'How log lines look.',
    standard: () => 'text',
    example: 'text',
  }),
  otlpEndpoint: option<string | undefined>({
    flag: '--otlp-endpoint',
    key: 'otlp-endpoint',
    type: optional(value.collector),
    reloadable: false,
    heading: 'Logging',
    help: 'OpenTelemetry collector that traces are sent to, over OTLP/HTTP (JSON). OTEL_* variables say how.',
    standard: (surroundings) =>
      variable('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', value.collectorPath)(surroundings) ??
      variable('OTEL_EXPORTER_OTLP_ENDPOINT', value.collector)(surroundings),
    standardText: '$OTEL_EXPORTER_OTLP_ENDPOINT',
    example: 'http://localhost:4318',
  }),
  shutdownTimeout: option<number>({
    flag: '--shutdown-timeout',
    key: 'shutdown-timeout',
    type: value.integer(0, MAX_SHUTDOWN_SECONDS),
    reloadable: true,
    heading: 'Process',
    help: 'Seconds that requests under way are given to end when the daemon stops.',
    standard: () => 15,
    example: 15,
  }),
};

export type OptionName = keyof typeof options;

/** The value of every option. */
export type Values = {
  [Name in OptionName]: (typeof options)[Name] extends Option<infer T> ? T : never;
};

/** The table, row by row. */
export const optionList = Object.entries(options) as [OptionName, Option<unknown>][];

/** The default of root in words; empty where there is none. */
export function defaultText(option: Option<unknown>): string {
  if (option.standardText !== undefined) return option.standardText;
  const standard = option.standard({ root: true, env: {}, home: '' });
  return typeof standard === 'string' || typeof standard === 'number' || typeof standard === 'boolean'
    ? `${standard}`
    : '';
}
