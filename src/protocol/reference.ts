import { isDigest, type Digest } from './digest.ts';
import { LayerdError } from './errors.ts';

/**
 * A name in a repository, normalised as distribution/reference does it (v0.6): `redis` is `docker.io/library/redis`.
 * Without tag and digest it names the repository alone.
 */
export interface Reference {
  /** Host, and port where one is given: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly registry: string;
  /** Path within the registry: `library/redis`. */
  readonly path: string;
  readonly tag: string | undefined;
  /** `algorithm:hex` in an algorithm of the grammar; the store itself has SHA-256 alone. */
  readonly digest: string | undefined;
}

/** The tag that a name without tag or digest means. */
export const DEFAULT_TAG = 'latest';

/** A repository's path may have this many characters. */
const MAX_PATH_LENGTH = 255;

/** Registries whose names are shortened for people: the one, and the name it had before. */
const DEFAULT_REGISTRY = 'docker.io';
const LEGACY_DEFAULT_REGISTRY = 'index.docker.io';
/** The namespace of the official images of the default registry. */
const OFFICIAL_NAMESPACE = 'library/';

// The grammar, as in the documentation of distribution/reference.
const ALPHANUMERIC = '[a-z0-9]+';
const SEPARATOR = '(?:[._]|__|-+)';
const PATH_COMPONENT = `${ALPHANUMERIC}(?:${SEPARATOR}${ALPHANUMERIC})*`;
const PATH = `${PATH_COMPONENT}(?:/${PATH_COMPONENT})*`;
const DOMAIN_COMPONENT = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const DOMAIN = String.raw`(?:${DOMAIN_COMPONENT}(?:\.${DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`;
const TAG = String.raw`\w[\w.-]{0,127}`;
const DIGEST = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}';

const FULL_REFERENCE = new RegExp(`^(?:(${DOMAIN})/)?(${PATH})(?::(${TAG}))?(?:@(${DIGEST}))?$`);
const FULL_DOMAIN = new RegExp(`^${DOMAIN}$`);
const FULL_TAG = new RegExp(`^${TAG}$`);
/** What go-digest accepts as a digest's form, before it looks at the algorithm. */
const DIGEST_FORM = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;
/** A bare identifier, which can never be a repository's name. */
const IDENTIFIER = /^[a-f0-9]{64}$/;

/** Hex digits of a digest, by algorithm: those that are registered with go-digest in dockerd. */
const DIGEST_LENGTHS: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);

/**
 * Parses what a user calls an image or a repository. Throws `invalid` with the messages that dockerd has.
 */
export function parseReference(text: string): Reference {
  if (IDENTIFIER.test(text)) {
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const [registry, remainder] = splitRegistry(text);
  const colon = remainder.indexOf(':');
  const name = colon < 0 ? remainder : remainder.slice(0, colon);
  if (name.toLowerCase() !== name) {
    throw invalid(`invalid reference format: repository name (${name}) must be lowercase`);
  }
  return parseFull(`${registry}/${remainder}`);
}

/** Parses a name, or a digest or 64 hex digits, which are an image ID or the digest of a manifest or index. */
export function parseAnyReference(
  text: string,
):
  | { readonly reference: Reference; readonly digest?: undefined }
  | { readonly reference?: undefined; readonly digest: string } {
  if (IDENTIFIER.test(text)) return { digest: `sha256:${text}` };
  if (digestProblem(text) === undefined) return { digest: text };
  return { reference: parseReference(text) };
}

/**
 * What `fromImage` and `tag` of a pull mean together. The tag may be a digest, and takes the place of what the image
 * names; `docker pull -a` may send a name that ends in a colon.
 */
export function parseImageAndTag(image: string, tag: string): Reference {
  const reference = parseReference(image.endsWith(':') ? image.slice(0, -1) : image);
  if (tag === '') return reference;
  if (digestProblem(tag) === undefined) return withDigest({ ...reference, tag: undefined }, tag);
  return withTag(reference, tag);
}

export function withTag(reference: Reference, tag: string): Reference {
  if (!FULL_TAG.test(tag)) throw invalid('invalid tag format');
  return { ...reference, tag };
}

export function withDigest(reference: Reference, digest: string): Reference {
  if (digestProblem(digest) !== undefined) throw invalid('invalid digest format');
  return { ...reference, digest };
}

/** The reference with the tag `latest`, unless it has a tag or a digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: DEFAULT_TAG } : reference;
}

/** The repository with its registry: `docker.io/library/redis`. */
export function canonicalName(reference: Pick<Reference, 'registry' | 'path'>): string {
  return `${reference.registry}/${reference.path}`;
}

/** The whole reference with its registry: `docker.io/library/redis:7@sha256:…`. */
export function canonicalString(reference: Reference): string {
  return canonicalName(reference) + suffix(reference);
}

/** The repository as people write it: `redis`. */
export function familiarName(reference: Pick<Reference, 'registry' | 'path'>): string {
  if (reference.registry !== DEFAULT_REGISTRY) return canonicalName(reference);
  const { path } = reference;
  if (!path.startsWith(OFFICIAL_NAMESPACE)) return path;
  const short = path.slice(OFFICIAL_NAMESPACE.length);
  return short.includes('/') ? path : short;
}

/** The whole reference as people write it: `redis:7@sha256:…`. */
export function familiarString(reference: Reference): string {
  return familiarName(reference) + suffix(reference);
}

/** A reference's digest as the store needs it. Throws `invalid` for the other algorithms of the grammar. */
export function storableDigest(digest: string): Digest {
  if (isDigest(digest)) return digest;
  throw invalid(`cannot use digest ${digest}: content is kept by SHA-256 alone, name it by its sha256 digest`);
}

/**
 * The registry that the server address of a login names: `HOST[:PORT]`, or a URL of it, by which older clients know Docker
 * Hub, which no address means, too.
 */
export function parseServerAddress(text: string): string {
  const host = text.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '';
  if (text === '' || host === LEGACY_DEFAULT_REGISTRY) return DEFAULT_REGISTRY;
  if (FULL_DOMAIN.test(host)) return host;
  throw invalid(`${JSON.stringify(text)} is not the address of a registry: expected HOST or HOST:PORT`);
}

/** What to search for where: a term that begins with a registry's host and a slash is for that registry. */
export function splitSearchTerm(term: string): { registry: string; rest: string } {
  if (term.includes('://')) {
    throw invalid(`invalid repository name: repository name (${term}) should not have a scheme`);
  }
  const [first = '', ...others] = term.split('/');
  const isHost = others.length > 0 && (first === 'localhost' || /[.:]/.test(first));
  const registry = isHost ? parseServerAddress(first) : DEFAULT_REGISTRY;
  const rest = isHost ? others.join('/') : term;
  const isOfficial = registry === DEFAULT_REGISTRY && rest.startsWith(OFFICIAL_NAMESPACE);
  return { registry, rest: isOfficial ? rest.slice(OFFICIAL_NAMESPACE.length) : rest };
}

/** The registry and the path of a canonical name, as the store keeps it. */
export function splitCanonicalName(name: string): Pick<Reference, 'registry' | 'path'> {
  const slash = name.indexOf('/');
  return { registry: name.slice(0, slash), path: name.slice(slash + 1) };
}

function suffix({ tag, digest }: Reference): string {
  return (tag === undefined ? '' : `:${tag}`) + (digest === undefined ? '' : `@${digest}`);
}

/** Tells a registry's host from the first component of a path on the default registry. */
function splitRegistry(text: string): [registry: string, remainder: string] {
  const slash = text.indexOf('/');
  if (slash < 0) return [DEFAULT_REGISTRY, OFFICIAL_NAMESPACE + text];
  const first = text.slice(0, slash);
  const isHost = first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first;
  const registry = !isHost || first === LEGACY_DEFAULT_REGISTRY ? DEFAULT_REGISTRY : first;
  const remainder = isHost ? text.slice(slash + 1) : text;
  const isOfficial = registry === DEFAULT_REGISTRY && !remainder.includes('/');
  return [registry, isOfficial ? OFFICIAL_NAMESPACE + remainder : remainder];
}

function parseFull(text: string): Reference {
  const match = FULL_REFERENCE.exec(text);
  if (match === null) {
    const lower = text.toLowerCase();
    throw invalid(
      lower !== text && FULL_REFERENCE.test(lower) ? 'repository name must be lowercase' : 'invalid reference format',
    );
  }
  const [, registry = '', path = '', tag, digest] = match;
  if (path.length > MAX_PATH_LENGTH) {
    throw invalid(`repository name must not be more than ${MAX_PATH_LENGTH} characters`);
  }
  const problem = digest === undefined ? undefined : digestProblem(digest);
  if (problem !== undefined) throw invalid(problem);
  return { registry, path, tag, digest };
}

/** What is wrong with a digest, in go-digest's words. */
function digestProblem(digest: string): string | undefined {
  const colon = digest.indexOf(':');
  const hex = digest.slice(colon + 1);
  if (colon <= 0 || hex === '') return 'invalid checksum digest format';
  const length = DIGEST_LENGTHS.get(digest.slice(0, colon));
  if (length === undefined) {
    return DIGEST_FORM.test(digest) ? 'unsupported digest algorithm' : 'invalid checksum digest format';
  }
  if (hex.length !== length) return 'invalid checksum digest length';
  return /^[a-f0-9]+$/.test(hex) ? undefined : 'invalid checksum digest format';
}

const invalid = (message: string): LayerdError => new LayerdError('invalid', message);
