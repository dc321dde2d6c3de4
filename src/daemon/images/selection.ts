import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isImageConfigType, isIndexType, isManifestType } from '../../protocol/media-types.ts';
import type { Descriptor, Index, Manifest, Platform } from '../../protocol/oci.ts';
import { isIndex, MAX_INDEX_DEPTH, parseManifest } from '../registry/manifest.ts';
import type { RemoteManifest } from '../registry/registry.ts';
import { isAttestation } from './platform.ts';

/** Indexes inside an index that are followed in all; an index must not make the daemon fetch without end. */
export const MAX_NESTED_INDEXES = 16;

/** A manifest as served, and parsed. */
export type SelectedManifest = RemoteManifest & { readonly manifest: Manifest };

/** Manifests that are selected beside the chosen one, in bytes of all together: 64 MiB. */
const MAX_SELECTED_BYTES = 64 * 1024 * 1024;

/** What makes up an image, chosen out of what a reference names. */
export interface Selection {
  /** Every index and manifest of it, as served; the target first. */
  readonly documents: RemoteManifest[];
  /** The manifest for the platform. */
  readonly chosen: SelectedManifest;
  /** What attests to it, or to another that is selected. */
  readonly attestations: SelectedManifest[];
  /** The other manifests of an index of which everything is selected. */
  readonly others: SelectedManifest[];
}

/** Gets a manifest or index by its descriptor. */
export type GetDocument = (descriptor: Descriptor) => Promise<RemoteManifest>;

/** Picks one of the manifests that were found; throws when none fits, saying which platforms exist. */
export type Choose = (candidates: readonly Descriptor[], getDocument: GetDocument) => Descriptor | Promise<Descriptor>;

/**
 * Selects what is to be stored of a target: the target, the indexes on the way, the one manifest that `choose` picks among
 * the images listed, and the attestations about it; or all manifests. Artifacts and attestations are never candidates for a
 * platform.
 */
export async function select(
  target: RemoteManifest,
  getDocument: GetDocument,
  choose: Choose,
  options: { readonly all?: boolean } = {},
): Promise<Selection> {
  const parsed = parseManifest(target.bytes, target.descriptor.mediaType);
  if (!isIndex(parsed)) {
    return { documents: [target], chosen: { ...target, manifest: parsed }, attestations: [], others: [] };
  }
  const indexes = [target];
  const listed = await flatten(parsed, getDocument, indexes, 1);
  const candidates = listed.filter(
    (descriptor) =>
      isManifestType(descriptor.mediaType) && !isAttestation(descriptor) && descriptor.artifactType === undefined,
  );
  const picked = await choose(candidates, getDocument);
  const chosen = await getManifest(picked, getDocument);
  const attestations: SelectedManifest[] = [];
  const others: SelectedManifest[] = [];
  const selected = new Set([picked.digest]);
  let bytes = 0;
  for (const descriptor of listed) {
    const isAbout = isAttestation(descriptor) && (options.all === true || attestedBy(descriptor) === picked.digest);
    const isOther = options.all === true && !isAttestation(descriptor);
    // One attestation may be listed for each of several manifests that it is about.
    if (selected.has(descriptor.digest) || !(isAbout || isOther)) continue;
    selected.add(descriptor.digest);
    const found = await getManifest(descriptor, getDocument);
    // They are all in memory until they are stored.
    bytes += found.bytes.byteLength;
    if (bytes > MAX_SELECTED_BYTES) {
      throw new LayerdError('invalid', `the manifests of the index have more than ${MAX_SELECTED_BYTES} bytes in all`);
    }
    (isAbout ? attestations : others).push(found);
  }
  return { documents: [...indexes, chosen, ...others, ...attestations], chosen, attestations, others };
}

/** The candidates with the platforms that the index states; where it states none, with those in the configs. */
export async function statePlatforms(
  candidates: readonly Descriptor[],
  getDocument: GetDocument,
  platformOfConfig: (config: Descriptor) => Promise<Platform>,
): Promise<Descriptor[]> {
  const stated: Descriptor[] = [];
  for (const candidate of candidates) {
    if (candidate.platform !== undefined) {
      stated.push(candidate);
      continue;
    }
    const { bytes } = await getDocument(candidate);
    const manifest = parseManifest(bytes, candidate.mediaType);
    const isImage = !isIndex(manifest) && isImageConfigType(manifest.config.mediaType);
    const platform = isImage ? await platformOfConfig(manifest.config) : { os: 'unknown', architecture: 'unknown' };
    stated.push({ ...candidate, platform });
  }
  return stated;
}

/** The manifests that an index and the indexes inside it list. */
async function flatten(
  index: Index,
  getDocument: GetDocument,
  indexes: RemoteManifest[],
  depth: number,
): Promise<Descriptor[]> {
  const listed: Descriptor[] = [];
  for (const descriptor of index.manifests) {
    if (!isIndexType(descriptor.mediaType)) {
      listed.push(descriptor);
      continue;
    }
    // An index that holds itself, or a tower of them, would be followed for ever.
    if (depth === MAX_INDEX_DEPTH || indexes.length > MAX_NESTED_INDEXES) {
      throw new LayerdError(
        'invalid',
        `the index nests more than ${MAX_INDEX_DEPTH} deep or holds more than ${MAX_NESTED_INDEXES} indexes; layerd refuses to follow it`,
      );
    }
    const nested = await getDocument(descriptor);
    indexes.push(nested);
    const parsed = parseManifest(nested.bytes, nested.descriptor.mediaType);
    if (!isIndex(parsed))
      throw new LayerdError('corrupt', `${descriptor.digest} is listed as an index and is a manifest`);
    listed.push(...(await flatten(parsed, getDocument, indexes, depth + 1)));
  }
  return listed;
}

async function getManifest(
  descriptor: Descriptor,
  getDocument: GetDocument,
): Promise<RemoteManifest & { manifest: Manifest }> {
  const document = await getDocument(descriptor);
  const manifest = parseManifest(document.bytes, document.descriptor.mediaType);
  if (isIndex(manifest))
    throw new LayerdError('corrupt', `${descriptor.digest} is listed as a manifest and is an index`);
  return { ...document, manifest };
}

function attestedBy(descriptor: Descriptor): Digest | undefined {
  return descriptor.annotations?.['vnd.docker.reference.digest'] as Digest | undefined;
}

/** The platform an image config states. */
export function platformOf(config: Platform): Platform {
  const { os, architecture, variant, 'os.features': features } = config;
  return {
    os,
    architecture,
    ...(variant === undefined || variant === '' ? {} : { variant }),
    ...(config['os.version'] === undefined ? {} : { 'os.version': config['os.version'] }),
    ...(features === undefined || features.length === 0 ? {} : { 'os.features': features }),
  };
}
