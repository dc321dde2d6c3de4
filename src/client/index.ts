/**
 * The client of layerd for other programs.
 *
 * ```ts
 * import { LayerdClient } from 'layerd';
 * ```
 */
export {
  API_VERSION,
  LayerdClient,
  type AttestationsOptions,
  type AuthOptions,
  type CallOptions,
  type ClientOptions,
  type CopyOptions,
  type DetachedPullOptions,
  type DiskUsageOptions,
  type EventsOptions,
  type Filters,
  type GcOptions,
  type HistoryOptions,
  type ImagesOptions,
  type InspectOptions,
  type LoadOptions,
  type ManifestDocument,
  type Ping,
  type PruneOptions,
  type PullOptions,
  type PushOptions,
  type PutManifestOptions,
  type ReferrersOptions,
  type RegistryAuth,
  type RemoveOptions,
  type SaveOptions,
  type SearchOptions,
  type SystemInfo,
  type VerifyOptions,
} from './engine.ts';
export { ConnectionError, EngineError } from './errors.ts';
export { EventsGapError, type FollowOptions, type Outage } from './follow.ts';
export { DockerConfig } from './credentials/config.ts';
export type { TlsOptions } from './transport.ts';
export { isKind, LayerdError, type ErrorKind } from '../protocol/errors.ts';
export type { Digest } from '../protocol/digest.ts';
export type {
  Amount,
  AttestationStatement,
  DeleteItem,
  DemandReport,
  DiskUsage,
  DiskReport,
  DistributionInspect,
  Finding,
  GcKept,
  GcRemoved,
  GcReport,
  HistoryItem,
  ImageInspect,
  ImageSummary,
  LayerReport,
  LimitsChange,
  LimitsReport,
  LoginResult,
  ManifestSummary,
  PruneReport,
  PublishedManifest,
  ReferrerReport,
  RegistryReport,
  SearchResult,
  TransferReport,
  TransferUpdate,
  UsageReport,
  UsageTotals,
  VerifyReport,
  VersionInfo,
} from '../protocol/engine.ts';
export type { EventMessage, EventsGap, EventsHello } from '../protocol/event.ts';
export type {
  ImageSetCondition,
  ImageSetDefaults,
  ImageSetImage,
  ImageSetMember,
  ImageSetReport,
  ImageSetSpec,
  ImageSetUpdate,
  PullPolicy,
} from '../protocol/image-set.ts';
export type { ContainerDefaults, Descriptor, Platform } from '../protocol/oci.ts';
export type { ProgressMessage } from '../protocol/progress.ts';
