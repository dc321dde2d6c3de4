import { isDigest, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import {
  isImageConfigType,
  isIndexType,
  isManifestType,
  isSchema1Type,
  MediaType,
} from '../../protocol/media-types.ts';
import {
  MAX_DOCUMENT_BYTES,
  MAX_IMAGE_LAYERS,
  type Descriptor,
  type Index,
  type Manifest,
  type Platform,
} from '../../protocol/oci.ts';

/** Layers of an artifact, which keeps its files as layers; nothing mounts them. */
export const MAX_ARTIFACT_LAYERS = 1000;
/** Manifests of an index. */
export const MAX_INDEX_MANIFESTS = 1000;
/** Indexes within indexes, the outermost counted: what is stored is what can be looked into. */
export const MAX_INDEX_DEPTH = 8;

/** What servers call a document when they do not know what it is. */
const GENERIC_TYPES: ReadonlySet<string> = new Set(['', 'application/json', 'application/octet-stream', 'text/plain']);

type Fields = Readonly<Record<string, unknown>>;

/**
 * Reads a manifest or index and checks all that others rely on. What is not in the result was not in the specification.
 * `mediaType`: what the registry or the descriptor calls it. Throws `invalid` for what layerd does not take (schema 1,
 * unknown media types, other digests, too many layers) and `corrupt` for what breaks its own format.
 */
export function parseManifest(bytes: Uint8Array, mediaType: string): Manifest | Index {
  if (bytes.byteLength > MAX_DOCUMENT_BYTES) {
    throw new LayerdError('invalid', `the manifest has ${bytes.byteLength} bytes, the limit is ${MAX_DOCUMENT_BYTES}`);
  }
  refuseSchema1Type(mediaType);
  const document = parseJson(bytes);
  if (document['schemaVersion'] === 1 || document['fsLayers'] !== undefined) throw schema1Error();
  refuseConfusion(document);
  const type = typeOf(document, mediaType);
  if (document['schemaVersion'] !== 2) throw corrupt('schemaVersion is not 2');
  const common = {
    schemaVersion: 2 as const,
    mediaType: type,
    ...optional('artifactType', text(document, 'artifactType', 'manifest')),
    ...optional('subject', absent(document['subject']) ? undefined : descriptor(document['subject'], 'subject')),
    ...optional('annotations', annotations(document['annotations'], 'annotations')),
  };
  if (isIndexType(type)) {
    return { ...common, manifests: descriptors(document['manifests'], 'manifests', MAX_INDEX_MANIFESTS) };
  }
  const config = descriptor(document['config'], 'config');
  const limit = isImageConfigType(config.mediaType) ? MAX_IMAGE_LAYERS : MAX_ARTIFACT_LAYERS;
  return { ...common, config, layers: descriptors(document['layers'], 'layers', limit) };
}

/** Whether a document of {@link parseManifest} is an index. */
export function isIndex(document: Manifest | Index): document is Index {
  return 'manifests' in document;
}

/** A Content-Type without its parameters. */
export function bareMediaType(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

/** Throws for the media types of schema 1, whose layers have no sizes and whose digest is not that of its bytes. */
export function refuseSchema1Type(mediaType: string): void {
  if (isSchema1Type(mediaType)) throw schema1Error();
}

/** Throws for a media type that is neither a manifest's nor an index's. */
export function refuseUnknownType(mediaType: string): void {
  if (isIndexType(mediaType) || isManifestType(mediaType)) return;
  throw new LayerdError('invalid', `unsupported media type ${mediaType.slice(0, 128)} of a manifest`);
}

function schema1Error(): LayerdError {
  return new LayerdError(
    'invalid',
    'this is a Docker Image manifest version 2, schema 1: schema 1 support has been removed here as in Docker. ' +
      'Its author has to push it again as an OCI image or a schema 2 manifest',
  );
}

/**
 * Answers media type confusion (CVE-2021-41190): a document that is an index to one reader and a manifest to another has
 * one digest and signature for two different contents.
 */
function refuseConfusion(document: Fields): void {
  if (document['manifests'] === undefined) return;
  if (document['layers'] === undefined && document['config'] === undefined) return;
  throw corrupt('it is ambiguous: it has the fields of an index and those of an image');
}

function typeOf(document: Fields, mediaType: string): string {
  const said = bareMediaType(mediaType);
  const own = text(document, 'mediaType', 'manifest');
  if (own !== undefined && !GENERIC_TYPES.has(said) && own !== said) {
    // The same attack: the registry's word and the document's must be one.
    throw corrupt(`it is served as ${said} and calls itself ${own.slice(0, 128)}`);
  }
  const shape = document['manifests'] === undefined ? MediaType.ociManifest : MediaType.ociIndex;
  const type = own ?? (GENERIC_TYPES.has(said) ? shape : said);
  refuseSchema1Type(type);
  refuseUnknownType(type);
  if (isIndexType(type) !== (document['manifests'] !== undefined)) {
    throw corrupt(`it does not have the fields of its media type ${type}`);
  }
  return type;
}

function parseJson(bytes: Uint8Array): Fields {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw corrupt('it is not JSON in UTF-8');
  }
  return fields(value, 'the document');
}

function descriptors(value: unknown, name: string, limit: number): Descriptor[] {
  // Go writes a list that was never filled as null.
  if (value === null) return [];
  if (!Array.isArray(value)) throw corrupt(`${name} is not a list`);
  if (value.length > limit) {
    throw new LayerdError('invalid', `the manifest has ${value.length} ${name}, the limit is ${limit}`);
  }
  return value.map((each, index) => descriptor(each, `${name}[${index}]`));
}

function descriptor(value: unknown, name: string): Descriptor {
  const source = fields(value, name);
  const mediaType = text(source, 'mediaType', name);
  if (mediaType === undefined || mediaType === '') throw corrupt(`${name} has no mediaType`);
  const size = source['size'];
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw corrupt(`${name}.size is not a number of bytes`);
  }
  const urls = texts(source['urls'], `${name}.urls`);
  return {
    mediaType,
    digest: digest(source['digest'], `${name}.digest`),
    size,
    ...optional('platform', absent(source['platform']) ? undefined : platform(source['platform'], `${name}.platform`)),
    ...optional('annotations', annotations(source['annotations'], `${name}.annotations`)),
    ...optional('artifactType', text(source, 'artifactType', name)),
    ...optional('urls', urls === undefined || urls.length === 0 ? undefined : urls),
  };
}

function digest(value: unknown, name: string): Digest {
  if (isDigest(value)) return value;
  const algorithm = typeof value === 'string' ? /^([a-z0-9+._-]{1,32}):[a-zA-Z0-9=_-]+$/.exec(value)?.[1] : undefined;
  if (algorithm === undefined || algorithm === 'sha256') throw corrupt(`${name} is not a digest`);
  throw new LayerdError('invalid', `${name} is a ${algorithm} digest; layerd stores content by sha256 only`);
}

function platform(value: unknown, name: string): Platform {
  const source = fields(value, name);
  return {
    os: text(source, 'os', name) ?? '',
    architecture: text(source, 'architecture', name) ?? '',
    ...optional('variant', text(source, 'variant', name)),
    ...optional('os.version', text(source, 'os.version', name)),
    ...optional('os.features', texts(source['os.features'], `${name}.os.features`)),
  };
}

function annotations(value: unknown, name: string): Record<string, string> | undefined {
  if (absent(value)) return undefined;
  const entries = Object.entries(fields(value, name)).map(([key, each]): [string, string] => {
    if (typeof each !== 'string') throw corrupt(`${name} has a value that is not a string`);
    return [key, each];
  });
  // fromEntries defines properties, where an assignment to `__proto__` would set the prototype.
  return Object.fromEntries(entries);
}

function fields(value: unknown, name: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt(`${name} is not an object`);
  return value as Fields;
}

function text(source: Fields, key: string, name: string): string | undefined {
  const value = source[key];
  if (absent(value)) return undefined;
  if (typeof value !== 'string') throw corrupt(`${name}.${key} is not a string`);
  return value;
}

function texts(value: unknown, name: string): string[] | undefined {
  if (absent(value)) return undefined;
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) {
    throw corrupt(`${name} is not a list of strings`);
  }
  return value;
}

/** Go writes what is not there as null where it does not leave it out. */
function absent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function optional<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, V>);
}

function corrupt(what: string): LayerdError {
  return new LayerdError('corrupt', `the manifest is malformed: ${what}`);
}
