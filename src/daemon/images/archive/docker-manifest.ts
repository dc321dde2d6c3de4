import { isDigest, type Digest } from '../../../protocol/digest.ts';
import { LayerdError } from '../../../protocol/errors.ts';
import { MediaType } from '../../../protocol/media-types.ts';
import { MAX_IMAGE_LAYERS, type Descriptor, type Manifest } from '../../../protocol/oci.ts';
import { parseReference, withDefaultTag, type Reference } from '../../../protocol/reference.ts';
import { digestOf } from '../../../protocol/sha256.ts';
import { MAX_INDEX_MANIFESTS } from '../../registry/manifest.ts';
import { Member, unusable } from './archive.ts';
import type { Compression } from './decompress.ts';
import type { StoredFile } from './intake.ts';

/** An image as docker's `manifest.json` lists it. */
export interface DockerImage {
  /** Path of its config. */
  readonly config: string;
  readonly tags: readonly Reference[];
  /** Paths of its layers, bottom first. */
  readonly layers: readonly string[];
  /** The image ID of the image that it was made on top of. */
  readonly parent: Digest | undefined;
}

const LAYER_TYPES: Readonly<Record<Compression, string>> = {
  none: MediaType.dockerLayer,
  gzip: MediaType.dockerLayerGzip,
  zstd: MediaType.dockerLayerZstd,
};

/** Reads `manifest.json` of an archive (docker's image spec v1.2, "Combined Image JSON + Filesystem Changeset Format"). */
export function parseDockerManifest(bytes: Uint8Array): DockerImage[] {
  const images = parseMember(bytes, Member.manifest);
  if (!Array.isArray(images)) throw malformed('it is not a list');
  if (images.length === 0) throw malformed('it lists no image');
  if (images.length > MAX_INDEX_MANIFESTS) throw malformed(`it lists more than ${MAX_INDEX_MANIFESTS} images`);
  return images.map((image: unknown) => {
    if (typeof image !== 'object' || image === null) throw malformed('an image is not an object');
    const { Config, RepoTags, Layers, Parent } = image as Readonly<Record<string, unknown>>;
    if (typeof Config !== 'string' || Config === '') throw malformed('an image has no Config');
    const parent = Parent === undefined || Parent === null || Parent === '' ? undefined : Parent;
    if (parent !== undefined && !isDigest(parent)) throw malformed('the Parent of an image is no image ID');
    const layers = texts(Layers, 'Layers');
    if (layers.length > MAX_IMAGE_LAYERS) throw malformed(`an image has more than ${MAX_IMAGE_LAYERS} layers`);
    return {
      config: inArchive(Config),
      tags: texts(RepoTags, 'RepoTags').map(tagOf),
      layers: layers.map(inArchive),
      parent,
    };
  });
}

/** A document at the archive's root as JSON. */
export function parseMember(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw unusable(`its ${name} is not JSON in UTF-8`, error);
  }
}

/**
 * The manifest of an image that came without one: over the bytes of config and layers as they are, so that the image ID is
 * the digest of the config. The same files give the same manifest, which is byte for byte the one that containerd makes.
 */
export function makeManifest(
  config: StoredFile,
  layers: readonly (StoredFile & { readonly compression: Compression })[],
): { readonly descriptor: Descriptor; readonly manifest: Manifest; readonly bytes: Buffer } {
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.dockerManifest,
    config: { mediaType: MediaType.dockerConfig, digest: config.digest, size: config.size },
    layers: layers.map(({ digest, size, compression }) => ({ mediaType: LAYER_TYPES[compression], digest, size })),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const digest = digestOf(bytes);
  return { descriptor: { mediaType: manifest.mediaType, digest, size: bytes.byteLength }, manifest, bytes };
}

/** A name that an archive gives to an image. */
export function tagOf(name: string): Reference {
  let reference: Reference;
  try {
    reference = withDefaultTag(parseReference(name));
  } catch (error) {
    if (!(error instanceof LayerdError)) throw error;
    throw unusable(`${JSON.stringify(name.slice(0, 300))} is no name of an image: ${error.message}`, error);
  }
  if (reference.digest !== undefined)
    throw unusable(`the name ${JSON.stringify(name)} has a digest; only tags can be given`);
  return reference;
}

/** A path as entries have it. One that leads elsewhere is that of no entry. */
const inArchive = (path: string): string => path.replace(/^(?:\.\/+)+/, '');

function texts(value: unknown, name: string): string[] {
  // Go writes a list that was never filled as null.
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) {
    throw malformed(`${name} is not a list of strings`);
  }
  return value;
}

const malformed = (what: string): LayerdError => unusable(`its ${Member.manifest} is malformed: ${what}`);
