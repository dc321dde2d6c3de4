import type { Digest } from './digest.ts';
import type { ContainerDefaults, Descriptor, Platform } from './oci.ts';

/**
 * Bodies of the Engine API, in the form of its newest version (definition 1.56). The API leaves out or adds what an
 * older version has otherwise.
 */

/** An image in a list (`ImageSummary`). */
export interface ImageSummary {
  Id: Digest;
  ParentId: string;
  RepoTags: string[];
  RepoDigests: string[];
  /** Unix seconds. */
  Created: number;
  /** Bytes on the disk: blobs and EROFS images, each counted once. */
  Size: number;
  /** Bytes of them that other images use too; -1 when it was not asked for. */
  SharedSize: number;
  Labels: Record<string, string>;
  /** Containers that use the image; -1 when not counted. */
  Containers: number;
  Descriptor?: Descriptor;
  Manifests?: ManifestSummary[];
}

/** What the daemon itself saw of an image's origin (`Identity`). */
export interface ImageIdentity {
  /** Repositories that the image was pulled from, with their registries. */
  Pull: { Repository: string }[];
}

/** One manifest of an image's index (`ImageManifestSummary`), stored or not. */
export interface ManifestSummary {
  ID: Digest;
  Descriptor: Descriptor;
  Available: boolean;
  Size: { Content: number; Total: number };
  Kind: 'image' | 'attestation' | 'unknown';
  ImageData?: { Platform: Platform; Identity?: ImageIdentity; Containers: string[]; Size: { Unpacked: number } };
  AttestationData?: { For: Digest };
}

/** An image in full (`ImageInspect`). */
export interface ImageInspect {
  Id: Digest;
  Descriptor?: Descriptor;
  Manifests?: ManifestSummary[];
  Identity?: ImageIdentity;
  RepoTags: string[];
  RepoDigests: string[];
  Comment: string;
  Created?: string;
  Author: string;
  Config: ContainerDefaults | null;
  Architecture: string;
  Variant?: string;
  Os: string;
  OsVersion?: string;
  Size: number;
  GraphDriver?: { Name: string; Data: Record<string, string> | null };
  RootFS: { Type: string; Layers?: Digest[] };
  Metadata: { LastTagTime?: string };
  Parent?: string;
  DockerVersion?: string;
  /** Before 1.45: the container that the last step of a classic build ran in, and its config. */
  Container?: string;
  ContainerConfig?: Record<string, unknown>;
}

/** One step of an image's history, newest first (`HistoryResponseItem`). */
export interface HistoryItem {
  Id: string;
  /** Unix seconds. */
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  /** Bytes of the files in the step's layer; 0 for a step without one. */
  Size: number;
  Comment: string;
}

/** What a removal did, step by step (`ImageDeleteResponseItem`). */
export interface DeleteItem {
  Untagged?: string;
  Deleted?: string;
}

/** What a registry says of a reference (`DistributionInspect`). */
export interface DistributionInspect {
  Descriptor: Descriptor;
  Platforms: Platform[];
}

/** A daemon's version (`SystemVersion`). */
export interface VersionInfo {
  Platform: { Name: string };
  Components: { Name: string; Version: string; Details?: Record<string, string> }[];
  Version: string;
  ApiVersion: string;
  MinAPIVersion: string;
  GitCommit: string;
  GoVersion: string;
  Os: string;
  Arch: string;
  KernelVersion: string;
  BuildTime: string;
}

/** Bodies of layerd's own endpoints, under `/layerd/`. */

/** A layer with its three identities, `GET /layerd/images/{name}/layers`, bottom first. */
export interface LayerReport {
  diffId: Digest;
  layerDigest: Digest;
  chainId: Digest;
  mediaType: string;
  /** Bytes of the blob as transferred. */
  blobSize: number;
  /** Bytes of the uncompressed tar. */
  size: number;
  /** Bytes of the EROFS image. */
  imageSize: number;
  /** Other images that have this layer, by name, or by image ID where they have none. */
  sharedWith: string[];
}

/** A registry's pull limit as it last told it, `GET /layerd/registries`. */
export interface RegistryReport {
  registry: string;
  rateLimit?: { limit: number; remaining: number; source?: string; at: string };
}

/** A manifest or index as it was put into its registry, `PUT /layerd/manifests/{name}`. */
export interface PublishedManifest {
  mediaType: string;
  digest: Digest;
  size: number;
  /** Digests of the manifests that were brought over from other repositories first. */
  brought: Digest[];
}
