import type { Digest } from '../../protocol/digest.ts';
import { isKind } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import { only } from '../images/platform.ts';
import type { ImageStore, ManifestRow } from '../images/store.ts';

/** The stored manifest of a target that is for a platform, else the host's best; undefined where there is none. */
export function storedManifest(
  store: ImageStore,
  target: Digest,
  { platform, host }: { readonly platform: Platform | undefined; readonly host: Platform },
): Digest | undefined {
  if (platform !== undefined) {
    try {
      return store.manifestsFor({ target, listedId: target, byId: false }, target, platform)[0].digest;
    } catch (error) {
      if (isKind(error, 'not-found')) return undefined;
      throw error;
    }
  }
  const matcher = only(host);
  // Of a target that is no index it is what a pull takes, whatever it is for; so it is of what states no platform.
  const rank = ({ digest, platform: stated }: ManifestRow): number | undefined =>
    digest === target || stated === undefined ? Infinity : matcher.rank(stated);
  const fitting = store
    .manifests(target)
    .filter((manifest) => manifest.kind !== 'attestation')
    .flatMap((manifest) => {
      const ranked = rank(manifest);
      return ranked === undefined ? [] : [{ manifest, ranked }];
    });
  return fitting.toSorted((one, other) => (one.ranked < other.ranked ? -1 : 1))[0]?.manifest.digest;
}
