import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContentStore } from '../../../src/daemon/content/store.ts';
import { GarbageCollector } from '../../../src/daemon/content/garbage.ts';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import type { StoredLayer, StoredManifest } from '../../../src/daemon/images/image.ts';
import { LayerStore } from '../../../src/daemon/layers/store.ts';
import { canonicalName, parseReference } from '../../../src/protocol/reference.ts';
import { ImageRemover } from '../../../src/daemon/images/remove.ts';
import { ImageStore, type PutResult } from '../../../src/daemon/images/store.ts';
import { SetStore } from '../../../src/daemon/sets/store.ts';
import { Database } from '../../../src/daemon/metadata/database.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import type { Descriptor, ImageConfig, Index, Manifest, Platform } from '../../../src/protocol/oci.ts';

export const AMD64: Platform = { os: 'linux', architecture: 'amd64' };
export const ARM64: Platform = { os: 'linux', architecture: 'arm64', variant: 'v8' };

/** The type of predicates that say how an image was built. */
export const PROVENANCE = 'https://slsa.dev/provenance/v0.2';

/** A layer as a pull leaves it: its blob and its EROFS image, by their sizes. */
export interface TestLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  /** Bytes of the blob, of the tar and of the EROFS image. */
  readonly bytes: number;
  readonly size: number;
  readonly imageSize: number;
}

/** A manifest with all it needs, not yet part of an image. */
export interface TestManifest {
  readonly stored: StoredManifest;
  readonly descriptor: Descriptor;
  readonly blobs: readonly Digest[];
}

export function sha256(bytes: string | Buffer): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/**
 * A store on a real database and content store in a temporary folder, and what a pull would write into it. Layers have
 * rows alone: nothing here reads their bytes.
 */
export class Fixture implements Disposable {
  readonly root: string;
  readonly db: Database;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly collector: GarbageCollector;
  readonly store: ImageStore;
  readonly remover: ImageRemover;
  readonly sets: SetStore;
  /** The events that were appended, those of a transaction that was rolled back too. */
  readonly events: NewEvent[] = [];
  /** What the clock says, in Unix milliseconds. */
  now = Date.UTC(2026, 0, 1);

  constructor(host: Platform = AMD64) {
    this.root = mkdtempSync(join(tmpdir(), 'layerd-images-'));
    this.db = new Database(join(this.root, 'metadata.db'));
    this.content = new ContentStore({ db: this.db, root: this.root });
    this.store = new ImageStore({
      db: this.db,
      readBlob: (digest) => this.content.read(digest),
      host,
      now: () => this.now,
      layerPath: (diffId) => join('/layers', diffId.slice('sha256:'.length)),
    });
    this.layers = new LayerStore({ db: this.db, root: this.root, events: { append: () => undefined } });
    this.collector = new GarbageCollector({
      db: this.db,
      content: this.content,
      removeLayers: (diffIds) => this.layers.remove(diffIds),
    });
    const events = { append: (event: NewEvent) => this.events.push(event) };
    this.sets = new SetStore({ images: this.store, events, host, now: () => this.now });
    this.remover = new ImageRemover({
      store: this.store,
      events,
      collect: (candidates) => this.collector.collect(candidates),
      pins: this.sets,
    });
  }

  [Symbol.dispose](): void {
    this.db.close();
    rmSync(this.root, { recursive: true });
  }

  /** A layer that the name stands for; the same name gives the same tar, another compression another blob. */
  layer(name: string, options: { size?: number; fileBytes?: number; compression?: string } = {}): TestLayer {
    const { size = 10_000, compression = 'gzip' } = options;
    const layer = {
      digest: sha256(`${name} ${compression}`),
      diffId: sha256(name),
      bytes: Math.ceil(size / 3),
      size,
      imageSize: size + 4096,
    };
    this.db.run('INSERT OR IGNORE INTO blob (digest, size, created_at) VALUES (?, ?, 0)', layer.digest, layer.bytes);
    this.db.run(
      'INSERT OR IGNORE INTO layer (diff_id, size, image_size, file_bytes, created_at) VALUES (?, ?, ?, ?, 0)',
      layer.diffId,
      layer.size,
      layer.imageSize,
      options.fileBytes ?? null,
    );
    this.db.run('INSERT OR IGNORE INTO layer_blob (digest, diff_id) VALUES (?, ?)', layer.digest, layer.diffId);
    return layer;
  }

  /** Stores a JSON document. */
  async document(value: object, mediaType: string): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = sha256(bytes);
    await this.content.putDocument(digest, bytes);
    return { mediaType, digest, size: bytes.byteLength };
  }

  /** An image manifest with its config. */
  async manifest(
    layers: readonly TestLayer[],
    options: { platform?: Platform; config?: Partial<ImageConfig>; annotations?: Record<string, string> } = {},
  ): Promise<TestManifest> {
    const { platform = AMD64 } = options;
    const config: ImageConfig = {
      created: '2025-01-01T00:00:00Z',
      ...platform,
      config: {},
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      ...options.config,
    };
    const configDescriptor = await this.document(config, MediaType.ociConfig);
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: MediaType.ociManifest,
      config: configDescriptor,
      layers: layers.map(({ digest, bytes }) => ({ mediaType: MediaType.ociLayerGzip, digest, size: bytes })),
      ...(options.annotations === undefined ? {} : { annotations: options.annotations }),
    };
    const descriptor = await this.document(manifest, MediaType.ociManifest);
    const unique = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    const uniqueTrees = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
    const stored: StoredManifest = {
      digest: descriptor.digest,
      mediaType: descriptor.mediaType,
      bytes: descriptor.size,
      kind: 'image',
      configDigest: configDescriptor.digest,
      size: uniqueTrees.reduce((sum, layer) => sum + layer.imageSize, 0),
      contentSize: descriptor.size + configDescriptor.size + unique.reduce((sum, layer) => sum + layer.bytes, 0),
      platform: {
        os: config.os,
        architecture: config.architecture,
        ...(config.variant === undefined ? {} : { variant: config.variant }),
      },
      labels: config.config?.Labels ?? {},
      created: config.created,
      layers: stack(layers),
    };
    return {
      stored,
      descriptor: { ...descriptor, platform },
      blobs: [descriptor.digest, configDescriptor.digest, ...unique.map((layer) => layer.digest)],
    };
  }

  /** An attestation of a manifest, as BuildKit makes it, of statements by the types of their predicates. */
  async attestation(
    subject: TestManifest,
    statements: readonly (readonly [predicateType: string, text: string])[] = [
      [PROVENANCE, JSON.stringify({ subject: subject.descriptor.digest })],
    ],
  ): Promise<TestManifest> {
    const layers = await Promise.all(
      statements.map(async ([predicateType, text]): Promise<Descriptor> => {
        const bytes = Buffer.from(text);
        await this.content.putDocument(sha256(bytes), bytes);
        const annotations = predicateType === '' ? {} : { 'in-toto.io/predicate-type': predicateType };
        return {
          mediaType: 'application/vnd.in-toto+json',
          digest: sha256(bytes),
          size: bytes.byteLength,
          annotations,
        };
      }),
    );
    const config = await this.document({ os: 'unknown', architecture: 'unknown', config: {} }, MediaType.ociConfig);
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: MediaType.ociManifest,
      config,
      layers,
    };
    const descriptor = await this.document(manifest, MediaType.ociManifest);
    return {
      stored: {
        digest: descriptor.digest,
        mediaType: descriptor.mediaType,
        bytes: descriptor.size,
        kind: 'attestation',
        configDigest: config.digest,
        size: 0,
        contentSize: descriptor.size + config.size + layers.reduce((sum, { size }) => sum + size, 0),
        platform: undefined,
        labels: {},
        created: undefined,
        layers: layers.map(({ digest, mediaType, size }) => ({
          digest,
          mediaType,
          bytes: size,
          diffId: undefined,
          chainId: undefined,
        })),
      },
      descriptor: {
        ...descriptor,
        platform: { os: 'unknown', architecture: 'unknown' },
        annotations: {
          'vnd.docker.reference.type': 'attestation-manifest',
          'vnd.docker.reference.digest': subject.descriptor.digest,
        },
      },
      blobs: [descriptor.digest, config.digest, ...layers.map(({ digest }) => digest)],
    };
  }

  /** An index over descriptors. */
  index(manifests: readonly Descriptor[], annotations?: Record<string, string>): Promise<Descriptor> {
    const index: Index = {
      schemaVersion: 2,
      mediaType: MediaType.ociIndex,
      manifests: [...manifests],
      ...(annotations === undefined ? {} : { annotations }),
    };
    return this.document(index, MediaType.ociIndex);
  }

  /** Writes an image as a pull of the name does. Without a target the manifest itself is what the name points to. */
  put(
    name: string,
    manifests: readonly [TestManifest, ...TestManifest[]],
    options: { target?: Descriptor; byDigest?: boolean } = {},
  ): PutResult {
    const reference = parseReference(name);
    const [first] = manifests;
    const target = options.target ?? first.descriptor;
    return this.store.put({
      target,
      manifests: manifests.map((manifest) => manifest.stored),
      blobs: [...new Set([target.digest, ...manifests.flatMap((manifest) => manifest.blobs)])],
      repository: canonicalName(reference),
      tag: reference.digest === undefined ? (reference.tag ?? 'latest') : undefined,
      byDigest: options.byDigest ?? true,
      imageId: first.stored.configDigest,
      manifest: first.stored.digest,
    });
  }

  /** What manifests, and documents beside them, take on the disk: each blob and each EROFS image once, in blocks. */
  taken(manifests: readonly TestManifest[], ...others: readonly Descriptor[]): number {
    const blobs = new Set([...manifests.flatMap((each) => each.blobs), ...others.map((each) => each.digest)]);
    const trees = new Set(manifests.flatMap(({ stored }) => stored.layers.flatMap(({ diffId }) => diffId ?? [])));
    let sum = 0;
    for (const digest of blobs) sum += Math.ceil((this.content.get(digest)?.size ?? 0) / 4096) * 4096;
    for (const diffId of trees) sum += this.layers.get(diffId)?.imageSize ?? 0;
    return sum;
  }

  /** A plain image of the layers, as a pull of the name writes it. */
  async image(
    name: string,
    layers: readonly TestLayer[],
    options: Parameters<Fixture['manifest']>[1] = {},
  ): Promise<TestManifest> {
    const manifest = await this.manifest(layers, options);
    this.put(name, [manifest]);
    return manifest;
  }
}

function stack(layers: readonly TestLayer[]): StoredLayer[] {
  let chainId: Digest | undefined;
  return layers.map((layer) => {
    chainId = chainId === undefined ? layer.diffId : sha256(`${chainId} ${layer.diffId}`);
    return {
      digest: layer.digest,
      mediaType: MediaType.ociLayerGzip,
      bytes: layer.bytes,
      diffId: layer.diffId,
      chainId,
    };
  });
}
