import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { Digest } from '../protocol/digest.ts';
import { isDigest } from '../protocol/digest.ts';
import type {
  AttestationStatement,
  DeleteItem,
  DemandReport,
  DetachedPullRequest,
  DiskUsage,
  DistributionInspect,
  GcReport,
  HistoryItem,
  ImageInspect,
  ImageSummary,
  LayerReport,
  LimitsChange,
  LimitsReport,
  LoginResult,
  PruneReport,
  PublishedManifest,
  ReferrerReport,
  RegistryReport,
  SearchResult,
  TransferReport,
  TransferUpdate,
  UsageReport,
  VersionInfo,
} from '../protocol/engine.ts';
import { LayerdError } from '../protocol/errors.ts';
import type { EventMessage } from '../protocol/event.ts';
import type { ImageSetReport, ImageSetSpec, ImageSetUpdate } from '../protocol/image-set.ts';
import { MAX_DOCUMENT_BYTES } from '../protocol/oci.ts';
import type { ProgressMessage } from '../protocol/progress.ts';
import { DEFAULT_TAG, familiarName, familiarString, parseReference, withDefaultTag } from '../protocol/reference.ts';
import { totalsOf, type ListedUsage } from './disk-usage.ts';
import { defaultHost, parseHost } from './endpoint.ts';
import { EngineError, kindOfStatus } from './errors.ts';
import { followEvents, type FollowOptions } from './follow.ts';
import { parseWithBigInt } from './json.ts';
import type { Messages } from './messages.ts';
import { parseNdjson } from './ndjson.ts';
import { parsePlatform } from './platform.ts';
import { Transport, type Call, type TlsOptions } from './transport.ts';

/** The newest version of the Engine API that this client knows. */
export const API_VERSION = '1.56';
/** The version of an engine that does not say (before 1.25). */
const UNSTATED_API_VERSION = '1.24';

/** How a client is constructed. */
export interface ClientOptions {
  /**
   * `unix:///path`, `tcp://host:port` or `http(s)://host:port`. Default: the system daemon's socket for root, the
   * user's own otherwise.
   */
  readonly host?: string;
  /** Certificates; given, `tcp://` means HTTPS. */
  readonly tls?: TlsOptions;
  /** Version of the Engine API to speak. Default: the newest that both sides know, asked from the daemon once. */
  readonly apiVersion?: string;
  readonly userAgent?: string;
  /** Sent with every request, such as the `traceparent` of a trace that it is part of. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Every request can be given up. A given-up one rejects with the signal's reason. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Credentials for one registry, in the form of X-Registry-Auth. */
export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
  readonly serveraddress?: string;
}

export interface AuthOptions extends CallOptions {
  readonly auth?: RegistryAuth | undefined;
}

export interface PullOptions extends AuthOptions {
  /** `os[/arch[/variant]]`. */
  readonly platform?: string | undefined;
  /** Pull every tag of the repository. */
  readonly allTags?: boolean | undefined;
  /** From -100 to 100; what is higher waits less. Only layerd knows it. Default 0. */
  readonly priority?: number | undefined;
  /** Pull every platform of the image. Only layerd does. */
  readonly allPlatforms?: boolean | undefined;
}

/** How a detached pull is asked for. */
export type DetachedPullOptions = Omit<PullOptions, 'allTags'>;

export interface PushOptions extends AuthOptions {
  /** Push only that platform, `os/arch[/variant]`. Needs API 1.46. */
  readonly platform?: string | undefined;
  /** Push every tag of the repository. */
  readonly allTags?: boolean | undefined;
  /** From -100 to 100; what is higher waits less. Only layerd knows it. Default 0. */
  readonly priority?: number | undefined;
}

/** How a verification is done. */
export interface VerifyOptions extends CallOptions {
  /** Any name of an image; without it, the whole store. */
  readonly image?: string | undefined;
  /** Brings back what is missing or damaged. */
  readonly repair?: boolean | undefined;
  /** Credentials for the registries that it is brought back from, by their addresses. */
  readonly auths?: Readonly<Record<string, RegistryAuth>> | undefined;
}

export interface CopyOptions extends CallOptions {
  /** Credentials for the registry of the source. */
  readonly fromAuth?: RegistryAuth | undefined;
  /** Credentials for the registry of the target. */
  readonly toAuth?: RegistryAuth | undefined;
  /** Copy only that platform, `os/arch[/variant]`. */
  readonly platform?: string | undefined;
  /** From -100 to 100; what is higher waits less. Default 0. */
  readonly priority?: number | undefined;
}

export interface PutManifestOptions extends AuthOptions {
  /** Where manifests are that an index lists and its repository may lack: `repository@digest`, on the same registry. */
  readonly from?: readonly string[] | undefined;
}

/** Filters by name; values of one name are alternatives, names must all hold. */
export type Filters = Readonly<Record<string, readonly string[]>>;

export interface ImagesOptions extends CallOptions {
  readonly all?: boolean | undefined;
  readonly digests?: boolean | undefined;
  readonly sharedSize?: boolean | undefined;
  /** With the manifests of each image's index. Needs API 1.47. */
  readonly manifests?: boolean | undefined;
  readonly filters?: Filters | undefined;
}

export interface InspectOptions extends CallOptions {
  /** `os/arch[/variant]`. Needs API 1.49. */
  readonly platform?: string | undefined;
  /** With the manifests of the image's index. Needs API 1.48. */
  readonly manifests?: boolean | undefined;
}

export interface HistoryOptions extends CallOptions {
  /** `os/arch[/variant]`. Needs API 1.48. */
  readonly platform?: string | undefined;
}

export interface SearchOptions extends AuthOptions {
  /** Results at most, from 1 to 100. Default 25. */
  readonly limit?: number | undefined;
  /** `is-official`, `stars`. */
  readonly filters?: Filters | undefined;
}

export interface AttestationsOptions extends CallOptions {
  /** `os/arch[/variant]`. Default: the daemon's own. */
  readonly platform?: string | undefined;
  /** Only statements of these types of predicates. */
  readonly types?: readonly string[] | undefined;
  /** With what each statement says. */
  readonly statement?: boolean | undefined;
}

export interface ReferrersOptions extends AuthOptions {
  /** What refers to that platform's manifest, `os/arch[/variant]`, instead of the index. */
  readonly platform?: string | undefined;
  /** Only artifacts of that type. */
  readonly artifactType?: string | undefined;
}

export interface RemoveOptions extends CallOptions {
  readonly force?: boolean | undefined;
  /** Keep untagged parents. */
  readonly noPrune?: boolean | undefined;
  /** Remove only these platforms, `os/arch[/variant]`. Needs API 1.50. */
  readonly platforms?: readonly string[] | undefined;
}

export interface PruneOptions extends CallOptions {
  /** `dangling`, `label`, `label!` and `until`. */
  readonly filters?: Filters | undefined;
}

export interface GcOptions extends CallOptions {
  /** Only tell what would be removed. */
  readonly dryRun?: boolean | undefined;
  /** Percent of the disk in use from which on images are removed. Default: as the daemon is configured, as all that follow. */
  readonly high?: number | undefined;
  /** Percent of the disk in use down to which images are removed. */
  readonly low?: number | undefined;
  /** Bytes of the disk that are to be available, instead of the two. */
  readonly free?: number | undefined;
  /** Keep what was used within this time, such as `2m`. */
  readonly minimumAge?: string | undefined;
  /** Remove what was not used for longer, such as `720h`, however much is free. */
  readonly maximumAge?: string | undefined;
  /** Remove also images that no registry is known to have. */
  readonly local?: boolean | undefined;
}

export interface DiskUsageOptions extends CallOptions {
  /** With each object. */
  readonly verbose?: boolean | undefined;
}

export interface SaveOptions extends CallOptions {
  /** Save only these platforms, `os/arch[/variant]`. Needs API 1.48. */
  readonly platforms?: readonly string[] | undefined;
}

export interface LoadOptions extends CallOptions {
  /** Without the progress of layers. */
  readonly quiet?: boolean | undefined;
  /** Load only these platforms, `os/arch[/variant]`. Needs API 1.48. */
  readonly platforms?: readonly string[] | undefined;
}

export interface ImportOptions extends CallOptions {
  /** The new image's name; without one it is dangling. */
  readonly name?: string | undefined;
  /** The comment in its history. */
  readonly message?: string | undefined;
  /** Instructions of a Dockerfile that set its defaults: `CMD ["sh"]`. */
  readonly changes?: readonly string[] | undefined;
  /** `os[/arch[/variant]]`; default: the daemon's. */
  readonly platform?: string | undefined;
}

export interface EventsOptions extends CallOptions, FollowOptions {
  /** Unix seconds, with a fraction where needed: events from then on come first. */
  readonly since?: string | undefined;
  /** Unix seconds: the stream ends there. */
  readonly until?: string | undefined;
  readonly filters?: Filters | undefined;
  /** Refuse an engine whose events have no place to go on from, any but layerd. Default: only where a cursor or `onProgress` is. */
  readonly resumable?: boolean | undefined;
}

/** What `_ping` tells of a daemon. */
export interface Ping {
  readonly apiVersion: string;
  readonly osType: string | undefined;
  readonly server: string | undefined;
}

/** An engine's `GET /info`: what is common to engines by name, the rest as it comes. */
export interface SystemInfo extends Readonly<Record<string, unknown>> {
  readonly ID?: string;
  readonly Name?: string;
  readonly ServerVersion?: string;
  readonly Driver?: string;
  readonly DockerRootDir?: string;
  readonly Images?: number;
  readonly IndexServerAddress?: string;
}

/** A manifest or index as its registry serves it; its bytes are what the digest is of. */
export interface ManifestDocument {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly bytes: Buffer;
}

/**
 * A client of layerd, or of any engine that speaks the Engine API (`layers`, `referrers`, `usage`, `gc`, `registries`, `manifest`,
 * `putManifest`, `copy` and all of transfers and pulls are layerd's own). Requests share kept connections; streams are never
 * buffered and stop when their iteration is left.
 *
 * ```ts
 * await using client = new LayerdClient({ host: 'unix:///run/layerd/layerd.sock' });
 * for await (const { id, status } of client.pull('redis:7')) console.log(id, status);
 * ```
 *
 * All methods reject with an {@link EngineError} that says its kind and status, a ConnectionError when there was no
 * answer, or the signal's reason.
 */
export class LayerdClient implements AsyncDisposable {
  readonly host: string;
  readonly #transport: Transport;
  #version: Promise<string> | undefined;

  constructor(options: ClientOptions = {}) {
    this.host = options.host ?? defaultHost(process.getuid?.() ?? 0, process.env);
    const endpoint = parseHost(this.host, options.tls !== undefined);
    const headers = { 'User-Agent': options.userAgent ?? 'layerd-client', ...options.headers };
    this.#transport = new Transport(this.host, endpoint, options.tls, headers);
    if (options.apiVersion !== undefined) this.#version = Promise.resolve(options.apiVersion.replace(/^v/, ''));
  }

  /** Asks whether the daemon answers, and which versions it speaks. */
  async ping(options: CallOptions = {}): Promise<Ping> {
    const response = await this.#transport.send({ method: 'HEAD', path: '/_ping', signal: options.signal });
    response.resume();
    const { headers } = response;
    return {
      apiVersion: headerOf(headers['api-version']) ?? UNSTATED_API_VERSION,
      osType: headerOf(headers['ostype']),
      server: headerOf(headers['server']),
    };
  }

  /** The version of the API that requests carry: negotiated with the first one, unless it was given. */
  apiVersion(options: CallOptions = {}): Promise<string> {
    if (this.#version === undefined) {
      const negotiated = this.ping(options).then(({ apiVersion }) => older(apiVersion, API_VERSION));
      this.#version = negotiated;
      // The next request asks again when this one failed.
      negotiated.catch(() => (this.#version = undefined));
    }
    return this.#version;
  }

  async version(options: CallOptions = {}): Promise<VersionInfo> {
    return this.#json({ method: 'GET', path: '/version' }, options);
  }

  async info(options: CallOptions = {}): Promise<SystemInfo> {
    return this.#json({ method: 'GET', path: '/info' }, options);
  }

  /**
   * Pulls an image, telling what happens on the way. Leaving the iteration or aborting stops this client's interest;
   * what has arrived stays in the daemon, and the same pull goes on from there. Throws when the pull fails, the
   * failure the stream tells of included.
   */
  async *pull(reference: string, options: PullOptions = {}): AsyncGenerator<ProgressMessage, void, undefined> {
    const { registry, path, tag, digest } = parseReference(reference);
    const query = new URLSearchParams({ fromImage: familiarName({ registry, path }) });
    if (options.allTags !== true) query.set('tag', digest ?? tag ?? DEFAULT_TAG);
    if (options.platform !== undefined) query.set('platform', options.platform);
    if (options.allPlatforms === true) {
      // Another engine would pull one platform and not say so.
      await this.#needLayerd('pull all platforms of an image', options);
      query.set('all-platforms', '1');
    }
    const headers = { ...authHeader(options.auth), ...priorityHeader(options) };
    const response = await this.#send({ method: 'POST', path: '/images/create', query, headers }, options);
    yield* this.#progress(response, options);
  }

  /**
   * Pushes an image, or all tags of a repository, telling what happens on the way. Leaving the iteration or aborting stops
   * this client's interest, and uploads that nobody else waits for. Throws when the push fails, the failure the stream
   * tells of included.
   */
  async *push(reference: string, options: PushOptions = {}): AsyncGenerator<ProgressMessage, void, undefined> {
    const { tag = DEFAULT_TAG, digest, ...repository } = parseReference(reference);
    if (digest !== undefined) throw new LayerdError('invalid', 'cannot push a digest reference');
    const query = new URLSearchParams(options.allTags === true ? {} : { tag });
    if (options.platform !== undefined) {
      await this.#need('1.46', 'pushing one platform', options);
      query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    }
    const path = `/images/${encodeName(familiarName(repository))}/push`;
    // A push has to say whose it is, also where that is nobody's.
    const headers = { ...authHeader(options.auth ?? {}), ...priorityHeader(options) };
    yield* this.#progress(await this.#send({ method: 'POST', path, query, headers }, options), options);
  }

  /**
   * Saves images into an archive that docker, podman and skopeo read: its bytes as they come, which are never held. A name
   * of a repository stands for all of its tags. Whoever leaves the iteration has half an archive.
   */
  async *save(names: readonly string[], options: SaveOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const query = new URLSearchParams(names.map((name) => ['names', name]));
    await this.#setPlatforms(query, options, 'saving one platform');
    const response = await this.#send({ method: 'GET', path: '/images/get', query }, options);
    yield* this.#transport.body(response, options.signal);
  }

  /**
   * Loads the images of an archive, telling what happens on the way; the archive is sent as it is read. Throws when it
   * cannot be loaded, in which case nothing of it was.
   */
  async *load(
    archive: AsyncIterable<Uint8Array>,
    options: LoadOptions = {},
  ): AsyncGenerator<ProgressMessage, void, undefined> {
    const query = new URLSearchParams({ quiet: options.quiet === true ? '1' : '0' });
    await this.#setPlatforms(query, options, 'loading one platform');
    const headers = { 'Content-Type': 'application/x-tar' };
    const call = { method: 'POST', path: '/images/load', query, headers, body: archive } as const;
    yield* this.#progress(await this.#send(call, options), options);
  }

  /**
   * Makes an image of a tar of a root file system, sent as it is read or downloaded by the daemon from a URL, telling what
   * happens on the way; the status of the last message is the image ID. Throws when it fails; there is no image then.
   */
  async *import(
    source: AsyncIterable<Uint8Array> | URL,
    options: ImportOptions = {},
  ): AsyncGenerator<ProgressMessage, void, undefined> {
    const { name, message, changes = [], platform } = options;
    const query = new URLSearchParams({ fromSrc: source instanceof URL ? source.href : '-' });
    if (name !== undefined) query.set('repo', familiarString(withDefaultTag(parseReference(name))));
    if (message !== undefined) query.set('message', message);
    for (const change of changes) query.append('changes', change);
    if (platform !== undefined) query.set('platform', platform);
    const headers = { 'Content-Type': 'application/x-tar' };
    const body = source instanceof URL ? {} : { headers, body: source };
    const call = { method: 'POST', path: '/images/create', query, ...body } as const;
    yield* this.#progress(await this.#send(call, options), options);
  }

  /** Lists images. */
  async images(options: ImagesOptions = {}): Promise<ImageSummary[]> {
    if (options.manifests === true) await this.#need('1.47', 'listing manifests', options);
    const query = new URLSearchParams();
    if (options.all === true) query.set('all', '1');
    if (options.digests === true) query.set('digests', '1');
    if (options.sharedSize === true) query.set('shared-size', '1');
    if (options.manifests === true) query.set('manifests', '1');
    setFilters(query, options.filters);
    return this.#json({ method: 'GET', path: '/images/json', query }, options);
  }

  /** Describes one image by name, digest, ID or unique prefix of it. */
  async inspect(name: string, options: InspectOptions = {}): Promise<ImageInspect> {
    const query = new URLSearchParams();
    if (options.platform !== undefined) {
      await this.#need('1.49', 'inspecting one platform', options);
      query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    }
    if (options.manifests === true) {
      await this.#need('1.48', 'inspecting manifests', options);
      query.set('manifests', '1');
    }
    return this.#json({ method: 'GET', path: `/images/${encodeName(name)}/json`, query }, options);
  }

  /** How an image was made, newest step first. */
  async history(name: string, options: HistoryOptions = {}): Promise<HistoryItem[]> {
    const query = new URLSearchParams();
    if (options.platform !== undefined) {
      await this.#need('1.48', 'the history of one platform', options);
      query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    }
    return this.#json({ method: 'GET', path: `/images/${encodeName(name)}/history`, query }, options);
  }

  /** Takes a name away, or with an ID the image; with the last name the image goes too. Says what was done. */
  async remove(name: string, options: RemoveOptions = {}): Promise<DeleteItem[]> {
    const query = new URLSearchParams();
    if (options.force === true) query.set('force', '1');
    if (options.noPrune === true) query.set('noprune', '1');
    if (options.platforms !== undefined && options.platforms.length > 0) {
      await this.#need('1.50', 'removing one platform', options);
      for (const platform of options.platforms) query.append('platforms', JSON.stringify(parsePlatform(platform)));
    }
    return this.#json({ method: 'DELETE', path: `/images/${encodeName(name)}`, query }, options);
  }

  /**
   * Removes images that nothing uses: those without a tag, or with the filter `dangling=false` all. Says what was done and
   * how much space that freed.
   */
  async prune(options: PruneOptions = {}): Promise<PruneReport> {
    const query = new URLSearchParams();
    setFilters(query, options.filters);
    const report = await this.#json<Partial<PruneReport>>({ method: 'POST', path: '/images/prune', query }, options);
    return { ImagesDeleted: report.ImagesDeleted ?? [], SpaceReclaimed: report.SpaceReclaimed ?? 0 };
  }

  /** Tells what takes space, with `verbose` the objects too. What an older engine answers is brought into this form. */
  async diskUsage(options: DiskUsageOptions = {}): Promise<DiskUsage> {
    const query = new URLSearchParams({ verbose: options.verbose === true ? '1' : '0' });
    const call = { method: 'GET', path: '/system/df', query } as const;
    const hasTotals = older(await this.apiVersion(options), '1.52') === '1.52';
    return hasTotals ? this.#json<DiskUsage>(call, options) : totalsOf(await this.#json<ListedUsage>(call, options));
  }

  /** Gives an image another name, `latest` where it has no tag. A tag that another image has moves to this one. */
  async tag(name: string, target: string, options: CallOptions = {}): Promise<void> {
    const { tag = DEFAULT_TAG, digest, ...repository } = parseReference(target);
    if (digest !== undefined) throw new LayerdError('invalid', 'refusing to create a tag with a digest reference');
    const query = new URLSearchParams({ repo: familiarName(repository), tag });
    const response = await this.#send({ method: 'POST', path: `/images/${encodeName(name)}/tag`, query }, options);
    response.resume();
  }

  /**
   * Tries an account at the registry that its server address names, without one at Docker Hub. The identity token of the
   * result, if there is one, is what to keep in place of the password. Nothing is kept here or by the daemon.
   */
  async logIn(auth: RegistryAuth, options: CallOptions = {}): Promise<LoginResult> {
    const headers = { 'Content-Type': 'application/json' };
    const result = await this.#json<LoginResult | undefined>(
      { method: 'POST', path: '/auth', headers, body: jsonBody(auth) },
      options,
    );
    return result ?? { Status: 'Login Succeeded' };
  }

  /** Searches Docker Hub, or the registry that the term names before a slash, for repositories. */
  async search(term: string, options: SearchOptions = {}): Promise<SearchResult[]> {
    const query = new URLSearchParams({ term });
    if (options.limit !== undefined) query.set('limit', String(options.limit));
    setFilters(query, options.filters);
    return this.#json({ method: 'GET', path: '/images/search', query, headers: authHeader(options.auth) }, options);
  }

  /** The in-toto statements that are attached to an image, such as its provenance and SBOM. Needs API 1.55. */
  async attestations(name: string, options: AttestationsOptions = {}): Promise<AttestationStatement[]> {
    await this.#need('1.55', 'telling attestations', options);
    const query = new URLSearchParams();
    if (options.platform !== undefined) query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    for (const type of options.types ?? []) query.append('type', type);
    if (options.statement === true) query.set('statement', '1');
    return this.#json({ method: 'GET', path: `/images/${encodeName(name)}/attestations`, query }, options);
  }

  /** What the registry says of a reference: its descriptor and platforms. Nothing is pulled. */
  async distribution(reference: string, options: AuthOptions = {}): Promise<DistributionInspect> {
    const path = `/distribution/${encodeName(familiarString(parseReference(reference)))}/json`;
    return this.#json({ method: 'GET', path, headers: authHeader(options.auth) }, options);
  }

  /** The manifest or index that a reference names in its registry, as served there. Nothing is pulled. */
  async manifest(reference: string, options: AuthOptions = {}): Promise<ManifestDocument> {
    const path = `/layerd/manifests/${encodeName(familiarString(parseReference(reference)))}`;
    const call: Call = { method: 'GET', path, headers: authHeader(options.auth) };
    const response = await this.#own('tell of manifests of registries', options, () => this.#send(call, options));
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.#transport.body(response, options.signal)) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MAX_DOCUMENT_BYTES) {
        throw new EngineError('corrupt', `the manifest of ${reference} is larger than ${MAX_DOCUMENT_BYTES} bytes`);
      }
    }
    const digest = headerOf(response.headers['docker-content-digest']);
    const mediaType = headerOf(response.headers['content-type'])?.split(';')[0]?.trim();
    if (!isDigest(digest) || mediaType === undefined) {
      throw new EngineError('corrupt', `the daemon did not say the digest and media type of ${reference}`);
    }
    return { mediaType, digest, bytes: Buffer.concat(chunks, size) };
  }

  /**
   * Puts a manifest or index into its registry, under the reference's tag or digest. All that it lists has to be there, or
   * to be brought over from where `from` says. Resolves when it is put.
   */
  async putManifest(
    reference: string,
    document: Pick<ManifestDocument, 'mediaType' | 'bytes'>,
    options: PutManifestOptions = {},
  ): Promise<PublishedManifest> {
    const path = `/layerd/manifests/${encodeName(familiarString(parseReference(reference)))}`;
    const query = new URLSearchParams((options.from ?? []).map((from) => ['from', from]));
    const headers = { ...authHeader(options.auth), 'Content-Type': document.mediaType };
    const body = Readable.from([document.bytes]);
    const call: Call = { method: 'PUT', path, query, headers, body };
    return this.#own('put manifests into registries', options, () => this.#json(call, options));
  }

  /**
   * Copies an image from registry to registry, with all its platforms, telling what happens on the way. Nothing is stored in
   * the daemon. Leaving the iteration or aborting cancels it. Throws when it fails, the failure the stream tells of included.
   */
  async *copy(
    source: string,
    target: string,
    options: CopyOptions = {},
  ): AsyncGenerator<ProgressMessage, void, undefined> {
    const query = new URLSearchParams({
      from: familiarString(parseReference(source)),
      to: familiarString(parseReference(target)),
    });
    if (options.platform !== undefined) query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    const headers = {
      ...authHeader(options.fromAuth, 'X-Registry-Auth-From'),
      ...authHeader(options.toAuth, 'X-Registry-Auth-To'),
      ...priorityHeader(options),
    };
    const call: Call = { method: 'POST', path: '/layerd/copy', query, headers };
    const response = await this.#own('copy between registries', options, () => this.#send(call, options));
    yield* this.#progress(response, options);
  }

  /**
   * Events as they happen, until the iteration is left or `until` has come. Times keep all their digits.
   *
   * Those of layerd come from its log, by their sequence numbers: in order, and none is lost, whether the connection breaks
   * or the daemon restarts. Whoever keeps the `seq` of the last one it is done with gives that as `cursor` the next time.
   * Another engine tells what happens while the connection lasts.
   */
  async *events(options: EventsOptions = {}): AsyncGenerator<EventMessage, void, undefined> {
    const { cursor, onProgress, resumable = cursor !== undefined || onProgress !== undefined } = options;
    if (resumable) await this.#needLayerd('keep a log of events to go on in', options);
    if (!resumable && !isLayerd(await this.ping(options))) {
      yield* this.#plainEvents(options);
      return;
    }
    const { closing } = this.#transport;
    const signal = options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]);
    const path = `/v${await this.apiVersion(options)}/layerd/events`;
    const open = (place: number | undefined): Promise<Messages> => {
      const query = eventsQuery(options);
      if (place !== undefined) query.set('cursor', String(place));
      // It said where to begin, which is done; beside a cursor that was given it is for the daemon to refuse.
      if (place !== cursor) query.delete('since');
      if (onProgress !== undefined) query.set('progress', '1');
      return this.#transport.openSocket({ path, query, signal });
    };
    yield* followEvents({ host: this.host, open }, options, signal);
  }

  async *#plainEvents(options: EventsOptions): AsyncGenerator<EventMessage, void, undefined> {
    const query = eventsQuery(options);
    const response = await this.#send({ method: 'GET', path: '/events', query }, options);
    yield* parseNdjson<EventMessage>(this.#transport.body(response, options.signal), (line) =>
      parseWithBigInt(line, 'timeNano'),
    );
  }

  /** The layers of an image with their three identities, bottom first. */
  async layers(name: string, options: CallOptions = {}): Promise<LayerReport[]> {
    const path = `/layerd/images/${encodeName(name)}/layers`;
    return this.#own('tell of layers of images', options, () => this.#json({ method: 'GET', path }, options));
  }

  /** What refers to an image in the registry that it came from or went to, such as signatures. */
  async referrers(name: string, options: ReferrersOptions = {}): Promise<ReferrerReport> {
    const query = new URLSearchParams();
    if (options.platform !== undefined) query.set('platform', JSON.stringify(parsePlatform(options.platform)));
    if (options.artifactType !== undefined) query.set('artifactType', options.artifactType);
    const path = `/layerd/images/${encodeName(name)}/referrers`;
    const call: Call = { method: 'GET', path, query, headers: authHeader(options.auth) };
    return this.#own('tell of referrers of images', options, () => this.#json(call, options));
  }

  /**
   * Removes images, the least recently used first, until as much of the disk is free as is configured or asked for; tells
   * what went, what stayed, and why. Leaving it by the signal ends it; what was removed by then stays so.
   */
  async gc(options: GcOptions = {}): Promise<GcReport> {
    const { signal, dryRun = false, ...terms } = options;
    const query = new URLSearchParams(dryRun ? { dryRun: '1' } : {});
    for (const [name, value] of Object.entries(terms)) if (value !== undefined) query.set(name, String(value));
    return this.#own('collect images', { signal }, () =>
      this.#json({ method: 'POST', path: '/layerd/gc', query }, { signal }),
    );
  }

  /** What takes space in the store: images, what interrupted pulls have left, and what is under way. */
  async usage(options: CallOptions = {}): Promise<UsageReport> {
    return this.#own('tell what takes space', options, () =>
      this.#json({ method: 'GET', path: '/layerd/usage' }, options),
    );
  }

  /**
   * Has an image, or the whole store, verified, and with `repair` brought in order. Yields progress; the last message's
   * `aux` is the `VerifyReport`.
   */
  async *verify(options: VerifyOptions = {}): AsyncGenerator<ProgressMessage, void, undefined> {
    const query = new URLSearchParams();
    if (options.image !== undefined) query.set('image', options.image);
    if (options.repair === true) query.set('repair', '1');
    const auths = Object.keys(options.auths ?? {}).length === 0 ? undefined : options.auths;
    const call: Call = {
      method: 'POST',
      path: '/layerd/verify',
      query,
      headers: authHeader(auths, 'X-Registry-Config'),
    };
    const response = await this.#own('verify what it stores', options, () => this.#send(call, options));
    yield* this.#progress(response, options);
  }

  /** The registries the daemon has spoken to, with the pull limits they told. */
  async registries(options: CallOptions = {}): Promise<RegistryReport[]> {
    return this.#own('tell of registries', options, () =>
      this.#json({ method: 'GET', path: '/layerd/registries' }, options),
    );
  }

  /** All transfers between the daemon and registries that wait, run or are paused. */
  async transfers(options: CallOptions = {}): Promise<TransferReport[]> {
    return this.#own('tell of transfers', options, () =>
      this.#json({ method: 'GET', path: '/layerd/transfers' }, options),
    );
  }

  /** All transfers, then each again whenever it has changed, the last time when it has ended; until the iteration is left. */
  async *watchTransfers(options: CallOptions = {}): AsyncGenerator<TransferUpdate, void, undefined> {
    const call: Call = { method: 'GET', path: '/layerd/transfers', query: new URLSearchParams({ watch: '1' }) };
    const response = await this.#own('tell of transfers', options, () => this.#send(call, options));
    yield* parseNdjson<TransferUpdate>(this.#transport.body(response, options.signal));
  }

  /** Pauses, resumes or reorders what is transferred of a digest. Tells how it is now. */
  async steerTransfer(
    digest: string,
    change: { readonly priority?: number | undefined; readonly paused?: boolean | undefined },
    options: CallOptions = {},
  ): Promise<TransferReport[]> {
    const headers = { 'Content-Type': 'application/json' };
    const path = `/layerd/transfers/${encodeName(digest)}`;
    const call: Call = { method: 'PATCH', path, headers, body: jsonBody(change) };
    return this.#own('steer transfers', options, () => this.#json(call, options));
  }

  /** Ends what is transferred of a digest, for all who want it. */
  async cancelTransfer(digest: string, options: CallOptions = {}): Promise<void> {
    const call: Call = { method: 'DELETE', path: `/layerd/transfers/${encodeName(digest)}` };
    await this.#own('steer transfers', options, () => this.#json(call, options));
  }

  /** The pulls, pushes and copies under way; with `all` also the detached pulls that have ended. */
  async pulls({ all, ...options }: CallOptions & { readonly all?: boolean | undefined } = {}): Promise<DemandReport[]> {
    const call: Call = {
      method: 'GET',
      path: '/layerd/pulls',
      query: new URLSearchParams(all === true ? { all: '1' } : {}),
    };
    return this.#own('tell of pulls', options, () => this.#json(call, options));
  }

  /** Begins a pull that goes on though nobody waits for it, or joins the one of the same. Resolves once it is written down. */
  async pullDetached(reference: string, options: DetachedPullOptions = {}): Promise<DemandReport> {
    const { platform, allPlatforms, priority } = options;
    const request: DetachedPullRequest = {
      reference: familiarString(parseReference(reference)),
      platform,
      allPlatforms,
      priority,
    };
    const headers = { ...authHeader(options.auth), 'Content-Type': 'application/json' };
    const call: Call = { method: 'POST', path: '/layerd/pulls', headers, body: jsonBody(request) };
    return this.#own('pull detached', options, () => this.#json(call, options));
  }

  /** A pull, push or copy under way, or how a detached pull ended, by its identifier. */
  async inspectPull(id: string, options: CallOptions = {}): Promise<DemandReport> {
    const call: Call = { method: 'GET', path: `/layerd/pulls/${encodeURIComponent(id)}` };
    return this.#own('tell of pulls', options, () => this.#json(call, options));
  }

  /** As {@link inspectPull}, again whenever that is something else, until it has ended or the daemon stops. */
  async *watchPull(id: string, options: CallOptions = {}): AsyncGenerator<DemandReport, void, undefined> {
    const query = new URLSearchParams({ watch: '1' });
    const call: Call = { method: 'GET', path: `/layerd/pulls/${encodeURIComponent(id)}`, query };
    const response = await this.#own('tell of pulls', options, () => this.#send(call, options));
    yield* parseNdjson<DemandReport>(this.#transport.body(response, options.signal));
  }

  /** Gives a pull, push or copy another priority. Tells how it is now. */
  async prioritizePull(id: string, priority: number, options: CallOptions = {}): Promise<DemandReport> {
    const headers = { 'Content-Type': 'application/json' };
    const path = `/layerd/pulls/${encodeURIComponent(id)}`;
    const call: Call = { method: 'PATCH', path, headers, body: jsonBody({ priority }) };
    return this.#own('steer pulls', options, () => this.#json(call, options));
  }

  /** Cancels a pull, push or copy by its identifier. */
  async cancelPull(id: string, options: CallOptions = {}): Promise<void> {
    const call: Call = { method: 'DELETE', path: `/layerd/pulls/${encodeURIComponent(id)}` };
    await this.#own('cancel pulls', options, () => this.#json(call, options));
  }

  /** What limits transfers. */
  async limits(options: CallOptions = {}): Promise<LimitsReport> {
    return this.#own('limit transfers', options, () => this.#json({ method: 'GET', path: '/layerd/limits' }, options));
  }

  /** Changes what limits transfers, until the daemon starts or reads its configuration again. Tells how it is now. */
  async changeLimits(change: LimitsChange, options: CallOptions = {}): Promise<LimitsReport> {
    const headers = { 'Content-Type': 'application/merge-patch+json' };
    const call: Call = { method: 'PATCH', path: '/layerd/limits', headers, body: jsonBody(change) };
    return this.#own('limit transfers', options, () => this.#json(call, options));
  }

  /** All image sets. */
  async sets(options: CallOptions = {}): Promise<ImageSetReport[]> {
    return this.#own('keep image sets', options, () => this.#json({ method: 'GET', path: '/layerd/sets' }, options));
  }

  /** One image set. */
  async set(name: string, options: CallOptions = {}): Promise<ImageSetReport> {
    return this.#own('keep image sets', options, () => this.#json({ method: 'GET', path: setPath(name) }, options));
  }

  /**
   * Creates an image set or replaces one, by its spec or the JSON of it. That only begins to make it so: its conditions, when
   * watched, tell when it is.
   */
  async putSet(name: string, spec: ImageSetSpec | string, options: CallOptions = {}): Promise<ImageSetReport> {
    const headers = { 'Content-Type': 'application/json' };
    const call: Call = {
      method: 'PUT',
      path: setPath(name),
      headers,
      body: typeof spec === 'string' ? textBody(spec) : jsonBody(spec),
    };
    return this.#own('keep image sets', options, () => this.#json(call, options));
  }

  /** Deletes an image set. Its images stay. */
  async removeSet(name: string, options: CallOptions = {}): Promise<void> {
    const call: Call = { method: 'DELETE', path: setPath(name) };
    await this.#own('keep image sets', options, () => this.#json(call, options));
  }

  /** All image sets, then each again whenever it has changed; until the iteration is left. */
  async *watchSets(options: CallOptions = {}): AsyncGenerator<ImageSetUpdate, void, undefined> {
    const call: Call = { method: 'GET', path: '/layerd/sets', query: new URLSearchParams({ watch: '1' }) };
    const response = await this.#own('keep image sets', options, () => this.#send(call, options));
    yield* parseNdjson<ImageSetUpdate>(this.#transport.body(response, options.signal));
  }

  /** Closes all connections; requests and streams under way fail. */
  close(): void {
    this.#transport.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** The messages of a progress stream; the failure that it tells of is thrown. */
  async *#progress(response: IncomingMessage, options: CallOptions): AsyncGenerator<ProgressMessage, void, undefined> {
    const messages = parseNdjson<ProgressMessage>(this.#transport.body(response, options.signal));
    for await (const message of messages) {
      const failure = message.errorDetail?.message ?? message.error;
      if (failure !== undefined) {
        const code = message.errorDetail?.code;
        throw new EngineError(code === undefined ? 'internal' : kindOfStatus(code), failure);
      }
      yield message;
    }
  }

  async #setPlatforms(query: URLSearchParams, { platforms = [], signal }: SaveOptions, what: string): Promise<void> {
    if (platforms.length > 0) await this.#need('1.48', what, { signal });
    for (const platform of platforms) query.append('platform', JSON.stringify(parsePlatform(platform)));
  }

  async #send(call: Call, options: CallOptions): Promise<IncomingMessage> {
    const version = await this.apiVersion(options);
    return this.#transport.send({ ...call, path: `/v${version}${call.path}`, signal: options.signal });
  }

  /**
   * Sends a request and parses its whole answer, which the caller knows to be one document; undefined where the status says
   * that there is none.
   */
  async #json<T>(call: Call, options: CallOptions): Promise<T> {
    const response = await this.#send(call, options);
    if (response.statusCode === 204) {
      response.resume();
      return undefined as T;
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.#transport.body(response, options.signal)) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new EngineError('corrupt', `the answer to ${call.method} ${call.path} is not JSON`, { cause });
    }
  }

  /** Asks for what layerd alone has; another engine does not find the path, which says nothing to whoever asked. */
  async #own<T>(what: string, options: CallOptions, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof EngineError) || error.status !== 404) throw error;
      await this.#needLayerd(what, options, error);
      throw error;
    }
  }

  /** Refuses an engine that is not layerd. */
  async #needLayerd(what: string, options: CallOptions, cause?: EngineError): Promise<void> {
    const ping = await this.ping(options);
    if (isLayerd(ping)) return;
    const { server = '' } = ping;
    throw new EngineError(
      'not-implemented',
      `the engine at ${this.host} is not layerd${server === '' ? '' : ` but ${server}`}, and does not ${what}; name a layerd with --host or LAYERD_HOST`,
      cause?.status === undefined ? { cause } : { status: cause.status, cause },
    );
  }

  async #need(version: string, what: string, options: CallOptions): Promise<void> {
    const spoken = await this.apiVersion(options);
    if (older(spoken, version) === version) return;
    throw new EngineError('not-implemented', `${what} needs API version ${version}; the daemon speaks ${spoken}`);
  }
}

const isLayerd = ({ server }: Ping): boolean => server?.startsWith('layerd/') === true;

/** The older of two versions `major.minor`. */
function older(a: string, b: string): string {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number);
  const [majorB = 0, minorB = 0] = b.split('.').map(Number);
  return majorA < majorB || (majorA === majorB && minorA < minorB) ? a : b;
}

/** A name as path segments; its slashes and colons stay, as engines' routes expect. */
function encodeName(name: string): string {
  return name
    .split('/')
    .map((part) => encodeURIComponent(part).replaceAll('%3A', ':').replaceAll('%40', '@'))
    .join('/');
}

const setPath = (name: string): string => `/layerd/sets/${encodeURIComponent(name)}`;

function setFilters(query: URLSearchParams, filters: Filters | undefined): void {
  if (filters !== undefined && Object.keys(filters).length > 0) query.set('filters', JSON.stringify(filters));
}

function eventsQuery({ since, until, filters }: EventsOptions): URLSearchParams {
  const query = new URLSearchParams();
  if (since !== undefined) query.set('since', since);
  if (until !== undefined) query.set('until', until);
  setFilters(query, filters);
  return query;
}

/** A body that is one document. */
const jsonBody = (document: object): AsyncIterable<Uint8Array> => textBody(JSON.stringify(document));

async function* textBody(text: string): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(Buffer.from(text));
}

/** The header as docker sends it: JSON in URL-safe base64, padded. */
function authHeader(auth: object | undefined, name = 'X-Registry-Auth'): Record<string, string> {
  if (auth === undefined) return {};
  const encoded = Buffer.from(JSON.stringify(auth)).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  return { [name]: encoded };
}

const priorityHeader = ({ priority }: { readonly priority?: number | undefined }): Record<string, string> =>
  priority === undefined ? {} : { 'X-Layerd-Priority': String(priority) };

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
