import type { Digest } from '../../protocol/digest.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import type { Download } from './download.ts';

/**
 * The remote side. A repository lives in a registry and is reached through one or more endpoints: its mirrors in order,
 * then the registry itself. Every request goes through here; nothing else in the daemon speaks to a remote host.
 */
export interface Repository {
  /** Host and port as in the reference: `docker.io`, `localhost:5000`. */
  readonly registry: string;
  /** Path within the registry: `library/redis`. */
  readonly path: string;
}

/** What a client sent in X-Registry-Auth: credentials of one request, held no longer than it. */
export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  /** An OAuth2 refresh token, in place of a password. */
  readonly identityToken?: string;
  /** A bearer token to use as it is. */
  readonly registryToken?: string;
}

/** A manifest or index as the registry served it: its bytes are what the digest is of. */
export interface RemoteManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** The body of a blob, from `offset` on. */
export interface RemoteBlob {
  /** Where the body starts: what was asked for, or 0 where the registry does not serve ranges. */
  readonly offset: number;
  /** The whole blob's size in bytes as the registry states it; undefined when it does not. */
  readonly size: number | undefined;
  /** Host that serves the bytes, for progress and logs. */
  readonly host: string;
  readonly body: AsyncIterable<Uint8Array>;
}

/** A repository that a search found. */
export interface FoundRepository {
  /** As users call it, with its registry unless that is Docker Hub. */
  readonly name: string;
  readonly description: string;
  /** Whether it is one of Docker's official images. */
  readonly official: boolean;
  readonly stars: number;
}

export interface RequestOptions {
  readonly credentials?: Credentials | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A blob that is to be pushed. */
export interface LocalBlob {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Its bytes from the offset on. */
  open(offset: number): AsyncIterable<Uint8Array>;
}

/** A manifest or index that is to be pushed, as it was pulled: its bytes are what the digest is of. */
export interface PushedManifest {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

/** How a blob came into a repository. */
export type Delivery = { readonly how: 'uploaded' | 'present' } | { readonly how: 'mounted'; readonly from: string };

/** The registries, as the rest of the daemon sees them. */
export interface Registries {
  /** Gets the manifest that a tag or digest names. Its digest is verified when one was asked for. */
  manifest(repository: Repository, reference: string, options?: RequestOptions): Promise<RemoteManifest>;
  /** Asks which manifest a tag or digest names, without its bytes where the registry's HEAD tells enough. */
  resolve(repository: Repository, reference: string, options?: RequestOptions): Promise<Descriptor>;
  /**
   * Opens a blob. The body may end early or fail with an error of kind `unavailable`; the caller resumes by asking again
   * from where it stands. It is not verified here. `avoid`: hosts whose bytes proved wrong, which are tried last.
   */
  blob(
    repository: Repository,
    digest: Digest,
    options?: RequestOptions & { readonly offset?: number; readonly avoid?: ReadonlySet<string> },
  ): Promise<RemoteBlob>;
  /** Whether the registry itself, not a mirror, holds a blob in the repository. As are all of these, for pushing to it. */
  hasBlob(repository: Repository, digest: Digest, options?: RequestOptions): Promise<boolean>;
  /** Whether it holds a manifest or index under its digest. */
  hasManifest(repository: Repository, digest: Digest, options?: RequestOptions): Promise<boolean>;
  /**
   * Brings a blob into the repository: not at all where it is, by a mount where one of the repositories `from`, paths on
   * the same registry, has it, else by an upload that is gone on with when it breaks. `onSent` is told how many bytes the
   * registry has been sent.
   */
  deliver(
    repository: Repository,
    blob: LocalBlob,
    options: RequestOptions & { readonly from: readonly string[]; readonly onSent: (bytes: number) => void },
  ): Promise<Delivery>;
  /** Puts a manifest, all of whose blobs are there, under a tag or its digest. */
  putManifest(
    repository: Repository,
    reference: string,
    manifest: PushedManifest,
    options?: RequestOptions,
  ): Promise<void>;
  /** Opens a file on the web by its URL, for an import. Its body ends early with `unavailable`; there is no resuming. */
  download(url: URL, options?: Pick<RequestOptions, 'signal'>): Promise<Download>;
  /** All tags of a repository, page by page. */
  tags(repository: Repository, options?: RequestOptions): AsyncIterable<string>;
  /**
   * Tries an account at the registry itself, and says the identity token that is to take the password's place, where its
   * token server gives one. Throws `unauthorized` with the registry's reason where the account is refused.
   */
  logIn(registry: string, options: RequestOptions): Promise<string | undefined>;
  /** Repositories of a registry that fit a term, at most `limit`. */
  search(
    registry: string,
    term: string,
    options: RequestOptions & { readonly limit: number },
  ): Promise<FoundRepository[]>;
  /** The manifests that refer to the manifest of a digest at the registry itself, all or those of one type. */
  referrers(
    repository: Repository,
    digest: Digest,
    options?: RequestOptions & { readonly artifactType?: string | undefined },
  ): Promise<Descriptor[]>;
  /** Docker Hub's last known pull limit and what is left of it, by registry. */
  rateLimits(): ReadonlyMap<string, { limit: number; remaining: number; source?: string; at: number }>;
  /** Closes all connections; requests under way fail. */
  close(): Promise<void>;
}

/** A path in the grammar of distribution/reference. */
const PATH = /^[a-z0-9]+(?:(?:[._]|__|-+|\/)[a-z0-9]+)*$/;

/** Whether it is the path of a repository: one that comes from elsewhere than a parsed reference may be anything. */
export function isRepositoryPath(text: string): boolean {
  return PATH.test(text);
}

/** Where the registry side tells what it does. Fields never hold credentials. */
export interface Logger {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
}

/** What the registry side is configured with; replaced as a whole on a reload. */
export interface RegistryOptions {
  /** Hosts, host:ports or CIDRs that may be spoken to over plain HTTP or unverified TLS, besides loopback. */
  readonly insecureRegistries: readonly string[];
  /** Mirrors of Docker Hub, as URLs, tried in order before it. */
  readonly mirrors: readonly string[];
  /** Directories of `<host:port>/{ca.crt,client.cert,client.key}`: certs.d of docker and of layerd. */
  readonly certsDirs: readonly string[];
  /** How often a failed request is tried in all. */
  readonly maxAttempts: number;
  readonly proxies: { readonly http?: string; readonly https?: string; readonly no?: string };
  readonly userAgent: string;
}
