import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack, type Header } from 'tar-stream';
import type { Digest } from '../../src/protocol/digest.ts';
import { MediaType } from '../../src/protocol/media-types.ts';
import type { Descriptor, ImageConfig, Index, Manifest, Platform } from '../../src/protocol/oci.ts';

export type Format = 'docker' | 'oci';
export type Compression = 'gzip' | 'zstd' | 'none';

/** Bytes with their digest, as a registry holds them. */
export interface Blob {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

/** A layer blob, with the digest of the tar inside. */
export interface TestLayer extends Blob {
  readonly diffId: Digest;
  readonly compression: Compression;
  /** The media type to use instead of the one for the format and the compression. */
  readonly mediaType?: string;
  /** Where a foreign layer lives; its bytes are not pushed. */
  readonly urls?: readonly string[];
}

/** A file of a layer: a tar header and what is in it. A name that ends in / is a folder. */
export type TestFile = Partial<Header> & { readonly name: string; readonly content?: string | Buffer };

/** A manifest or index with everything below it, ready to be pushed. */
export interface TestImage extends Blob {
  readonly mediaType: string;
  /** Blobs to push before it: config and layers. */
  readonly blobs: readonly Blob[];
  /** Manifests to push before it. */
  readonly children: readonly TestImage[];
  /** The image ID; of an index, that of its first manifest. */
  readonly id: Digest;
  readonly layers: readonly TestLayer[];
  readonly platform: Platform | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

export const LINUX_AMD64: Platform = { os: 'linux', architecture: 'amd64' };
export const LINUX_ARM64: Platform = { os: 'linux', architecture: 'arm64', variant: 'v8' };
/** The platform of the machine that runs the test, as registries write it. */
export const HOST_PLATFORM = process.arch === 'arm64' ? LINUX_ARM64 : LINUX_AMD64;
/** When everything was made: one fixed moment, so that the same input gives the same digests. */
const EPOCH = new Date('2024-01-02T03:04:05Z');

export function blobOf(bytes: Buffer | string): Blob {
  const buffer = Buffer.from(bytes);
  return { bytes: buffer, digest: digestOf(buffer) };
}

export function digestOf(bytes: Buffer | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(seed: string, size: number): Buffer {
  return createHash('shake256', { outputLength: size }).update(seed).digest();
}

/** The tar of a list of files. */
export async function tarOf(files: readonly TestFile[]): Promise<Buffer> {
  const archive = pack();
  const chunks: Buffer[] = [];
  const collected = (async () => {
    for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk);
  })();
  for (const { content, ...header } of files) {
    const type = header.type ?? (header.name.endsWith('/') ? 'directory' : 'file');
    const mode = header.mode ?? (type === 'directory' ? 0o755 : 0o644);
    archive.entry({ mtime: EPOCH, ...header, type, mode }, content ?? '');
  }
  archive.finalize();
  await collected;
  return Buffer.concat(chunks);
}

/** A layer of these files. */
export async function layer(
  files: readonly TestFile[],
  options: { compression?: Compression; mediaType?: string; urls?: readonly string[] } = {},
): Promise<TestLayer> {
  return layerOfTar(await tarOf(files), options);
}

/** A layer of bytes that are said to be a tar. */
export function layerOfTar(
  tar: Buffer,
  options: { compression?: Compression; mediaType?: string; urls?: readonly string[] } = {},
): TestLayer {
  const { compression = 'gzip', ...rest } = options;
  const compress = { gzip: gzipSync, zstd: zstdCompressSync, none: (bytes: Buffer) => bytes };
  return { ...blobOf(compress[compression](tar)), diffId: digestOf(tar), compression, ...rest };
}

/** A layer of one file of that many incompressible bytes, for transfers that must take a while. */
export async function bulk(name: string, size: number, compression: Compression = 'gzip'): Promise<TestLayer> {
  return layer([{ name: `${name}.bin`, content: noise(name, size) }], { compression });
}

/** The well-known empty layer: a tar of nothing but its end. */
export function emptyLayer(): TestLayer {
  return layerOfTar(Buffer.alloc(1024));
}

export interface ImageOptions {
  readonly layers: readonly TestLayer[];
  readonly format?: Format;
  readonly platform?: Platform;
  /** Merged over the config that is made. */
  readonly config?: Partial<ImageConfig>;
  /** Changes the manifest before it is written, for manifests that lie. */
  readonly alter?: (manifest: Manifest) => void;
  readonly annotations?: Record<string, string>;
}

/** An image of these layers. */
export function image(options: ImageOptions): TestImage {
  const { layers, format = 'docker', platform = HOST_PLATFORM } = options;
  const config: ImageConfig = {
    created: EPOCH.toISOString(),
    ...platform,
    config: { Env: ['PATH=/usr/bin'], Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map((_, index) => ({ created: EPOCH.toISOString(), created_by: `ADD layer ${index + 1}` })),
    ...options.config,
  };
  const configBlob = blobOf(JSON.stringify(config));
  const docker = format === 'docker';
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: docker ? MediaType.dockerManifest : MediaType.ociManifest,
    config: descriptor(configBlob, docker ? MediaType.dockerConfig : MediaType.ociConfig),
    layers: layers.map((each) => ({
      ...descriptor(each, each.mediaType ?? layerType(format, each.compression)),
      ...(each.urls === undefined ? {} : { urls: [...each.urls] }),
    })),
    ...(options.annotations === undefined ? {} : { annotations: options.annotations }),
  };
  options.alter?.(manifest);
  const pushed = layers.filter(({ urls }) => urls === undefined);
  return finish(manifest, { blobs: [configBlob, ...pushed], layers, platform, id: configBlob.digest });
}

/** An index of images and indexes; each is listed under its own platform. */
export function index(
  children: readonly TestImage[],
  options: { format?: Format; annotations?: Record<string, string> } = {},
): TestImage {
  const { format = 'docker', annotations } = options;
  const document: Index = {
    schemaVersion: 2,
    mediaType: format === 'docker' ? MediaType.dockerIndex : MediaType.ociIndex,
    manifests: children.map((child) => ({
      ...descriptor(child, child.mediaType),
      ...(child.platform === undefined ? {} : { platform: child.platform }),
      ...(child.annotations === undefined ? {} : { annotations: { ...child.annotations } }),
    })),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return finish(document, {
    children,
    id: children[0]?.id ?? digestOf(''),
    layers: children[0]?.layers ?? [],
    blobs: [],
  });
}

/** An attestation manifest about an image, as BuildKit puts it into an index beside the image. */
export function attestation(about: TestImage): TestImage {
  const statement = blobOf(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v0.1',
      predicateType: 'https://slsa.dev/provenance/v0.2',
      subject: [{ name: 'image', digest: { sha256: about.digest.slice('sha256:'.length) } }],
    }),
  );
  const platform = { os: 'unknown', architecture: 'unknown' };
  const config = blobOf(JSON.stringify({ ...platform, rootfs: { type: 'layers', diff_ids: [statement.digest] } }));
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: descriptor(config, MediaType.ociConfig),
    layers: [
      {
        ...descriptor(statement, 'application/vnd.in-toto+json'),
        annotations: { 'in-toto.io/predicate-type': 'https://slsa.dev/provenance/v0.2' },
      },
    ],
  };
  const annotations = {
    'vnd.docker.reference.digest': about.digest,
    'vnd.docker.reference.type': 'attestation-manifest',
  };
  return finish(manifest, { blobs: [config, statement], id: config.digest, platform, annotations });
}

/** An artifact: a manifest whose config describes no image; without content it has nothing but a config. */
export function artifact(artifactType: string, content: readonly Buffer[] = []): TestImage {
  const config = blobOf('{}');
  const blobs = content.map(blobOf);
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    artifactType,
    config: descriptor(config, MediaType.ociEmpty),
    layers: blobs.map((blob) => descriptor(blob, 'application/octet-stream')),
  };
  return finish(manifest, { blobs: [config, ...blobs], id: config.digest });
}

/** An index of what refers to a manifest, each with its type, as registries and the clients that push them keep it. */
export function referrersIndex(referrers: readonly (readonly [TestImage, string])[]): TestImage {
  const document: Index = {
    schemaVersion: 2,
    mediaType: MediaType.ociIndex,
    manifests: referrers.map(([each, artifactType]) => ({
      ...descriptor(each, each.mediaType),
      artifactType,
      annotations: { about: artifactType },
    })),
  };
  return finish(document, { children: referrers.map(([each]) => each), id: digestOf(''), blobs: [] });
}

/** A manifest of the old schema 1; a registry refuses to store it, so a proxy has to serve it. */
export function schema1(repository: string, tag: string): { contentType: string; body: string } {
  const body = {
    schemaVersion: 1,
    name: repository,
    tag,
    architecture: 'amd64',
    fsLayers: [{ blobSum: emptyLayer().digest }],
    history: [{ v1Compatibility: '{"id":"1","architecture":"amd64","os":"linux"}' }],
    signatures: [],
  };
  return { contentType: MediaType.dockerSchema1Signed, body: JSON.stringify(body, undefined, 3) };
}

/** An OCI archive of one image. */
export async function ociArchive(of: TestImage, name?: string): Promise<Buffer> {
  const annotations = name === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': name } };
  const descriptor = { mediaType: of.mediaType, digest: of.digest, size: of.bytes.length, ...annotations };
  const blobs = new Map([of, ...of.blobs].map(({ digest, bytes }) => [digest, bytes]));
  return tarOf([
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    {
      name: 'index.json',
      content: JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: [descriptor] }),
    },
    ...[...blobs].map(([digest, content]) => ({ name: `blobs/sha256/${digest.slice(7)}`, content })),
  ]);
}

export interface PushOptions {
  readonly username?: string;
  readonly password?: string;
  /** PEM of the authority of an HTTPS registry. */
  readonly ca?: string;
}

/** Pushes an image or index with all that belongs to it, and returns it. */
export async function push(
  registry: string,
  repository: string,
  tag: string,
  pushed: TestImage,
  options: PushOptions = {},
): Promise<TestImage> {
  for (const child of pushed.children) await push(registry, repository, child.digest, child, options);
  for (const blob of pushed.blobs) {
    const known = await call('HEAD', registry, `/v2/${repository}/blobs/${blob.digest}`, options);
    if (known.status === 200) continue;
    const begun = await call('POST', registry, `/v2/${repository}/blobs/uploads/`, options);
    const location = new URL(begun.location ?? fail(`no upload of ${blob.digest} was begun: ${begun.body}`));
    location.searchParams.set('digest', blob.digest);
    const done = await call('PUT', registry, location.pathname + location.search, options, {
      bytes: blob.bytes,
      type: 'application/octet-stream',
    });
    if (done.status !== 201) fail(`blob ${blob.digest} was not taken: ${done.status} ${done.body}`);
  }
  const path = `/v2/${repository}/manifests/${tag}`;
  const done = await call('PUT', registry, path, options, { bytes: pushed.bytes, type: pushed.mediaType });
  if (done.status !== 201) fail(`manifest ${repository}:${tag} was not taken: ${done.status} ${done.body}`);
  return pushed;
}

function finish(
  document: Manifest | Index,
  parts: Partial<Omit<TestImage, keyof Blob | 'mediaType'>> & Pick<TestImage, 'blobs' | 'id'>,
): TestImage {
  return {
    ...blobOf(JSON.stringify(document, undefined, 2)),
    mediaType: document.mediaType,
    children: [],
    layers: [],
    platform: undefined,
    annotations: undefined,
    ...parts,
  };
}

function descriptor(blob: Blob, mediaType: string): Descriptor {
  return { mediaType, digest: blob.digest, size: blob.bytes.length };
}

function layerType(format: Format, compression: Compression): string {
  const types = {
    docker: { gzip: MediaType.dockerLayerGzip, zstd: MediaType.dockerLayerZstd, none: MediaType.dockerLayer },
    oci: { gzip: MediaType.ociLayerGzip, zstd: MediaType.ociLayerZstd, none: MediaType.ociLayer },
  };
  return types[format][compression];
}

function fail(message: string): never {
  throw new Error(message);
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
  readonly body: string;
}

async function call(
  method: string,
  registry: string,
  path: string,
  options: PushOptions,
  content?: { bytes: Buffer; type: string },
): Promise<Answer> {
  const headers: Record<string, string> = { 'Content-Length': String(content?.bytes.length ?? 0) };
  if (content !== undefined) headers['Content-Type'] = content.type;
  if (options.username !== undefined) {
    headers['Authorization'] =
      `Basic ${Buffer.from(`${options.username}:${options.password ?? ''}`).toString('base64')}`;
  }
  const secure = options.ca !== undefined;
  const url = new URL(`${secure ? 'https' : 'http'}://${registry}${path}`);
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(url, { method, headers, ca: options.ca }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('error', reject);
      response.on('end', () => {
        const location = response.headers.location;
        const absolute = location === undefined ? undefined : new URL(location, url).href;
        resolve({ status: response.statusCode ?? 0, location: absolute, body });
      });
    });
    request.on('error', reject).end(content?.bytes);
  });
}
