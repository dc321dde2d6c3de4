import { isIP } from 'node:net';
import { isAbsolute, normalize, resolve } from 'node:path';
import { messageOf } from '../../protocol/errors.ts';
import { parseServerAddress } from '../../protocol/reference.ts';
import { parseDuration } from '../../protocol/time.ts';
import { parseHost, type Host } from './host.ts';

/** A kind of value that an option takes: how it is written as a flag, checked, and described to editors. */
export interface ValueType<T> {
  /** What stands for the value in the help text: `<n>`; optional values of flags are in square brackets. */
  readonly placeholder: string;
  /** Whether the flag may be repeated, each time adding to a list. */
  readonly list: boolean;
  /** The value as the file would have it. */
  fromFlag(text: string): unknown;
  /**
   * Takes a value as it stands in the file to what the daemon works with.
   * @throws Error whose message completes "invalid data-root: "x" …".
   */
  check(value: unknown): T;
  /** JSON Schema of the value in the file. */
  readonly schema: Readonly<Record<string, unknown>>;
}

const scalar = { list: false, fromFlag: (text: string): unknown => text };

export const boolean: ValueType<boolean> = {
  ...scalar,
  placeholder: '[true|false]',
  fromFlag: (text) => (text === 'true' ? true : text === 'false' ? false : text),
  check(value) {
    if (typeof value !== 'boolean') throw new Error('must be true or false');
    return value;
  },
  schema: { type: 'boolean' },
};

export function integer(minimum: number, maximum: number): ValueType<number> {
  return {
    ...scalar,
    placeholder: '<n>',
    fromFlag: (text) => (/^[0-9]+$/.test(text) ? Number(text) : text),
    check(value) {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum) {
        throw new Error(`must be a whole number from ${minimum} to ${maximum}`);
      }
      return value;
    },
    schema: { type: 'integer', minimum, maximum },
  };
}

export function choice<const T extends string>(...choices: T[]): ValueType<T> {
  return {
    ...scalar,
    placeholder: `<${choices.join('|')}>`,
    check(value) {
      const chosen = choices.find((item) => item === value);
      if (chosen === undefined) throw new Error(`must be one of ${choices.join(', ')}`);
      return chosen;
    },
    schema: { enum: choices },
  };
}

/** A text that a check turns into something; the check throws as {@link ValueType.check} does. */
export function text<T = string>(placeholder: string, check: (text: string) => T): ValueType<T> {
  return {
    ...scalar,
    placeholder: `<${placeholder}>`,
    check(value) {
      if (typeof value !== 'string') throw new Error('must be a text');
      return check(value);
    },
    schema: { type: 'string' },
  };
}

/** A bad item of a list, so that the item is shown and not the list. */
export class ItemError extends Error {
  readonly item: unknown;

  constructor(item: unknown, message: string) {
    super(message);
    this.item = item;
  }
}

/** A list of values, which as flags are repeated. Doubles are dropped. */
export function listOf<T>(item: ValueType<T>): ValueType<readonly T[]> {
  return {
    placeholder: item.placeholder,
    list: true,
    fromFlag: (value) => item.fromFlag(value),
    check(value) {
      if (!Array.isArray(value)) throw new Error('must be a list');
      return Array.from(new Set<unknown>(value), (one) => {
        try {
          return item.check(one);
        } catch (error) {
          throw new ItemError(one, messageOf(error));
        }
      });
    },
    schema: { type: 'array', items: item.schema },
  };
}

/** A path: absolute in the file, which does not say what it would be relative to; a flag is relative to where one is. */
export const path: ValueType<string> = {
  ...text('path', (value) => {
    if (!isAbsolute(value) || value.includes('\0')) throw new Error('must be an absolute path');
    return normalize(value);
  }),
  fromFlag: (value) => (value === '' ? value : resolve(value)),
};

export const hostAddress: ValueType<Host> = {
  ...text('address', parseHost),
  schema: { type: 'string', pattern: '^(unix:///.+|tcp://.*|fd://.*)$' },
};

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** A span of time such as 90s or 720h, as Go writes it, in milliseconds. */
export const duration: ValueType<number> = text('duration', (value) => {
  const nanoseconds = parseDuration(value);
  if (nanoseconds === undefined || nanoseconds < NANOSECONDS_PER_MILLISECOND)
    throw new Error('must be a span of time such as 90s or 720h');
  return Number(nanoseconds / NANOSECONDS_PER_MILLISECOND);
});

/** How often something is done, in milliseconds; 0 for never. */
export const interval: ValueType<number> = text('duration', (value) => (value === '0' ? 0 : duration.check(value)));

/** Bytes of a number with a unit of 1024, as dockerd takes them. */
const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** A size in bytes, or with a unit: 64m. */
export const size: ValueType<number> = text('size', (value) => {
  const [, number = '', unit = ''] = /^([0-9]{1,12})([bkmgt]?)$/.exec(value.toLowerCase()) ?? [];
  const bytes = Number(number) * (UNITS[unit] ?? 1);
  if (number === '' || bytes === 0) throw new Error('must be a size such as 64m, with b, k, m, g or t');
  return bytes;
});

/** A registry by its host; Docker Hub by any name that it goes by. */
export const registry = text('host[:port]', (value) => {
  if (value === '' || value.includes('/'))
    throw new Error('must be the host of a registry, such as registry.example.com:5000');
  try {
    return parseServerAddress(value);
  } catch {
    throw new Error('must be the host of a registry, such as registry.example.com:5000');
  }
});

/** How many transfers there may be of a registry at once. */
export interface RegistryConcurrency {
  /** Without it, each one that is not named. */
  readonly registry?: string | undefined;
  readonly count: number;
}

/** `[REGISTRY=]N`. */
export const registryConcurrency = (maximum: number): ValueType<RegistryConcurrency> =>
  text('[registry=]n', (value) => {
    const [, host, count = ''] = /^(?:([^=\s]+)=)?(\d{1,9})$/.exec(value) ?? [];
    const number = count === '' ? NaN : Number(count);
    if (!(number >= 1 && number <= maximum)) {
      throw new Error(`must be like 2 or registry.example.com=2, with a whole number from 1 to ${maximum}`);
    }
    return { registry: host === undefined ? undefined : registry.check(host), count: number };
  });

/** How many bytes a second may be moved: for all registries or one, always or at a time of day. */
export interface BandwidthLimit {
  readonly registry?: string | undefined;
  readonly bytesPerSecond: number;
  /** Minutes since midnight. */
  readonly time?: { readonly from: number; readonly to: number } | undefined;
}

/** `[REGISTRY=]RATE[@HH:MM-HH:MM]`, the rate in bytes a second, with a unit as a size has. */
export const bandwidth = text<BandwidthLimit>('[registry=]rate[@time]', (value) => {
  const [, name, rate = '', from, to] = /^(?:([^=@\s]+)=)?([^=@]+)(?:@(\d\d:\d\d)-(\d\d:\d\d))?$/.exec(value) ?? [];
  if (rate === '') throw new Error('must be like 20m, registry.example.com=5m or 2m@08:00-18:00');
  const bytesPerSecond = size.check(rate);
  const host = name === undefined ? undefined : registry.check(name);
  const time = from === undefined || to === undefined ? undefined : { from: minutes(from), to: minutes(to) };
  return { registry: host, bytesPerSecond, time };
});

/** A span of the day, in minutes since midnight; an end before the begin is on the next day. */
export const dayTime = text<{ readonly from: number; readonly to: number }>('time', (value) => {
  const [, from, to] = /^(\d\d:\d\d)-(\d\d:\d\d)$/.exec(value) ?? [];
  if (from === undefined || to === undefined) throw new Error('must be a time of day such as 01:00-05:00');
  return { from: minutes(from), to: minutes(to) };
});

/** A rule as {@link bandwidth} takes it. */
export function formatBandwidth({ registry, bytesPerSecond, time }: BandwidthLimit): string {
  const unit = ['t', 'g', 'm', 'k'].find((each) => bytesPerSecond % (UNITS[each] ?? NaN) === 0) ?? '';
  const rate = `${bytesPerSecond / (UNITS[unit] ?? 1)}${unit}`;
  const at = time === undefined ? '' : `@${clock(time.from)}-${clock(time.to)}`;
  return `${registry === undefined ? '' : `${registry}=`}${rate}${at}`;
}

const clock = (minutes: number): string =>
  [Math.floor(minutes / 60), minutes % 60].map((part) => String(part).padStart(2, '0')).join(':');

function minutes(time: string): number {
  const [hour = NaN, minute = NaN] = time.split(':').map(Number);
  if (hour > 23 || minute > 59) throw new Error('must have times from 00:00 to 23:59');
  return hour * 60 + minute;
}

/** A user group, by name or number. */
export const group = text('group', (value) => {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$/.test(value)) throw new Error('must be the name or the number of a group');
  return value;
});

/** A registry that may be spoken to without verified TLS: `host`, `host:port` or a CIDR block. */
export const insecureRegistry = text('host[:port]|cidr', (value) => {
  if (/^https?:\/\//.test(value)) throw new Error('must be a host without http:// or https://');
  const slash = value.indexOf('/');
  if (slash >= 0) {
    const family = isIP(value.slice(0, slash));
    const bits = value.slice(slash + 1);
    if (family === 0 || !/^[0-9]{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) {
      throw new Error('must be host[:port] or a block of addresses such as 10.0.0.0/8');
    }
    return value;
  }
  const [, name, port] = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*))(?::([0-9]{1,5}))?$/.exec(value) ?? [];
  if (name === undefined || Number(port ?? 0) > 65535 || (name.startsWith('[') && isIP(name.slice(1, -1)) !== 6)) {
    throw new Error('must be host[:port] or a block of addresses such as 10.0.0.0/8');
  }
  return value;
});

/** A mirror of Docker Hub: scheme, host and port, nothing more, as dockerd demands. */
export const mirror = text('url', (value) => {
  const url = parseUrl(value);
  if (url === undefined) throw new Error('must be a URL such as https://mirror.example.com');
  if (url.username !== '' || url.password !== '') {
    // Mirrors are shown to every client by `docker info`, so a password in one would be published.
    throw new Error('must not contain a user name or password');
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new Error('must not have a path, query or fragment');
  }
  return url.href;
});

/** Where simple signatures of a registry, a namespace or a repository are kept, or of all. */
export const lookaside = text<{ readonly scope?: string | undefined; readonly url: string }>('[scope=]url', (value) => {
  const [, scope, address = ''] = /^(?:([^=:/\s]+(?::[0-9]+)?(?:\/[^=\s]+)?)=)?(.+)$/.exec(value) ?? [];
  const url = /^(?:https?:\/\/[^/]|file:\/\/\/)/.test(address) ? URL.parse(address) : null;
  if (url === null) {
    throw new Error(
      'must be like https://signatures.example.com or registry.example.com/team=file:///var/lib/signatures',
    );
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new Error('must not have a user name, a password, a query or a fragment');
  }
  return { scope, url: url.href };
});

/** A proxy; without a scheme it is taken for HTTP, as everywhere. */
export const proxy = text('url', (value) => {
  const url = parseUrl(/^[a-z0-9+.-]+:\/\//i.test(value) ? value : `http://${value}`);
  if (url === undefined) throw new Error('must be a URL such as http://proxy.example.com:3128');
  return url.href;
});

/** Where spans are posted to, whatever its path is. */
export const collectorPath = text('url', (value) => {
  const url = parseUrl(value);
  if (url === undefined) throw new Error('must be a URL such as http://localhost:4318');
  return url.href;
});

/** A collector; traces go to `v1/traces` below its path, as OpenTelemetry has it. */
export const collector = text('url', (value) => {
  const url = new URL(collectorPath.check(value));
  url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  return url.href;
});

/** Hosts, domains and address blocks separated by commas; the registry side reads them. */
export const hostList = text('hosts', (value) => value);

function parseUrl(value: string): URL | undefined {
  const url = URL.parse(value);
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:') && url.hostname !== ''
    ? url
    : undefined;
}

/** The text with the credentials of a URL in it left out, for logs and error messages. */
export function masked(value: string): string {
  return value.replace(/\/\/[^/@\s]*@/g, '//xxxxx@');
}
