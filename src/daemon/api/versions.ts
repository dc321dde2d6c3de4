import { LayerdError } from '../../protocol/errors.ts';

/** A version of the Engine API: the minor number of 1.x. */
export type ApiVersion = number;

/** The version whose definition the bodies of this daemon follow, spoken when a client names none. */
export const NEWEST: ApiVersion = 56;
/** The oldest version that is served: the clients of Debian 12 speak 1.22, and the bodies have not changed since 1.12. */
export const OLDEST: ApiVersion = 12;

export const versionText = (version: ApiVersion): string => `1.${version}`;

const PREFIX = /^\/v([0-9.]+)(?=\/|\?|$)/;
const VERSION = /^(\d{1,6})\.(\d{1,6})$/;

/** Splits a request target into the version that its prefix names, if any, and the target below it. */
export function splitVersion(target: string): { version: string | undefined; rest: string } {
  const match = PREFIX.exec(target);
  if (match === null) return { version: undefined, rest: target };
  const rest = target.slice(match[0].length);
  return { version: match[1], rest: rest.startsWith('/') ? rest : `/${rest}` };
}

/**
 * The version of a prefix, in dockerd's words when it cannot be served, since clients recognise them and speak another.
 *
 * @throws LayerdError of kind `invalid`
 */
export function parseVersion(text: string): ApiVersion {
  const match = VERSION.exec(text);
  if (match === null) {
    throw new LayerdError(
      'invalid',
      `malformed API version "${text}" in the path: expected major.minor, such as v1.${NEWEST}`,
    );
  }
  const [major, minor] = [Number(match[1]), Number(match[2])];
  if (major > 1 || (major === 1 && minor > NEWEST)) {
    throw new LayerdError(
      'invalid',
      `client version ${text} is too new. Maximum supported API version is ${versionText(NEWEST)}`,
    );
  }
  if (major < 1 || minor < OLDEST) {
    throw new LayerdError(
      'invalid',
      `client version ${text} is too old. Minimum supported API version is ${versionText(OLDEST)}, please upgrade your client to a newer version`,
    );
  }
  return minor;
}

/**
 * The version from which on a parameter is understood; sent in an older one it is ignored, as by dockerd. An operation is
 * refused before its version.
 */
export const Since = {
  pullPlatform: 32,
  sharedSize: 42,
  usageTypes: 42,
  pushPlatform: 46,
  listManifests: 47,
  inspectManifests: 48,
  historyPlatform: 48,
  savePlatform: 48,
  loadPlatform: 48,
  inspectPlatform: 49,
  deletePlatforms: 50,
  usageTotals: 52,
  identity: 54,
  attestations: 55,
} as const satisfies Record<string, ApiVersion>;

/** From this version on the list of images no longer takes a reference as `filter`, beside `filters`. */
export const NO_SINGLE_FILTER: ApiVersion = 41;
/** Before this version errors are plain text. */
export const JSON_ERRORS: ApiVersion = 24;
