/** Media types of the Docker image manifest v2 and the OCI image spec, as registries serve them. */
export const MediaType = {
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignLayerZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
} as const;

const INDEXES: ReadonlySet<string> = new Set([MediaType.dockerIndex, MediaType.ociIndex]);
const MANIFESTS: ReadonlySet<string> = new Set([MediaType.dockerManifest, MediaType.ociManifest]);
const CONFIGS: ReadonlySet<string> = new Set([MediaType.dockerConfig, MediaType.ociConfig]);
const FOREIGN: ReadonlySet<string> = new Set([
  MediaType.dockerForeignLayer,
  MediaType.ociForeignLayer,
  MediaType.ociForeignLayerGzip,
  MediaType.ociForeignLayerZstd,
]);
const LAYERS: ReadonlySet<string> = new Set([
  MediaType.dockerLayer,
  MediaType.dockerLayerGzip,
  MediaType.dockerLayerZstd,
  MediaType.ociLayer,
  MediaType.ociLayerGzip,
  MediaType.ociLayerZstd,
]);

export const isIndexType = (mediaType: string): boolean => INDEXES.has(mediaType);
export const isManifestType = (mediaType: string): boolean => MANIFESTS.has(mediaType);
/** A config that describes a runnable image; any other belongs to an artifact. */
export const isImageConfigType = (mediaType: string): boolean => CONFIGS.has(mediaType);
export const isLayerType = (mediaType: string): boolean => LAYERS.has(mediaType);
/** Layers whose bytes the registry does not hold; layerd refuses images that need them. */
export const isForeignLayerType = (mediaType: string): boolean => FOREIGN.has(mediaType);
export const isSchema1Type = (mediaType: string): boolean =>
  mediaType === MediaType.dockerSchema1 || mediaType === MediaType.dockerSchema1Signed;

/** The Accept header of a manifest request, most wanted first. */
export const MANIFEST_ACCEPT = [
  MediaType.ociIndex,
  MediaType.dockerIndex,
  MediaType.ociManifest,
  MediaType.dockerManifest,
].join(', ');
