import type { Surroundings } from './config.ts';

/** The defaults of OpenTelemetry's specification: milliseconds, and numbers of spans. */
const TIMEOUT = 10_000;
const DELAY = 5000;
const BATCH_SIZE = 512;
const QUEUE_SIZE = 2048;

const SAMPLERS = [
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
  'always_on',
  'always_off',
  'traceidratio',
] as const;

export type SamplerName = (typeof SAMPLERS)[number];

/** How traces are sent, as OpenTelemetry's environment variables say it. */
export interface TracingSettings {
  /** The URL that spans are posted to. */
  readonly endpoint: string;
  /** Lower-case names; their values are credentials. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds that one request to the collector may take. */
  readonly timeout: number;
  readonly compression: 'none' | 'gzip';
  /** Paths of PEM files. */
  readonly tls: Readonly<Record<'ca' | 'cert' | 'key', string | undefined>>;
  /** Attributes of the daemon, besides those that it knows. */
  readonly resource: Readonly<Record<string, string>>;
  readonly sampler: SamplerName;
  /** Of those samplers that take one: which share of the traces is taken, from 0 to 1. */
  readonly share: number;
  /** Milliseconds that spans are gathered before they are sent. */
  readonly delay: number;
  /** Spans that are sent at once. */
  readonly batchSize: number;
  /** Spans that wait at most. */
  readonly queueSize: number;
  /** Whether traces of clients are gone on with. */
  readonly continues: boolean;
  /** Whether registries are told the trace. */
  readonly tellsRegistries: boolean;
  /** What could not be taken as it was said, each to be logged. */
  readonly warnings: readonly string[];
}

/**
 * Reads how traces are sent to the endpoint; undefined where there is none, or where they are turned off. As the
 * specification of OpenTelemetry wants it, a value that cannot be used is warned of, and the default stands in for it. No
 * warning quotes one: headers are credentials.
 */
export function readTracing(endpoint: string | undefined, env: Surroundings['env']): TracingSettings | undefined {
  const variables = new Variables(env);
  if (endpoint === undefined || variables.boolean('OTEL_SDK_DISABLED')) return undefined;
  if (variables.choice('OTEL_TRACES_EXPORTER', ['otlp', 'none'], 'otlp') === 'none') return undefined;
  // What is said of traces alone counts before what is said of all signals.
  const otlp = (part: string): string => {
    const own = `OTEL_EXPORTER_OTLP_TRACES_${part}`;
    return variables.text(own) === undefined ? `OTEL_EXPORTER_OTLP_${part}` : own;
  };
  variables.choice(otlp('PROTOCOL'), ['http/json'], 'http/json');
  const sampler = variables.choice('OTEL_TRACES_SAMPLER', SAMPLERS, 'parentbased_always_on');
  const propagators = variables.text('OTEL_PROPAGATORS')?.split(',');
  const propagates = propagators?.some((name) => name.trim() === 'tracecontext');
  const serviceName = variables.text('OTEL_SERVICE_NAME');
  const headers = Object.entries(variables.pairs(otlp('HEADERS')));
  return {
    endpoint,
    headers: Object.fromEntries(headers.map(([name, value]) => [name.toLowerCase(), value])),
    timeout: variables.whole(otlp('TIMEOUT'), TIMEOUT),
    compression: variables.choice(otlp('COMPRESSION'), ['none', 'gzip'], 'none'),
    tls: {
      ca: variables.text(otlp('CERTIFICATE')),
      cert: variables.text(otlp('CLIENT_CERTIFICATE')),
      key: variables.text(otlp('CLIENT_KEY')),
    },
    resource: {
      ...variables.pairs('OTEL_RESOURCE_ATTRIBUTES'),
      ...(serviceName === undefined ? {} : { 'service.name': serviceName }),
    },
    sampler,
    share: sampler.endsWith('traceidratio') ? variables.share('OTEL_TRACES_SAMPLER_ARG') : 1,
    delay: variables.whole('OTEL_BSP_SCHEDULE_DELAY', DELAY),
    batchSize: variables.whole('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', BATCH_SIZE),
    queueSize: variables.whole('OTEL_BSP_MAX_QUEUE_SIZE', QUEUE_SIZE),
    continues: propagates ?? true,
    tellsRegistries: propagates ?? false,
    warnings: variables.warnings,
  };
}

/** The environment, read as OpenTelemetry's specification has its variables: what is empty is not set. */
class Variables {
  readonly warnings: string[] = [];
  readonly #env: Surroundings['env'];

  constructor(env: Surroundings['env']) {
    this.#env = env;
  }

  text(name: string): string | undefined {
    const value = this.#env[name]?.trim();
    return value === '' ? undefined : value;
  }

  boolean(name: string): boolean {
    return this.choice(name, ['true', 'false'], 'false') === 'true';
  }

  choice<const T extends string>(name: string, choices: readonly T[], standard: T): T {
    const value = this.text(name)?.toLowerCase();
    if (value === undefined) return standard;
    return (
      choices.find((one) => one === value) ?? this.#unusable(name, `must be one of ${choices.join(', ')}`, standard)
    );
  }

  /** A whole number from 1 on. */
  whole(name: string, standard: number): number {
    const value = this.text(name);
    if (value === undefined) return standard;
    const number = /^[0-9]{1,9}$/.test(value) ? Number(value) : 0;
    return number > 0 ? number : this.#unusable(name, 'must be a whole number from 1 on', standard);
  }

  /** A number from 0 to 1; without one, 1. */
  share(name: string): number {
    const value = Number(this.text(name) ?? 1);
    return value >= 0 && value <= 1 ? value : this.#unusable(name, 'must be a number from 0 to 1', 1);
  }

  /** `name=value,name=value`, percent-encoded. */
  pairs(name: string): Record<string, string> {
    const items = (this.text(name) ?? '').split(',').filter((item) => item.trim() !== '');
    try {
      return Object.fromEntries(items.map(pair));
    } catch {
      return this.#unusable(name, 'must be like name=value,name=value, percent-encoded', {});
    }
  }

  #unusable<T>(name: string, expected: string, standard: T): T {
    const text = JSON.stringify(standard);
    this.warnings.push(
      `the environment variable ${name} ${expected}; it is taken as ${text === '{}' ? 'empty' : text}`,
    );
    return standard;
  }
}

function pair(item: string): [string, string] {
  const equals = item.indexOf('=');
  const [key, value] = [item.slice(0, equals), item.slice(equals + 1)].map((part) => decodeURIComponent(part.trim()));
  // Both may become a header.
  if (equals < 1 || !/^[\w.!#$%&'*+^`|~/-]+$/.test(key ?? '') || !/^[\x20-\x7e]*$/.test(value ?? '')) {
    throw new Error('not a pair');
  }
  return [key ?? '', value ?? ''];
}
