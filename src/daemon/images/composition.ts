import { shortId, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isForeignLayerType, isLayerType } from '../../protocol/media-types.ts';
import type { Descriptor, ImageConfig, Manifest } from '../../protocol/oci.ts';
import type { LayerStore } from '../layers/store.ts';
import { chainIds } from './chain.ts';
import type { StoredManifest } from './image.ts';
import { platformOf } from './selection.ts';

/*
 * What a manifest, its config and its layers have to be to each other, whether they were pulled or came in an archive.
 */

/** Refuses layers that cannot be stored: those whose bytes are kept elsewhere, and those of unknown kinds. */
export function refuseUnusable(layer: Descriptor, image: string): void {
  if (isForeignLayerType(layer.mediaType) || (layer.urls?.length ?? 0) > 0) {
    throw new LayerdError(
      'invalid',
      `${image} needs the foreign layer ${shortId(layer.digest)} (${layer.mediaType}), which its registry does not hold; layerd does not fetch layers from elsewhere`,
    );
  }
  if (!isLayerType(layer.mediaType)) {
    throw new LayerdError(
      'invalid',
      `${image} has a layer of the unknown media type ${JSON.stringify(layer.mediaType)}; layerd knows tar layers, plain or compressed with gzip or zstd`,
    );
  }
}

/** Refuses a manifest whose config is for another number of layers. */
export function checkLayerCount(config: ImageConfig, manifest: Manifest, digest: Digest): void {
  const { diff_ids: diffIds } = config.rootfs;
  if (diffIds.length === manifest.layers.length) return;
  throw new LayerdError(
    'corrupt',
    `manifest ${digest} has ${manifest.layers.length} layers and its config lists ${diffIds.length} diff IDs; the image is broken where it was built`,
  );
}

/** Refuses layers, which are unpacked, that are not those that the config lists. */
export function checkLayers(layers: Pick<LayerStore, 'diffIdOf'>, config: ImageConfig, manifest: Manifest): void {
  manifest.layers.forEach((layer, index) => {
    const expected = config.rootfs.diff_ids[index];
    const actual = layers.diffIdOf(layer.digest);
    if (actual !== expected) {
      throw new LayerdError(
        'corrupt',
        `layer ${layer.digest} unpacks to diff ID ${actual ?? 'unknown'}, the config says ${expected ?? 'none'}; the image is broken where it was built`,
      );
    }
  });
}

/** A manifest all of whose blobs are stored, as the metadata has it. `config`: of an image. */
export function describeManifest(
  layers: Pick<LayerStore, 'get'>,
  { descriptor, manifest }: { readonly descriptor: Descriptor; readonly manifest: Manifest },
  kind: StoredManifest['kind'],
  config: ImageConfig | undefined,
): StoredManifest {
  const diffIds = config?.rootfs.diff_ids ?? [];
  const chain = chainIds(diffIds);
  const blobs = new Map([descriptor, manifest.config, ...manifest.layers].map(({ digest, size }) => [digest, size]));
  let size = 0;
  for (const diffId of new Set(diffIds)) size += layers.get(diffId)?.imageSize ?? 0;
  return {
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    bytes: descriptor.size,
    kind,
    configDigest: manifest.config.digest,
    size,
    contentSize: [...blobs.values()].reduce((sum, bytes) => sum + bytes, 0),
    platform: config === undefined ? undefined : platformOf(config),
    labels: config?.config?.Labels ?? {},
    created: config?.created,
    layers: manifest.layers.map((layer, index) => ({
      digest: layer.digest,
      mediaType: layer.mediaType,
      bytes: layer.size,
      diffId: diffIds[index],
      chainId: chain[index],
    })),
  };
}

/** The digests of everything that a stored manifest consists of. */
export function blobsOf({ digest, configDigest, layers }: StoredManifest): Digest[] {
  return [digest, configDigest, ...layers.map((layer) => layer.digest)];
}
