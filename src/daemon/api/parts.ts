import type {
  DeleteItem,
  DistributionInspect,
  GcReport,
  ImageInspect,
  LayerReport,
  ReferrerReport,
  PruneReport,
  PublishedManifest,
  RegistryReport,
  SearchResult,
  VerifyReport,
  VersionInfo,
} from '../../protocol/engine.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { ProgressMessage } from '../../protocol/progress.ts';
import type { Health } from '../health/health.ts';
import type { Credentials, RemoteManifest, RequestOptions } from '../registry/registry.ts';
import type { AttestationRequest, Attestations } from '../images/attestations.ts';
import type { DetachedPulls } from '../images/detached.ts';
import type { Filters } from '../images/filters.ts';
import type { CopyRequest } from '../images/copy.ts';
import type { GcRequest } from '../images/gc/gc.ts';
import type { HistoryStep } from '../images/history.ts';
import type { ListedSummary, ListOptions } from '../images/list.ts';
import type { PublishRequest } from '../images/publish.ts';
import type { PushRequest } from '../images/push.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { ImportRequest as ImageImport } from '../images/import.ts';
import type { LoadRequest } from '../images/load.ts';
import type { ReferrersRequest } from '../images/referrers.ts';
import type { SearchRequest } from '../images/search.ts';
import type { Usage } from '../images/usage.ts';
import type { VerifyRequest } from '../images/verify.ts';
import type { Reference } from '../../protocol/reference.ts';
import type { ImageSets } from '../sets/sets.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { TransferLimits } from '../transfers/limits.ts';
import type { Transfers } from '../transfers/transfers.ts';
import type { Authorization } from './authorization/authorization.ts';
import type { Wish } from './client.ts';
import type { SubscribedLog } from './subscriptions/subscription.ts';
import type { EngineInfo } from './system-info.ts';

/** What the API needs of the rest of the daemon. It translates between HTTP and these, and knows nothing else. */
export interface ApiParts {
  /** layerd's version. */
  readonly version: string;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly images: ImageOperations;
  readonly events: SubscribedLog;
  readonly transfers: TransferOperations;
  readonly detached: Pick<DetachedPulls, 'platform' | 'begin' | 'ended' | 'find' | 'watch'>;
  readonly limits: {
    get(): TransferLimits;
    /** `changed`: the new value of each field that is another one, for the event. */
    change(limits: TransferLimits, changed: Readonly<Record<string, string>>): void;
  };
  /** Lets requests pass that their clients may make. */
  readonly authorization: Pick<Authorization, 'check'>;
  readonly sets: SetOperations;
  /** What identifies the store, and with it its log of events. */
  readonly storeId: string;
  /** By the names of their endpoints. */
  readonly health: { readonly livez: Health; readonly readyz: Health };
  readonly metrics: {
    /** A request has begun; to be called once it is answered, with the template of its route. */
    requested(): (answer: { method: string; route: string; status: number }) => void;
    /** All of them, in one of the formats that Prometheus reads. */
    expose(form: 'text/plain' | 'application/openmetrics-text'): string;
  };
  readonly system: { version(): VersionInfo; info(): Promise<EngineInfo> };
  readonly registries: {
    /** What they last said of their limits. */
    reports(): RegistryReport[];
    /** Tries an account; says the identity token that is to take the password's place, if there is one. */
    logIn(registry: string, options: RequestOptions): Promise<string | undefined>;
  };
  /** Host names, besides IP addresses and names without a dot, by which a tcp listener without TLS may be addressed. */
  readonly hostNames: readonly string[];
}

/** What is under way between the daemon and registries: listed, watched and steered. */
export type TransferOperations = Pick<
  Transfers,
  'list' | 'watch' | 'progress' | 'steer' | 'cancel' | 'pulls' | 'prioritizePull' | 'cancelPull'
>;

/** Image sets: listed, watched, put and deleted. */
export type SetOperations = Pick<ImageSets, 'list' | 'get' | 'put' | 'delete' | 'watch'>;

/** The daemon's log. */
export interface Log {
  /** Does the work. All that is logged on its account, by whatever part, has these fields. */
  within<T>(fields: Record<string, unknown>, work: () => T): T;
  debug(message: string, fields?: Record<string, unknown>): unknown;
  warn(message: string, fields?: Record<string, unknown>): unknown;
  error(message: string, fields?: Record<string, unknown>): unknown;
}

type Result<T> = T | Promise<T>;

/** The verbs of images. A name is whatever a user may call an image: a reference, an image ID, a digest, a prefix. */
export interface ImageOperations {
  list(options: ListOptions): Result<ListedSummary[]>;
  inspect(name: string, options: { platform?: Platform | undefined; manifests: boolean }): Result<ImageInspect>;
  history(name: string, options: { platform?: Platform | undefined }): Result<HistoryStep[]>;
  remove(name: string, options: { force: boolean; noPrune: boolean; platforms: Platform[] }): Result<DeleteItem[]>;
  /** Removes images that nothing uses. What was removed until the signal came is told all the same. */
  prune(filters: Filters, signal: AbortSignal): Promise<PruneReport>;
  /** Removes images so that the disk does not fill up, or tells which it would. */
  collect(request: GcRequest): Promise<GcReport>;
  /** Tells what takes space; with `items` what each image does. */
  usage(options: { items: boolean }): Promise<Usage>;
  /** Gives an image another name. */
  tag(name: string, reference: Reference): Result<void>;
  layers(name: string): Result<LayerReport[]>;
  /** What attests to an image; to be disposed of once it is sent. */
  attestations(name: string, request: AttestationRequest): Promise<Attestations>;
  /** What refers to an image in its registry. */
  referrers(name: string, request: ReferrersRequest): Promise<ReferrerReport>;
  /** Repositories of a registry. */
  search(request: SearchRequest): Promise<SearchResult[]>;
  /** Pulls a reference. An error before the first progress message becomes the answer's status. */
  pull(request: PullRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<void>;
  /** Pushes a tag, or all tags of a repository. An error before the first message becomes the answer's status. */
  push(request: PushRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<void>;
  /** Begins to save images into an archive, which streams as it is read. Rejects before the first byte where it cannot. */
  save(names: readonly string[], options: { platforms: Platform[] }): Promise<AsyncIterable<Uint8Array>>;
  /** Loads an archive. An error before the first progress message becomes the answer's status. */
  load(request: LoadRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<void>;
  /** Makes an image of a tar; resolves with its ID. An error before the first message becomes the answer's status. */
  import(request: ImportRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<Digest>;
  /** Copies from registry to registry. An error before the first message becomes the answer's status. */
  copy(request: CopyRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<void>;
  /** Puts a manifest or index of the client's making into its registry. */
  publish(request: PublishRequest): Promise<PublishedManifest>;
  /** Verifies an image or the whole store. An error before the first message becomes the answer's status. */
  verify(request: VerifyRequest, progress: (message: ProgressMessage) => void | Promise<void>): Promise<VerifyReport>;
  /** The manifest or index that a reference names in its registry, as it is served there. */
  remoteManifest(
    reference: Reference,
    options: { credentials: Credentials | undefined; signal: AbortSignal },
  ): Promise<RemoteManifest>;
  /** Asks the registry what a reference names. */
  distribution(
    reference: Reference,
    options: { credentials: Credentials | undefined; signal: AbortSignal },
  ): Promise<DistributionInspect>;
}

/** The platform is as users write it: `os[/arch[/variant]]`; undefined for the host's. */
export type ImportRequest = Omit<ImageImport, 'platform'> & { readonly platform: string | undefined };

export interface PullRequest extends Wish {
  /** Without tag and digest where {@link all} is set. */
  readonly reference: Reference;
  /** Neither a tag nor a digest was named: all tags. */
  readonly all: boolean;
  /** Everything that an index lists; a parameter of layerd's own. */
  readonly allPlatforms: boolean;
  /** `os[/arch[/variant]]`; undefined for the host's. */
  readonly platform: string | undefined;
  readonly credentials: Credentials | undefined;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}
