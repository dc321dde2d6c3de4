import type { Digest } from '../../protocol/digest.ts';
import { isDigest } from '../../protocol/digest.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import { noTracer, type Tracer } from '../tracing/tracer.ts';
import { classifyAddress, type AddressClass } from './address.ts';
import { withAttempts, type ObserveAttempt } from './attempts.ts';
import { Authorizer } from './authorization.ts';
import { openBlob } from './blobs.ts';
import { deliver } from './delivery.ts';
import { openDownload, type Download } from './download.ts';
import { DOCUMENT_TIMEOUT, withDocuments } from './documents.ts';
import { endpointOf, endpointsOf, familiarName, searchEndpointOf, type Endpoint } from './endpoints.ts';
import { credentialsFor, type Call, type Exchange, type RegistryCall } from './exchange.ts';
import { ExpiringMap } from './expiring-map.ts';
import { cancelled, type HttpRequest, type HttpResponse, type Send } from './http.ts';
import { InsecureRegistries, LOOPBACK_NETWORKS } from './insecure.ts';
import { logIn } from './login.ts';
import { lookupAll, type Lookup } from './lookup.ts';
import { getManifest, headManifest } from './manifests.ts';
import { itemsOf } from './pages.ts';
import { createProxySelector } from './proxies.ts';
import { RateLimits, type RateLimit } from './rate-limits.ts';
import { withRedirects } from './redirect.ts';
import { getReferrers } from './referrers.ts';
import {
  isRepositoryPath,
  type Delivery,
  type FoundRepository,
  type LocalBlob,
  type Logger,
  type PushedManifest,
  type Registries,
  type RegistryOptions,
  type RemoteBlob,
  type RemoteManifest,
  type Repository,
  type RequestOptions,
} from './registry.ts';
import { sleep, withRetries, type Sleep } from './retry.ts';
import { withSchemeFallback } from './schemes.ts';
import { search } from './search.ts';
import { withSpans } from './spans.ts';
import { FIRST_TAGS, getTags, MAX_TAG_PAGES } from './tags.ts';
import { TokenSource } from './tokens.ts';
import { TIMEOUTS, Transport, type Timeouts } from './transport.ts';
import { Uploads } from './uploads.ts';

/** What the registry side takes from the world, each with what it is by default. */
export interface RegistryEnvironment {
  readonly logger: Logger;
  readonly observe?: ObserveAttempt;
  readonly tracer?: Tracer;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** From 0 to less than 1. */
  readonly random?: () => number;
  readonly sleep?: Sleep;
  readonly lookup?: Lookup;
  readonly classify?: (address: string) => AddressClass;
  readonly timeouts?: Partial<Timeouts> & { readonly document?: number };
  /** Networks that are insecure without being named. */
  readonly implicitlyInsecure?: readonly string[];
}

/** How long it is remembered which scheme a registry answers at: 10 minutes, in milliseconds. */
const SCHEME_LIFE = 10 * 60_000;
const MAX_HOSTS = 256;
/** Blobs whose ETags are remembered for a resume. */
const MAX_ETAGS = 1000;

const SAFE_REFERENCE = /^\w[\w.-]{0,127}$/;

/** The registries, to be told of a new configuration. */
export interface ReconfigurableRegistries extends Registries {
  /** Takes a new configuration. Requests under way end under the old one. Throws `invalid` and keeps the old one. */
  reconfigure(options: RegistryOptions): void;
}

export function createRegistries(options: RegistryOptions, environment: RegistryEnvironment): ReconfigurableRegistries {
  return new RemoteRegistries(options, environment);
}

/** What follows from a configuration. */
interface Setup {
  readonly options: RegistryOptions;
  readonly transport: Transport;
  readonly insecure: InsecureRegistries;
  readonly exchange: Exchange;
  /** Sends what is not for a registry's API. */
  readonly fetch: Send;
}

class RemoteRegistries implements ReconfigurableRegistries {
  readonly #environment: Required<Omit<RegistryEnvironment, 'timeouts'>> & {
    readonly timeouts: Timeouts & { readonly document: number };
  };
  readonly #rateLimits: RateLimits;
  readonly #etags: ExpiringMap<string>;
  /** Host of an endpoint, and the hosts that it had blobs served from. */
  readonly #blobHosts: ExpiringMap<ReadonlySet<string>>;
  #setup: Setup;

  constructor(options: RegistryOptions, environment: RegistryEnvironment) {
    const now = environment.now ?? Date.now;
    this.#environment = {
      observe: () => undefined,
      tracer: noTracer,
      now,
      random: Math.random,
      sleep,
      lookup: lookupAll,
      classify: classifyAddress,
      implicitlyInsecure: LOOPBACK_NETWORKS,
      ...environment,
      timeouts: { ...TIMEOUTS, document: DOCUMENT_TIMEOUT, ...environment.timeouts },
    };
    this.#rateLimits = new RateLimits({ logger: environment.logger, now });
    this.#etags = new ExpiringMap({ limit: MAX_ETAGS, now });
    this.#blobHosts = new ExpiringMap({ limit: MAX_HOSTS, now });
    this.#setup = this.#build(options);
  }

  reconfigure(options: RegistryOptions): void {
    const { transport } = this.#setup;
    this.#setup = this.#build(options);
    transport
      .retire()
      .catch((error: unknown) =>
        this.#environment.logger.warn('closing old connections failed', { reason: messageOf(error) }),
      );
  }

  async manifest(repository: Repository, reference: string, options: RequestOptions = {}): Promise<RemoteManifest> {
    const note = (response: HttpResponse): void => this.#rateLimits.note(repository.registry, response);
    return this.#tryEndpoints(repository, reference, options, (endpoint, exchange) =>
      getManifest(exchange, endpoint, repository, reference, { ...options, note }),
    );
  }

  async resolve(repository: Repository, reference: string, options: RequestOptions = {}): Promise<Descriptor> {
    const note = (response: HttpResponse): void => this.#rateLimits.note(repository.registry, response);
    return this.#tryEndpoints(repository, reference, options, (endpoint, exchange) =>
      headManifest(exchange, endpoint, repository, reference, { ...options, note }),
    );
  }

  async blob(
    repository: Repository,
    digest: Digest,
    options: RequestOptions & { readonly offset?: number; readonly avoid?: ReadonlySet<string> } = {},
  ): Promise<RemoteBlob> {
    const { offset = 0, avoid = new Set() } = options;
    const { logger } = this.#environment;
    const isAvoided = ({ host }: Endpoint): boolean =>
      avoid.has(host) || this.#blobHosts.get(host)?.isDisjointFrom(avoid) === false;
    return this.#tryEndpoints(
      repository,
      digest,
      options,
      async (endpoint, exchange) => {
        const blob = await openBlob(exchange, endpoint, repository, digest, {
          ...options,
          offset,
          etags: this.#etags,
          logger,
        });
        const hosts = new Set(this.#blobHosts.get(endpoint.host));
        this.#blobHosts.set(endpoint.host, hosts.add(blob.host));
        return blob;
      },
      (endpoints) => [
        ...endpoints.filter((endpoint) => !isAvoided(endpoint)),
        ...endpoints.filter((endpoint) => isAvoided(endpoint)),
      ],
    );
  }

  async hasBlob(repository: Repository, digest: Digest, options: RequestOptions = {}): Promise<boolean> {
    return this.#push(repository, digest, options, (uploads) => uploads.hasBlob(digest));
  }

  async hasManifest(repository: Repository, digest: Digest, options: RequestOptions = {}): Promise<boolean> {
    return this.#push(repository, digest, options, (uploads) => uploads.hasManifest(digest));
  }

  async deliver(
    repository: Repository,
    blob: LocalBlob,
    options: RequestOptions & { readonly from: readonly string[]; readonly onSent: (bytes: number) => void },
  ): Promise<Delivery> {
    const { logger, now, random } = this.#environment;
    const { from, onSent, signal } = options;
    const { maxAttempts } = this.#setup.options;
    for (const path of from) refuseUnsafe({ ...repository, path }, undefined);
    const how = { from, onSent, signal, maxAttempts, logger, sleep: this.#environment.sleep, random, now };
    return this.#push(repository, blob.digest, options, (uploads) => deliver(uploads, blob, how));
  }

  async putManifest(
    repository: Repository,
    reference: string,
    manifest: PushedManifest,
    options: RequestOptions = {},
  ): Promise<void> {
    return this.#push(repository, reference, options, (uploads) => uploads.putManifest(reference, manifest));
  }

  async *tags(repository: Repository, options: RequestOptions = {}): AsyncGenerator<string> {
    // Pages of different endpoints do not fit together: the one that has the first has them all.
    const first = await this.#tryEndpoints(repository, undefined, options, async (endpoint, exchange) => ({
      endpoint,
      exchange,
      page: await getTags(exchange, endpoint, repository, FIRST_TAGS, options),
    }));
    const { endpoint, exchange, page } = first;
    yield* itemsOf(page, (query) => getTags(exchange, endpoint, repository, query, options), {
      limit: MAX_TAG_PAGES,
      onLimit: () => {
        throw new LayerdError('invalid', `${familiarName(repository)} has more than ${MAX_TAG_PAGES} pages of tags`);
      },
    });
  }

  async logIn(registry: string, options: RequestOptions): Promise<string | undefined> {
    const { exchange, insecure } = this.#setup;
    return logIn(exchange, await endpointOf(registry, insecure), options);
  }

  async search(
    registry: string,
    term: string,
    options: RequestOptions & { readonly limit: number },
  ): Promise<FoundRepository[]> {
    const { exchange, insecure } = this.#setup;
    const { logger } = this.#environment;
    const endpoint = await searchEndpointOf(registry, insecure);
    return search(exchange, endpoint, { ...options, registry, term, logger });
  }

  async referrers(
    repository: Repository,
    digest: Digest,
    options: RequestOptions & { readonly artifactType?: string | undefined } = {},
  ): Promise<Descriptor[]> {
    const { artifactType } = options;
    // A mirror keeps what was pulled through it, and nobody pulls a list of referrers.
    return this.#atRegistry(repository, digest, options, (endpoint, exchange) =>
      getReferrers(exchange, endpoint, repository, digest, { ...options, artifactType }),
    );
  }

  download(url: URL, { signal }: Pick<RequestOptions, 'signal'> = {}): Promise<Download> {
    return openDownload(this.#setup.fetch, url, signal);
  }

  rateLimits(): ReadonlyMap<string, RateLimit> {
    return this.#rateLimits.all;
  }

  close(): Promise<void> {
    return this.#setup.transport.close();
  }

  /**
   * Asks a repository's endpoints one after the other until one of them has an answer. When none has, the last one, the
   * registry itself, has the word, and what its mirrors said is told beside.
   */
  async #tryEndpoints<T>(
    repository: Repository,
    reference: string | undefined,
    { signal }: RequestOptions,
    attempt: (endpoint: Endpoint, exchange: Exchange) => Promise<T>,
    order: (endpoints: Endpoint[]) => Endpoint[] = (endpoints) => endpoints,
  ): Promise<T> {
    refuseUnsafe(repository, reference);
    const { options, insecure, exchange } = this.#setup;
    const endpoints = order(await endpointsOf(repository, { mirrors: options.mirrors, insecure }));
    const failures: { endpoint: Endpoint; error: LayerdError }[] = [];
    for (const endpoint of endpoints) {
      try {
        return await attempt(endpoint, exchange);
      } catch (error) {
        if (signal?.aborted === true || !(error instanceof LayerdError)) throw error;
        failures.push({ endpoint, error });
        if (failures.length === endpoints.length) break;
        const log = isKind(error, 'not-found') ? 'info' : 'warn';
        this.#environment.logger[log]('trying the next endpoint', {
          repository: familiarName(repository),
          endpoint: endpoint.base,
          reason: error.message,
        });
      }
    }
    throw summary(failures);
  }

  /** Works at the registry itself: what is pushed to a mirror would be lost, or be in the hands of whoever runs it. */
  async #push<T>(
    repository: Repository,
    reference: string,
    options: RequestOptions,
    work: (uploads: Uploads) => Promise<T>,
  ): Promise<T> {
    return this.#atRegistry(repository, reference, options, (endpoint, exchange) =>
      work(new Uploads(exchange, endpoint, repository, options)),
    );
  }

  async #atRegistry<T>(
    repository: Repository,
    reference: string,
    options: RequestOptions,
    attempt: (endpoint: Endpoint, exchange: Exchange) => Promise<T>,
  ): Promise<T> {
    return this.#tryEndpoints(repository, reference, options, attempt, (endpoints) =>
      endpoints.filter(({ mirror }) => !mirror),
    );
  }

  #build(options: RegistryOptions): Setup {
    const { logger, now, random, lookup, classify, implicitlyInsecure, timeouts, observe, tracer } = this.#environment;
    const insecure = new InsecureRegistries({
      entries: options.insecureRegistries,
      implicit: implicitlyInsecure,
      lookup,
      now,
    });
    const transport = new Transport({
      certsDirs: options.certsDirs,
      insecure,
      proxyFor: createProxySelector(options.proxies),
      lookup,
      classify,
      timeouts,
    });
    const working = new ExpiringMap<'https' | 'http'>({ limit: MAX_HOSTS, life: SCHEME_LIFE, now });
    // From the inside to the outside.
    const attempts = withAttempts((request) => transport.send(request), { logger, observe, tracer });
    const documents = withDocuments(attempts, timeouts.document);
    const schemes = withSchemeFallback(documents, { working, logger });
    const retries = withRetries(schemes, {
      maxAttempts: options.maxAttempts,
      logger,
      sleep: this.#environment.sleep,
      random,
      now,
    });
    const spans = withSpans(withRedirects(retries, { logger }), tracer);
    const userAgent = { 'user-agent': options.userAgent };
    const fetch: Send = (request) => spans({ ...request, headers: { ...userAgent, ...request.headers } });
    const tokens = new TokenSource({ send: fetch, now });
    const authorizer = new Authorizer({ tokens, now });
    const exchange: Exchange = async (endpoint, call) => {
      const { repository, path, headers, credentials, push, scopes, onIdentity, ...rest } = call;
      const request: HttpRequest = {
        ...rest,
        ...addressOf(endpoint, call),
        // What comes is hashed as it is.
        headers: { ...userAgent, 'accept-encoding': 'identity', ...headers },
        insecure: endpoint.insecure,
      };
      try {
        if (typeof path !== 'string' && !path.trusted) return await spans(request);
        return await authorizer.send(spans, request, {
          repository: repository?.path,
          credentials: credentialsFor(endpoint, credentials),
          push,
          scopes,
          onIdentity,
        });
      } catch (error) {
        throw call.signal?.aborted === true ? cancelled(call.signal, request.url) : error;
      }
    };
    return { options, transport, insecure, exchange, fetch };
  }
}

/** Where a call goes. */
function addressOf(
  endpoint: Endpoint,
  { repository, path }: Call | RegistryCall,
): Pick<HttpRequest, 'url' | 'alternative' | 'reach'> {
  if (typeof path !== 'string') return { url: path.url, reach: path.reach };
  const target = repository === undefined ? path : `/v2/${repository.path}/${path}`;
  return {
    url: new URL(endpoint.base + target),
    alternative: endpoint.alternative === undefined ? undefined : new URL(endpoint.alternative + target),
    reach: 'anywhere',
  };
}

/** A path or reference that comes from elsewhere than a parsed reference must not lead elsewhere in the registry. */
function refuseUnsafe(repository: Repository, reference: string | undefined): void {
  if (!isRepositoryPath(repository.path)) {
    throw new LayerdError('invalid', `${repository.path} is not the path of a repository`);
  }
  if (reference !== undefined && !SAFE_REFERENCE.test(reference) && !isDigest(reference)) {
    throw new LayerdError('invalid', `${reference} is neither a tag nor a sha256 digest`);
  }
}

function summary(failures: readonly { endpoint: Endpoint; error: LayerdError }[]): LayerdError {
  const own = failures.find(({ endpoint }) => !endpoint.mirror) ?? failures[0];
  if (own === undefined) throw new Error('a repository has at least one endpoint');
  const mirrors = failures.filter((failure) => failure !== own);
  if (mirrors.length === 0) return own.error;
  const told = mirrors.map(({ endpoint, error }) => `mirror ${endpoint.host}: ${error.message}`);
  const { kind, message, retryAfter } = own.error;
  return new LayerdError(kind, `${message} (${told.join('; ')})`, { cause: own.error, retryAfter });
}
