import { isDigest, type Digest } from '../../protocol/digest.ts';
import type { ImageIdentity, ManifestSummary } from '../../protocol/engine.ts';
import { isIndexType } from '../../protocol/media-types.ts';
import type { Descriptor, Index, Platform } from '../../protocol/oci.ts';
import { MAX_INDEX_DEPTH } from '../registry/manifest.ts';
import { isAttestation } from './platform.ts';
import type { Image } from './image.ts';
import type { FoundImage, ImageStore, ManifestRow } from './store.ts';

/** Where an attestation says what it attests. */
export const ATTESTED_DIGEST = 'vnd.docker.reference.digest';
const UNSTATED: Platform = { os: '', architecture: '' };

/**
 * The manifests of an image: all that its index lists, stored or not; of a plain manifest that one. They are stored where
 * any target of the image holds them, since all of its targets are one image to the user. `identity` is the image's, and
 * told of each of its manifests that is one for a platform.
 */
export async function manifestSummaries(
  store: ImageStore,
  image: Pick<Image, 'target' | 'mediaType' | 'bytes'> & Pick<FoundImage, 'listedId'>,
  identity?: ImageIdentity,
): Promise<ManifestSummary[]> {
  const stored = new Map(store.storedManifests(image.listedId).map((manifest) => [manifest.digest, manifest]));
  const target = { mediaType: image.mediaType, digest: image.target, size: image.bytes };
  const descriptors = isIndexType(image.mediaType) ? await listedManifests(store, target.digest) : [target];
  return descriptors.map((descriptor) => summary(descriptor, stored.get(descriptor.digest), identity));
}

/** What each attestation is about, by what the indexes among the targets say: manifests by their digests. */
export async function attestedDigests(
  store: ImageStore,
  targets: Iterable<Digest>,
): Promise<ReadonlyMap<Digest, ReadonlySet<Digest>>> {
  const attested = new Map<Digest, Set<Digest>>();
  for (const target of targets) {
    for (const descriptor of await listedManifests(store, target)) {
      const about = descriptor.annotations?.[ATTESTED_DIGEST];
      if (!isAttestation(descriptor) || !isDigest(about)) continue;
      attested.set(descriptor.digest, (attested.get(descriptor.digest) ?? new Set()).add(about));
    }
  }
  return attested;
}

/** The manifests that an index lists, with those of the indexes in it that are stored. */
export async function listedManifests(store: ImageStore, index: Digest, depth = 1): Promise<Descriptor[]> {
  const { manifests = [] } = await store.documents.read<Index>(index);
  const lists = await Promise.all(
    manifests.map(async (descriptor) => {
      if (!isIndexType(descriptor.mediaType) || depth === MAX_INDEX_DEPTH || !store.hasBlob(descriptor.digest)) {
        return [descriptor];
      }
      return listedManifests(store, descriptor.digest, depth + 1);
    }),
  );
  return lists.flat();
}

function summary(
  descriptor: Descriptor,
  stored: ManifestRow | undefined,
  identity: ImageIdentity | undefined,
): ManifestSummary {
  const unpacked = stored?.size ?? 0;
  const content = stored?.contentSize ?? 0;
  const common = {
    ID: descriptor.digest,
    Descriptor: descriptor,
    Available: stored !== undefined,
    Size: { Content: content, Total: content + unpacked },
  };
  if (isAttestation(descriptor) || stored?.kind === 'attestation') {
    const attested = descriptor.annotations?.[ATTESTED_DIGEST];
    return isDigest(attested)
      ? { ...common, Kind: 'attestation', AttestationData: { For: attested } }
      : { ...common, Kind: 'unknown' };
  }
  if (isIndexType(descriptor.mediaType) || stored?.kind === 'artifact') return { ...common, Kind: 'unknown' };
  const platform = descriptor.platform ?? stored?.platform ?? UNSTATED;
  return {
    ...common,
    Kind: 'image',
    ImageData: {
      Platform: platform,
      ...(identity === undefined ? {} : { Identity: identity }),
      Containers: [],
      Size: { Unpacked: unpacked },
    },
  };
}
