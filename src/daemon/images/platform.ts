import { LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, Platform } from '../../protocol/oci.ts';

/** Parses a platform as users write it: `linux/arm64`, `arm/v7`, `windows(10.0.17763)/amd64`. Missing parts are the host's. */
export function parsePlatform(_specifier: string, _host: Platform): Platform {
  throw new LayerdError('not-implemented', 'parsePlatform');
}

/** The JSON form of a platform that newer Engine API versions have in a query parameter. */
export function decodePlatform(_json: string): Platform {
  throw new LayerdError('not-implemented', 'decodePlatform');
}

/** `linux/arm/v7`, with the os.version where there is one. */
export function formatPlatform(_platform: Platform): string {
  throw new LayerdError('not-implemented', 'formatPlatform');
}

export function normalizePlatform(_platform: Platform): Platform {
  throw new LayerdError('not-implemented', 'normalizePlatform');
}

/** What runs on the host, best first; containerd's `Only`. */
export function only(_platform: Platform): PlatformMatcher {
  throw new LayerdError('not-implemented', 'only');
}

/** What a user asked for by name, and nothing else; containerd's `OnlyStrict`. */
export function onlyStrict(_platform: Platform): PlatformMatcher {
  throw new LayerdError('not-implemented', 'onlyStrict');
}

export interface PlatformMatcher {
  /** 0 for the best match, then 1, 2, …; undefined where the platform does not fit. */
  rank(platform: Platform): number | undefined;
}

/**
 * Chooses among an index's manifests (nested indexes already taken apart) the one for the wanted platform, or else for
 * the host. Throws `not-found` with the platforms there are.
 */
export function choosePlatform(_candidates: readonly Descriptor[], _host: Platform, _wanted?: Platform): Descriptor {
  throw new LayerdError('not-implemented', 'choosePlatform');
}

/** Whether a descriptor of an index is an attestation, which is never a platform. */
export function isAttestation(_descriptor: Descriptor): boolean {
  throw new LayerdError('not-implemented', 'isAttestation');
}

/** The platform of this machine. */
export function hostPlatform(): Platform {
  throw new LayerdError('not-implemented', 'hostPlatform');
}
