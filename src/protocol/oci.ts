import type { Digest } from './digest.ts';

/** A manifest, index or config larger than this is refused, as by containerd and the distribution project: 4 MiB. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/**
 * Layers of an image: overlayfs stacks 500 directories (OVL_MAX_STACK in Linux), of which one, empty, lies below the
 * layers. An image with more could be stored and never be mounted.
 */
export const MAX_IMAGE_LAYERS = 499;

/** A platform as in an index's descriptors (OCI image index spec). */
export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  'os.version'?: string;
  'os.features'?: string[];
}

/** A pointer to content: what it is, its digest and its size in bytes (OCI descriptor spec). */
export interface Descriptor {
  mediaType: string;
  digest: Digest;
  size: number;
  platform?: Platform;
  annotations?: Record<string, string>;
  artifactType?: string;
  urls?: string[];
}

/** An image or artifact manifest: Docker v2 schema 2 and OCI have the same shape. */
export interface Manifest {
  schemaVersion: 2;
  mediaType: string;
  artifactType?: string;
  config: Descriptor;
  layers: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

/** A manifest list or OCI index. */
export interface Index {
  schemaVersion: 2;
  mediaType: string;
  artifactType?: string;
  manifests: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

/** What a container started from the image gets, in the words of an image config. */
export interface ContainerDefaults {
  User?: string;
  ExposedPorts?: Record<string, object> | null;
  Env?: string[] | null;
  Entrypoint?: string[] | null;
  Cmd?: string[] | null;
  Volumes?: Record<string, object> | null;
  WorkingDir?: string;
  Labels?: Record<string, string> | null;
  StopSignal?: string;
  ArgsEscaped?: boolean;
  OnBuild?: string[] | null;
  Healthcheck?: Record<string, unknown> | null;
  Shell?: string[] | null;
}

/** One step of how an image was made (OCI config spec, `history`). */
export interface ConfigHistory {
  created?: string;
  author?: string;
  created_by?: string;
  comment?: string;
  empty_layer?: boolean;
}

/** An image config (OCI image config spec, with Docker's extensions); its digest is the image ID. */
export interface ImageConfig extends Platform {
  created?: string;
  author?: string;
  docker_version?: string;
  /** The container that the last step ran in, and its config: of classic builds. */
  container?: string;
  container_config?: Record<string, unknown> | null;
  config?: ContainerDefaults | null;
  rootfs: { type: string; diff_ids: Digest[] };
  history?: ConfigHistory[] | null;
}
