import { tlsFiles, type Config } from '../config/config.ts';
import { formatHost } from '../config/host.ts';
import type { EventLogLimits } from '../events/log.ts';
import type { AdmissionSettings } from '../images/admission.ts';
import type { GcPolicy } from '../images/gc/policy.ts';
import type { ScrubSettings } from '../images/scrub.ts';
import type { RegistryOptions } from '../registry/registry.ts';
import type { SignaturePolicy } from '../signatures/policy.ts';
import type { TransferLimits } from '../transfers/limits.ts';
import { ANY_REGISTRY } from '../transfers/queue.ts';

const NANOSECONDS_PER_MILLISECOND = 1_000_000n;

/** The limits of the log of events. */
export function eventLimits({ eventsMaxAge, eventsMaxCount, eventsMaxSize }: Config): EventLogLimits {
  return { age: BigInt(eventsMaxAge) * NANOSECONDS_PER_MILLISECOND, events: eventsMaxCount, bytes: eventsMaxSize };
}

/** When and how fast the store is read again. */
export function scrubSettings({ scrubInterval, scrubRate, scrubHours }: Config): ScrubSettings {
  return { interval: scrubInterval, rate: scrubRate, hours: scrubHours };
}

/** The limits of transfers. */
export function transferLimits(config: Config): TransferLimits {
  return {
    downloads: {
      total: config.maxConcurrentDownloads,
      registries: byRegistry(config.maxDownloadsPerRegistry),
      bandwidth: config.downloadBandwidth,
    },
    uploads: {
      total: config.maxConcurrentUploads,
      registries: byRegistry(config.maxUploadsPerRegistry),
      bandwidth: config.uploadBandwidth,
    },
  };
}

const byRegistry = (limits: Config['maxDownloadsPerRegistry']): Record<string, number> =>
  Object.fromEntries(limits.map(({ registry = ANY_REGISTRY, count }) => [registry, count]));

/** When images are collected. */
export function gcPolicy(config: Config): GcPolicy {
  return {
    highThreshold: config.imageGcHighThreshold,
    lowThreshold: config.imageGcLowThreshold,
    minimumAge: config.imageGcMinimumAge,
    maximumAge: config.imageGcMaximumAge,
    localImages: config.imageGcLocalImages,
  };
}

/** Which images are admitted. */
export function admissionSettings(
  { signatureLookasides }: Config,
  policy: SignaturePolicy | undefined,
): AdmissionSettings {
  return { policy, lookasides: signatureLookasides.map(({ scope, url }) => ({ scope, url })) };
}

/** How registries are spoken to. */
export function registryOptions(config: Config, version: string): RegistryOptions {
  return {
    insecureRegistries: config.insecureRegistries,
    mirrors: config.registryMirrors,
    certsDirs: config.certsDirs,
    maxAttempts: config.maxDownloadAttempts,
    proxies: proxiesOf(config),
    userAgent: `layerd/${version} (linux)`,
  };
}

/** What `docker info` tells of the configuration. */
export function systemConfig(config: Config) {
  const { debug, insecureRegistries, registryMirrors } = config;
  return { debug, insecureRegistries, mirrors: registryMirrors, proxies: proxiesOf(config) };
}

/** Warns of listeners through which anybody who reaches them is root. */
export function openListeners(config: Config): string[] {
  if (tlsFiles(config) !== undefined) return [];
  return config.hosts.flatMap((host) =>
    host.kind === 'tcp'
      ? [
          `WARNING: API is accessible on ${formatHost(host)} without encryption; whoever reaches it is as powerful as root here`,
        ]
      : [],
  );
}

function proxiesOf({ httpProxy, httpsProxy, noProxy }: Config): RegistryOptions['proxies'] {
  return {
    ...(httpProxy === undefined ? {} : { http: httpProxy }),
    ...(httpsProxy === undefined ? {} : { https: httpsProxy }),
    ...(noProxy === undefined ? {} : { no: noProxy }),
  };
}
