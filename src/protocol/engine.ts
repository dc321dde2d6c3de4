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

/** What a prune removed (`ImagePruneResponse`). */
export interface PruneReport {
  ImagesDeleted: DeleteItem[];
  /** Bytes of the disk. */
  SpaceReclaimed: number;
}

/** What objects of one type take (`ImagesDiskUsage` and the like). Bytes are of the disk. */
export interface UsageTotals<Item> {
  /** Objects in use. */
  ActiveCount: number;
  TotalCount: number;
  TotalSize: number;
  /** Bytes that removing what is not in use frees. */
  Reclaimable: number;
  /** The objects, where they were asked for. */
  Items?: Item[];
}

/** What takes space (`SystemDataUsageResponse`), of the types that were asked for. */
export interface DiskUsage {
  ImageUsage?: UsageTotals<ImageSummary>;
  ContainerUsage?: UsageTotals<object>;
  VolumeUsage?: UsageTotals<object>;
  BuildCacheUsage?: UsageTotals<object>;
}

/** What a registry says of a reference (`DistributionInspect`). */
export interface DistributionInspect {
  Descriptor: Descriptor;
  Platforms: Platform[];
}

/** A repository that a search found (`ImageSearchResponseItem`). */
export interface SearchResult {
  /** With its registry, unless that is Docker Hub. */
  name: string;
  description: string;
  is_official: boolean;
  is_automated: boolean;
  star_count: number;
}

/** An in-toto statement attached to an image (`AttestationStatement`). */
export interface AttestationStatement {
  Descriptor: Descriptor;
  PredicateType: string;
  /** The statement itself, where it was asked for. */
  Statement?: Record<string, unknown>;
}

/** What a login came to (`AuthResponse`). */
export interface LoginResult {
  Status: string;
  /** What is to be kept in place of the password; empty where it is the password that has to be. */
  IdentityToken?: string;
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

/** Something in the store that is not as it should be. */
export interface Finding {
  /** A blob, or the EROFS image of a layer. */
  kind: 'blob' | 'layer';
  /** The blob's digest, or the layer's diff ID; of a stray file that has neither for a name, its name. */
  id: string;
  /**
   * `damaged`: its bytes are not those that were stored, or cannot be read. `missing`: an image needs it, and it is not
   * there. `orphaned`: a file that nothing knows of.
   */
  problem: 'damaged' | 'missing' | 'orphaned';
  reason: string;
  /** The images that need it, by name, or by image ID where they have none. */
  images: string[];
  /** Whether it is sound again, or of an orphan that it is gone. */
  repaired: boolean;
  /** Why the repair that was asked for did not succeed. */
  error?: string;
}

/** What came of a verification, the last line of `POST /layerd/verify`. */
export interface VerifyReport {
  /** How many were looked at, and their bytes. */
  blobs: number;
  layers: number;
  bytes: number;
  findings: Finding[];
}

/** What refers to an image in its registry, `GET /layerd/images/{name}/referrers`. */
export interface ReferrerReport {
  /** The repository that was asked. */
  repository: string;
  /** The manifest or index that they refer to. */
  digest: Digest;
  /** Their descriptors, as the registry has them. */
  referrers: Descriptor[];
}

/** How many there are of something, and the bytes of the disk that they take. */
export interface Amount {
  count: number;
  size: number;
}

/** What takes space in the store, `GET /layerd/usage`. */
export interface UsageReport {
  /** Blobs and EROFS images that images hold, each counted once. */
  images: Amount;
  /** Interrupted pulls, and what they have left for a resume. */
  interrupted: Amount;
  /** Pulls, pushes, loads and saves under way, and what they hold that is not part of an image. */
  underWay: Amount;
}

/** A file system in bytes, and the percent of it that are in use. */
export interface DiskReport {
  capacity: number;
  available: number;
  percent: number;
}

/** An image as a collection saw it. */
export interface GcImage {
  id: Digest;
  /** Its tags, or without any its digests in repositories. */
  names: string[];
  /** When it was last pulled, loaded, tagged, pushed or saved (RFC 3339). */
  lastUsed: string;
}

/** An image that was removed, or would be. */
export interface GcRemoved extends GcImage {
  /** Bytes of the disk that this freed. */
  bytes: number;
  reason: 'maximum-age' | 'dangling' | 'least-recently-used';
}

/** An image that was kept. */
export interface GcKept extends GcImage {
  /** Bytes of the disk that it takes, those that it shares included. */
  bytes: number;
  /**
   * `held` by somebody; `in-use` by a pull, push, save or load; `parent` of an image that stands on it; `young`: used within
   * the minimum age; `local`: no registry is known to have it; `enough` was freed without it.
   */
  reason: 'held' | 'in-use' | 'parent' | 'young' | 'local' | 'enough';
  /** Who holds it, where anybody does. */
  holders: string[];
}

/** What a collection of images did, or would do, `POST /layerd/gc`. */
export interface GcReport {
  dryRun: boolean;
  /** The data root's, before and after; after, once the files that were removed are gone. */
  before: DiskReport;
  after: DiskReport;
  /** Bytes that were to be freed; 0 where the disk was as it is wanted. */
  wanted: number;
  reclaimed: number;
  /** Of those wanted, bytes that could not be freed: everything else was to be kept. */
  missing: number;
  removed: GcRemoved[];
  kept: GcKept[];
  /** Bytes of what interrupted pulls had kept for a resume, which go last. */
  interrupted: number;
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

/** Where a transfer stands, `GET /layerd/transfers`; the daemon's `TransferState` tells what each means. */
export type TransferReportState =
  | 'waiting'
  | 'downloading'
  | 'retrying'
  | 'verifying'
  | 'extracting'
  | 'uploading'
  | 'paused'
  | 'done'
  | 'failed'
  | 'cancelled';

/** A transfer that is waiting, running or paused, `GET /layerd/transfers`. */
export interface TransferReport {
  digest: Digest;
  direction: 'download' | 'upload';
  state: TransferReportState;
  /** The repository that it comes from, or goes to, with its registry. */
  repository: string;
  /** The host that serves it, such as a mirror, or takes it, once that is known. */
  host?: string;
  /** Bytes in all, and of those the ones that are there. */
  size: number;
  received: number;
  /** Bytes a second, over the last seconds. */
  rate: number;
  /** Until all has arrived, at that rate. */
  secondsLeft?: number;
  /** From -100 to 100; the highest waits the least. */
  priority: number;
  /** Connections that were begun for it. */
  attempts: number;
  lastError?: string;
  /** Since when it is wanted (RFC 3339). */
  since: string;
  wantedBy: TransferWish[];
}

/** On whose behalf a transfer goes on. */
export interface TransferWish {
  /** Identifier of the pull, push or copy. */
  id: string;
  verb: DemandReport['verb'];
  reference: string;
  client: string;
  since: string;
}

/** A line of `GET /layerd/transfers?watch=1`: a transfer as it is now, or how many ended that a slow reader was not told of. */
export type TransferUpdate = TransferReport | { missed: number };

/** What limits the transfers of a direction. */
export interface DirectionLimits {
  /** Blobs that are transferred at once. */
  concurrency: number;
  /** Of those, the ones of a registry, by its host; `*` is each that is not named. */
  registries: Record<string, number>;
  /** `[REGISTRY=]RATE[@HH:MM-HH:MM]`, as in daemon.json; of several for the same the last counts whose time it is. */
  bandwidth: string[];
}

/** The limits in force, `GET /layerd/limits`. */
export interface LimitsReport {
  downloads: DirectionLimits;
  uploads: DirectionLimits;
}

/** What is changed of the limits (RFC 7396): what is left out stays, and null takes a limit away. */
export interface LimitsChange {
  downloads?: DirectionLimitsChange | undefined;
  uploads?: DirectionLimitsChange | undefined;
}

export interface DirectionLimitsChange {
  concurrency?: number | undefined;
  registries?: Record<string, number | null> | null | undefined;
  bandwidth?: string[] | null | undefined;
}

/** Where a pull, push or copy stands: *retrying* is a detached pull that waits to be tried again. */
export type DemandState = 'running' | 'retrying' | 'done' | 'failed' | 'cancelled';

/** What a detached pull is asked for with, `POST /layerd/pulls`. */
export interface DetachedPullRequest {
  reference: string;
  /** `os[/arch[/variant]]`. */
  platform?: string | undefined;
  allPlatforms?: boolean | undefined;
  priority?: number | undefined;
}

/** A pull, push or copy under way, or a detached pull that has ended, `GET /layerd/pulls`. */
export interface DemandReport {
  id: string;
  verb: 'pull' | 'push' | 'copy' | 'restore' | 'repair';
  reference: string;
  client: string;
  since: string;
  priority: number;
  /** Whether it goes on though nobody waits for it. */
  detached: boolean;
  state: DemandState;
  /** Why it failed, the last time or for good. */
  lastError?: string;
  /** Only of a detached pull that has ended. */
  endedAt?: string;
  /** Bytes of all its transfers so far, and of those the ones that are there. */
  size: number;
  received: number;
  rate: number;
  secondsLeft?: number;
  transfers: { digest: Digest; state: TransferReportState }[];
}
