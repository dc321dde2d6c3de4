import { readFileSync } from 'node:fs';
import { LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, Platform } from '../../protocol/oci.ts';

/** Go's names of operating systems and architectures, which a specifier of one part is looked up in. */
const KNOWN_OS: ReadonlySet<string> = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
);
const KNOWN_ARCHITECTURES: ReadonlySet<string> = new Set(
  (
    '386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 ' +
    'ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm'
  ).split(' '),
);

/** Go's names of what Node calls otherwise. */
const NODE_ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['x64', 'amd64'],
  ['ia32', '386'],
  ['ppc64', 'ppc64le'],
  ['mipsel', 'mipsle'],
]);

/** The build from which Windows runs containers of older builds too, and the long-term releases that bound how old. */
const WINDOWS_SERVER_2022 = 20348;
const WINDOWS_LONG_TERM_BUILDS: readonly number[] = [26100, WINDOWS_SERVER_2022];

const OS_PART = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/;
const OTHER_PART = /^[A-Za-z0-9_.-]+$/;

/** Fits platforms to what is wanted, the way of containerd's platforms package. */
export interface PlatformMatcher {
  /** 0 for the best fit, then 1, 2, …; undefined where the platform does not fit. */
  rank(platform: Platform): number | undefined;
}

/**
 * Parses a platform as users write it: `linux/arm64`, `arm64`, `linux/arm/v7`, `windows(10.0.17763)/amd64`. What a
 * specifier of one part leaves out is the host's. Throws `invalid`.
 */
export function parsePlatform(specifier: string, host: Platform): Platform {
  const [first = '', ...rest] = specifier.split('/');
  const options = OS_PART.exec(first);
  const odd = options === null ? first : rest.find((part) => !OTHER_PART.test(part));
  if (options === null || odd !== undefined || rest.length > 2) {
    throw new LayerdError(
      'invalid',
      odd === undefined
        ? `"${specifier}": cannot parse platform specifier: it has the form os/architecture/variant, such as linux/arm/v7`
        : `"${odd}" is an invalid component of "${specifier}": a platform has the form os/architecture/variant, such as linux/arm/v7`,
    );
  }
  const os = normalizeOs(options[1] ?? '');
  const version = decodeOption(options[2] ?? '', specifier);
  const features = (options[3] ?? '')
    .split('+')
    .slice(1)
    .map((feature) => decodeOption(feature, specifier));
  const platform = {
    os,
    ...(version === '' ? {} : { 'os.version': version }),
    ...(features.length === 0 ? {} : { 'os.features': features }),
  };
  const [architecture, variant] = rest;
  if (architecture === undefined) {
    if (KNOWN_OS.has(os)) {
      const hostVariant = host.architecture === 'arm' && host.variant !== 'v7' ? host.variant : undefined;
      return withVariant({ ...platform, architecture: host.architecture }, hostVariant);
    }
    const normal = normalizeArchitecture(first, '');
    if (KNOWN_ARCHITECTURES.has(normal.architecture)) return withoutDefaultVariant({ os: host.os, ...normal });
    throw new LayerdError('invalid', `"${specifier}": unknown operating system or architecture`);
  }
  const normal = { ...platform, ...normalizeArchitecture(architecture, variant ?? '') };
  if (variant === undefined) return withoutDefaultVariant(normal);
  return normal.architecture === 'arm64' && normal.variant === undefined ? { ...normal, variant: 'v8' } : normal;
}

/**
 * Parses the JSON form that newer versions of the Engine API have in a query parameter:
 * `{"os": "linux", "architecture": "arm64"}`. Throws `invalid`.
 */
export function decodePlatform(json: string): Platform {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new LayerdError('invalid', `failed to parse platform: ${json} is not JSON`, { cause: error });
  }
  const isText = (field: unknown): field is string => typeof field === 'string';
  const {
    os,
    architecture,
    variant,
    'os.version': version,
    'os.features': features,
  } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  if (!isText(os) || !isText(architecture) || os === '' || architecture === '') {
    throw new LayerdError('invalid', `failed to parse platform: both os and architecture must be given, not ${json}`);
  }
  return {
    os,
    architecture,
    ...(isText(variant) && variant !== '' ? { variant } : {}),
    ...(isText(version) && version !== '' ? { 'os.version': version } : {}),
    ...(Array.isArray(features) && features.length > 0 ? { 'os.features': features.filter(isText) } : {}),
  };
}

/** `linux/arm/v7`; with the version of the operating system where there is one, `windows(10.0.17763)/amd64`. */
export function formatPlatform(platform: Platform): string {
  if (platform.os === '') return 'unknown';
  const options = [platform['os.version'] ?? '', ...(platform['os.features'] ?? []).toSorted()]
    .map((option) => option.replace(/[%+()/]/g, percentEncode))
    .join('+');
  const os = options === '' ? platform.os : `${platform.os}(${options})`;
  return [os, platform.architecture, platform.variant ?? ''].filter((part) => part !== '').join('/');
}

/** The platform in the names that comparisons use: `Linux/aarch64/v8` is linux/arm64, `linux/arm` is linux/arm/v7. */
export function normalizePlatform(platform: Platform): Platform {
  const { variant: _, ...rest } = platform;
  const features = platform['os.features'];
  return {
    ...rest,
    os: normalizeOs(platform.os),
    ...normalizeArchitecture(platform.architecture, platform.variant ?? ''),
    ...(features === undefined ? {} : { 'os.features': [...new Set(features)].toSorted() }),
  };
}

/**
 * Fits what a machine of the platform can run, its own platform best (containerd's `Only`): arm64 runs 32-bit ARM down
 * to v5, ARM v7 runs v6 and v5, amd64 runs lower levels and 386.
 */
export function only(platform: Platform): PlatformMatcher {
  return new OrderedMatcher(runnable(normalizePlatform(platform)));
}

/** Fits the platform alone, in any of its names (containerd's `OnlyStrict`): what a user asks for by name. */
export function onlyStrict(platform: Platform): PlatformMatcher {
  return new OrderedMatcher([normalizePlatform(platform)]);
}

/**
 * Whether an image whose config states the platform `stated` is one for the wanted platform. A config often leaves out
 * the variant that the index states, so one without a variant fits every variant of its architecture.
 */
export function provides(stated: Platform, wanted: Platform): boolean {
  const matcher = onlyStrict(wanted);
  if (matcher.rank(stated) !== undefined) return true;
  return (stated.variant ?? '') === '' && matcher.rank(withVariant(stated, wanted.variant)) !== undefined;
}

/**
 * Chooses among an index's manifests (those of nested indexes included by the caller) the one for the wanted platform,
 * or else the best for the host. One that states no platform is taken when none that does fits. Throws `not-found`,
 * saying which platforms there are.
 */
export function choosePlatform(manifests: readonly Descriptor[], host: Platform, wanted?: Platform): Descriptor {
  const images = manifests.filter((manifest) => !isAttestation(manifest));
  const matcher = wanted === undefined ? only(host) : onlyStrict(wanted);
  let best: { manifest: Descriptor; rank: number } | undefined;
  for (const manifest of images) {
    const rank = manifest.platform === undefined ? Infinity : matcher.rank(manifest.platform);
    if (rank !== undefined && (best === undefined || rank < best.rank)) best = { manifest, rank };
  }
  if (best !== undefined) return best.manifest;
  const stated = images.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  throw new LayerdError(
    'not-found',
    `no matching manifest for ${formatPlatform(wanted ?? host)} in the manifest list entries` +
      (stated.length === 0 ? ', which has no image at all' : `; it has ${[...new Set(stated)].join(', ')}`),
  );
}

/** Whether a descriptor of an index is an attestation (provenance, SBOM), which is never a platform. */
export function isAttestation({ annotations, platform }: Pick<Descriptor, 'annotations' | 'platform'>): boolean {
  return (
    annotations?.['vnd.docker.reference.type'] === 'attestation-manifest' ||
    (platform?.os === 'unknown' && platform.architecture === 'unknown')
  );
}

/** The platform of this machine. Reads /proc/cpuinfo for the variant of an ARM processor. */
export function hostPlatform(): Platform {
  const architecture = NODE_ARCHITECTURES.get(process.arch) ?? process.arch;
  const platform = { os: process.platform, architecture };
  if (architecture !== 'arm' && architecture !== 'arm64') return platform;
  return withVariant(platform, armVariant(architecture, readFileSync('/proc/cpuinfo', 'utf8')));
}

/** The variant of an ARM processor by what /proc/cpuinfo says of it; undefined where it does not say. */
export function armVariant(architecture: 'arm' | 'arm64', cpuinfo: string): string | undefined {
  const field = (name: string): string =>
    new RegExp(`^${name}\\s*:\\s*(.*)$`, 'im').exec(cpuinfo)?.[1]?.trim().toLowerCase() ?? '';
  const version = field('CPU architecture');
  if (version === 'aarch64') return 'v8';
  // The first Raspberry Pi says 7 and has a processor of version 6.
  if (version === '7' && /^armv6-compatible/.test(field('model name'))) return 'v6';
  const number = /^[0-9]+/.exec(version)?.[0];
  if (number === undefined) return architecture === 'arm64' ? 'v8' : undefined;
  return `v${number}`;
}

/** What fits, best first. */
class OrderedMatcher implements PlatformMatcher {
  readonly #platforms: readonly Platform[];

  constructor(platforms: readonly Platform[]) {
    this.#platforms = platforms;
  }

  rank(platform: Platform): number | undefined {
    const normal = normalizePlatform(platform);
    const index = this.#platforms.findIndex((wanted) => fits(wanted, normal));
    return index < 0 ? undefined : index;
  }
}

/** Whether one platform is the other, and needs no feature of the system that the wanted one lacks; both are normalised. */
function fits(wanted: Platform, platform: Platform): boolean {
  return (
    wanted.os === platform.os &&
    wanted.architecture === platform.architecture &&
    wanted.variant === platform.variant &&
    (wanted.os !== 'windows' || runsOnWindows(wanted['os.version'] ?? '', platform['os.version'] ?? '')) &&
    (platform['os.features'] ?? []).every((feature) => wanted['os.features']?.includes(feature) ?? false)
  );
}

/** Whether a Windows of version `host` runs containers of version `container`; one that is not stated fits all. */
function runsOnWindows(host: string, container: string): boolean {
  const [hostMajor, hostMinor, hostBuild = 0] = versionNumbers(host);
  const [major, minor, build = 0] = versionNumbers(container);
  if (hostMajor === undefined || major === undefined) return true;
  if (hostMajor !== major || hostMinor !== minor) return false;
  if (hostBuild < WINDOWS_SERVER_2022) return hostBuild === build;
  const oldest = WINDOWS_LONG_TERM_BUILDS.find((longTerm) => hostBuild > longTerm) ?? WINDOWS_SERVER_2022;
  return oldest <= build && build <= hostBuild;
}

/** Major, minor and build of `10.0.17763.1`; nothing for another form. */
function versionNumbers(version: string): number[] {
  return (/^(\d+)\.(\d+)\.(\d+)(?:\.|$)/.exec(version)?.slice(1) ?? []).map(Number);
}

/** The platforms that a machine of the normalised platform runs, its own first. */
function runnable(platform: Platform): Platform[] {
  switch (platform.architecture) {
    case 'amd64': {
      const level = variantNumber(platform.variant);
      const lower = descending(level - 1, 1).map((lowerLevel) => `v${lowerLevel}`);
      return [
        platform,
        ...lower.map((variant) => normalizePlatform({ ...platform, variant })),
        withVariant({ ...platform, architecture: '386' }, undefined),
      ];
    }
    case 'arm': {
      const lower = descending(variantNumber(platform.variant) - 1, 5);
      return [platform, ...lower.map((version) => ({ ...platform, variant: `v${version}` }))];
    }
    case 'arm64':
      return [
        platform,
        ...lowerArm64(platform.variant ?? 'v8').map((variant) => normalizePlatform({ ...platform, variant })),
        ...runnable({ ...platform, architecture: 'arm', variant: arm32Variant(platform.variant ?? 'v8') }),
      ];
    default:
      return [platform];
  }
}

/** The 64-bit ARM variants below one: v9.x runs v9.x-1 and so on, and v8.x+5, from which v9 came, and below. */
function lowerArm64(variant: string): string[] {
  const [major = 0, minor = 0] = (/^v(\d+)(?:\.(\d))?$/.exec(variant)?.slice(1) ?? []).map((part) => Number(part));
  const below = Number.isNaN(minor) ? 0 : minor;
  if (major === 9) {
    return [...descending(below - 1, 0).map((lower) => `v9.${lower}`), ...descending(below + 5, 0).map(toV8)];
  }
  return major === 8 ? descending(below - 1, 0).map(toV8) : [];
}

const toV8 = (minor: number): string => `v8.${minor}`;

/** The 32-bit variant that a 64-bit processor runs. */
const arm32Variant = (variant: string): string => (/^v[89]\./.test(variant) ? 'v8' : variant);

/** The number of a variant `v3`; 0 where it has another form. */
function variantNumber(variant: string | undefined): number {
  return Number(/^v?(\d+)$/.exec(variant ?? '')?.[1] ?? 0);
}

function descending(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, from - to + 1) }, (_, index) => from - index);
}

function normalizeOs(os: string): string {
  const lower = os.toLowerCase();
  return lower === 'macos' ? 'darwin' : lower;
}

/** The architecture and variant in Go's names; the most common variant of amd64 and arm64 is left out. */
function normalizeArchitecture(architecture: string, variant: string): Pick<Platform, 'architecture' | 'variant'> {
  const given = variant.toLowerCase();
  const lower = architecture.toLowerCase();
  switch (lower) {
    case 'i386':
      return { architecture: '386' };
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return named('amd64', given === 'v1' ? '' : given);
    case 'aarch64':
    case 'arm64':
      if (['8', 'v8', '8.0', 'v8.0'].includes(given)) return named('arm64', '');
      return named('arm64', ['9', '9.0', 'v9.0'].includes(given) ? 'v9' : given);
    case 'armhf':
      return named('arm', 'v7');
    case 'armel':
      return named('arm', 'v6');
    case 'arm':
      return named('arm', given === '' ? 'v7' : /^[5-8]$/.test(given) ? `v${given}` : given);
    default:
      return named(lower, given);
  }
}

function named(architecture: string, variant: string): Pick<Platform, 'architecture' | 'variant'> {
  return variant === '' ? { architecture } : { architecture, variant };
}

/** The most common variant of 32-bit ARM is left out where the user did not give one. */
function withoutDefaultVariant(platform: Platform): Platform {
  return platform.architecture === 'arm' && platform.variant === 'v7' ? withVariant(platform, undefined) : platform;
}

function withVariant(platform: Platform, variant: string | undefined): Platform {
  const { variant: _, ...rest } = platform;
  return variant === undefined ? rest : { ...rest, variant };
}

/** An option of an operating system in its plain form; characters with a meaning in a specifier are percent-encoded. */
function decodeOption(option: string, specifier: string): string {
  try {
    return decodeURIComponent(option);
  } catch (error) {
    throw new LayerdError('invalid', `"${specifier}" has an invalid option "${option}" of its operating system`, {
      cause: error,
    });
  }
}

const percentEncode = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
