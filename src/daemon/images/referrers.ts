import type { ReferrerReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import { canonicalName, familiarName, parseAnyReference } from '../../protocol/reference.ts';
import type { Registries, RequestOptions } from '../registry/registry.ts';
import type { ImageStore } from './store.ts';

export interface ReferrersRequest extends RequestOptions {
  /** Ask for what refers to that platform's manifest, instead of the target that the image was pulled by. */
  readonly platform: Platform | undefined;
  readonly artifactType: string | undefined;
}

/**
 * What refers to a stored image, as the registry says that the image is known in by its digest: the repository that the
 * user named, or else the first of those.
 */
export async function imageReferrers(
  store: ImageStore,
  registries: Pick<Registries, 'referrers'>,
  name: string,
  { platform, ...options }: ReferrersRequest,
): Promise<ReferrerReport> {
  const found = store.resolve(name, platform);
  const known = store.names(found.listedId).flatMap(({ reference, target }) => {
    return reference.digest === undefined ? [] : [{ repository: reference, target }];
  });
  const { reference } = parseAnyReference(name);
  const named = known.find(
    ({ repository, target }) =>
      target === found.target && reference !== undefined && canonicalName(repository) === canonicalName(reference),
  );
  const { repository, target } = named ?? known.find((each) => each.target === found.target) ?? known[0] ?? {};
  if (repository === undefined || target === undefined) {
    throw new LayerdError(
      'not-found',
      `no registry is known to have ${name}: it was neither pulled nor pushed, so that nothing can refer to it`,
    );
  }
  const digest = platform === undefined ? target : found.manifest;
  const { registry, path } = repository;
  const referrers = await registries.referrers({ registry, path }, digest, options);
  return { repository: familiarName(repository), digest, referrers };
}
