import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { ImageSetSpec, PullPolicy } from '../../protocol/image-set.ts';
import type { Platform } from '../../protocol/oci.ts';
import {
  familiarString,
  parseReference,
  storableDigest,
  withDefaultTag,
  type Reference,
} from '../../protocol/reference.ts';
import { parseDuration } from '../../protocol/time.ts';
import { formatPlatform, parsePlatform } from '../images/platform.ts';
import { checkSchedule } from './cadence.ts';
import { isName, NAME_RULE, type Cadence, type WantedImage } from './set.ts';

/** Images of one set: what is compared with the store in one turn of the event loop. */
export const MAX_IMAGES = 500;

/** How often a registry is asked where Always says no more: every hour, in milliseconds. */
const STANDARD_INTERVAL = 60 * 60_000;
/** The shortest and the longest interval, and the longest jitter, in milliseconds: 1 s, a year, a day. */
const MIN_INTERVAL = 1000;
const MAX_INTERVAL = 365 * 24 * 60 * 60_000;
const MAX_JITTER = 24 * 60 * 60_000;
const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

const POLICIES: readonly PullPolicy[] = ['IfNotPresent', 'Always'];

/** The fields that a set has for all of its images, and each image for itself. */
const DEFAULTS = ['platform', 'pullPolicy', 'interval', 'schedule', 'jitter', 'credentials'] as const;

/** A spec that can be made so. */
export interface ParsedSpec {
  /** As it was given. */
  readonly spec: ImageSetSpec;
  readonly images: readonly WantedImage[];
}

/** What one level of a spec says, checked. */
interface Settings {
  readonly platform?: Platform | undefined;
  readonly policy?: PullPolicy | undefined;
  readonly interval?: number | undefined;
  readonly schedule?: string | undefined;
  readonly jitter?: number | undefined;
  readonly credentials?: string | undefined;
}

/**
 * Reads the spec of a set. What a platform of one part leaves out is the host's.
 * @throws LayerdError of kind invalid, naming the field and what was expected.
 */
export function parseSpec(value: unknown, host: Platform): ParsedSpec {
  if (!isObject(value)) throw new LayerdError('invalid', 'expected a JSON object with images');
  refuseUnknown(value, '', ['images', ...DEFAULTS]);
  const common = settingsOf(value, '', host);
  const { images } = value;
  if (!Array.isArray(images)) throw wrong('images', 'expected a list of references');
  if (images.length > MAX_IMAGES) throw wrong('images', `expected at most ${MAX_IMAGES}, not ${images.length}`);
  const seen = new Set<string>();
  const wanted = images.map((image: unknown, index) => {
    const one = wantedImage(image, `images[${index}]`, common, host);
    const key = `${one.name} ${one.platformName}`;
    if (seen.has(key)) throw wrong(`images[${index}]`, `${one.name} is listed twice`);
    seen.add(key);
    return one;
  });
  const isCadenceGiven = (common.interval ?? common.schedule ?? common.jitter) !== undefined;
  if (isCadenceGiven && !wanted.some(({ policy }) => policy === 'Always')) {
    const field = (['interval', 'schedule', 'jitter'] as const).find((name) => common[name] !== undefined) ?? '';
    throw wrong(field, 'only images with "pullPolicy": "Always" are checked again, and there are none');
  }
  return { spec: value as unknown as ImageSetSpec, images: wanted };
}

function wantedImage(value: unknown, at: string, common: Settings, host: Platform): WantedImage {
  const isShort = typeof value === 'string';
  const image: unknown = isShort ? { reference: value } : value;
  if (!isObject(image)) throw wrong(at, 'expected a reference, such as "redis:7", or an object with one');
  refuseUnknown(image, `${at}.`, ['reference', ...DEFAULTS]);
  const reference = referenceOf(image['reference'], isShort ? at : `${at}.reference`);
  const own = settingsOf(image, `${at}.`, host);
  const policy = own.policy ?? common.policy ?? 'IfNotPresent';
  for (const field of ['interval', 'schedule', 'jitter'] as const) {
    if (own[field] !== undefined && policy !== 'Always') {
      throw wrong(`${at}.${field}`, 'only images with "pullPolicy": "Always" are checked again');
    }
  }
  const platform = own.platform ?? common.platform;
  return {
    reference,
    name: familiarString(reference),
    platform,
    platformName: platform === undefined ? '' : formatPlatform(platform),
    policy,
    // What a digest names never changes.
    cadence: policy === 'Always' && reference.digest === undefined ? cadenceOf(own, common) : undefined,
    credentials: own.credentials ?? common.credentials,
  };
}

/** An image's own interval or schedule goes before either of the set's. */
function cadenceOf(own: Settings, common: Settings): Cadence {
  const from = (own.interval ?? own.schedule) === undefined ? common : own;
  const jitter = own.jitter ?? common.jitter;
  return from.schedule === undefined
    ? { interval: from.interval ?? STANDARD_INTERVAL, jitter }
    : { schedule: from.schedule, jitter };
}

function settingsOf(object: Readonly<Record<string, unknown>>, prefix: string, host: Platform): Settings {
  const text = <T>(field: string, check: (value: string) => T): T | undefined => {
    const value = object[field];
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw wrong(prefix + field, 'expected a text');
    try {
      return check(value);
    } catch (error) {
      throw wrong(prefix + field, messageOf(error));
    }
  };
  const settings = {
    platform: text('platform', (value) => parsePlatform(value, host)),
    policy: text('pullPolicy', policyOf),
    interval: text('interval', (value) => spanOf(value, MIN_INTERVAL, MAX_INTERVAL, '1s to 8760h')),
    schedule: text('schedule', (value) => {
      checkSchedule(value);
      return value;
    }),
    jitter: text('jitter', (value) => spanOf(value, 0, MAX_JITTER, '0s to 24h')),
    credentials: text('credentials', credentialsName),
  };
  if (settings.interval !== undefined && settings.schedule !== undefined) {
    throw wrong(`${prefix}schedule`, 'there is an interval, too: give one of them');
  }
  return settings;
}

function referenceOf(value: unknown, at: string): Reference {
  if (typeof value !== 'string') throw wrong(at, 'expected a reference, such as "redis:7"');
  try {
    const reference = withDefaultTag(parseReference(value));
    // Of one with both the digest decides; the tag would only say what it once was.
    const { digest } = reference;
    return digest === undefined ? reference : { ...reference, tag: undefined, digest: storableDigest(digest) };
  } catch (error) {
    throw wrong(at, messageOf(error));
  }
}

function policyOf(value: string): PullPolicy {
  const policy = POLICIES.find((each) => each === value);
  if (policy === undefined) throw new Error(`expected ${POLICIES.join(' or ')}, not ${JSON.stringify(value)}`);
  return policy;
}

function spanOf(value: string, min: number, max: number, range: string): number {
  const nanoseconds = parseDuration(value);
  const milliseconds = nanoseconds === undefined ? NaN : Number(nanoseconds / NANOSECONDS_PER_MILLISECOND);
  if (milliseconds >= min && milliseconds <= max) return milliseconds;
  throw new Error(`expected a span of time from ${range}, such as 90s or 12h, not ${JSON.stringify(value)}`);
}

function credentialsName(value: string): string {
  if (isName(value)) return value;
  throw new Error(`expected the name of a file in credentials-dir without .json: ${NAME_RULE}`);
}

function refuseUnknown(object: object, prefix: string, known: readonly string[]): void {
  const unknown = Object.keys(object).filter((key) => !known.includes(key));
  const [first] = unknown;
  if (first === undefined) return;
  throw wrong(unknown.map((key) => prefix + key).join(', '), `unknown; expected ${known.join(', ')}`);
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const wrong = (field: string, message: string): LayerdError => new LayerdError('invalid', `field ${field}: ${message}`);
