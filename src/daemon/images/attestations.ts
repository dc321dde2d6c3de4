import { createReadStream } from 'node:fs';
import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isIndexType } from '../../protocol/media-types.ts';
import type { Descriptor, Manifest, Platform } from '../../protocol/oci.ts';
import type { GarbageCollector } from '../content/garbage.ts';
import type { Leases } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import { imageBlobs } from './holdings.ts';
import { JsonCheck } from './json-check.ts';
import { ATTESTED_DIGEST, listedManifests } from './manifest-summary.ts';
import { formatPlatform, isAttestation, only } from './platform.ts';
import type { FoundImage, ImageStore } from './store.ts';

/** Where a layer of an attestation says what its statement states. */
const PREDICATE_TYPE = 'in-toto.io/predicate-type';
/** Bytes of a statement that are read at a time: what is checked in one turn of the event loop. */
const READ_BYTES = 64 * 1024;

export interface AttestationRequest {
  /** Whose attestations; without it the host's. */
  readonly platform: Platform | undefined;
  /** The types of predicates that are wanted; all of them where none is named. */
  readonly types: readonly string[];
  /** With what each statement says. */
  readonly statement: boolean;
}

/** An in-toto statement that is attached to an image. */
export interface AttestedStatement {
  readonly descriptor: Descriptor;
  readonly predicateType: string;
  /** The bytes of its JSON object, which was checked to be one; undefined where they were not asked for. */
  readonly open: (() => AsyncIterable<Uint8Array>) | undefined;
}

/** Statements that were found. Until it is disposed of, nothing is removed of what they say. */
export interface Attestations extends Disposable {
  readonly statements: readonly AttestedStatement[];
}

/** Finds what attests to images: the manifests beside an image's in its index, as BuildKit puts them there. */
export class Attestor {
  readonly #content: ContentStore;
  readonly #leases: Leases;
  readonly #collector: GarbageCollector;
  readonly #store: ImageStore;
  readonly #host: Platform;

  constructor(parts: {
    content: ContentStore;
    leases: Leases;
    collector: GarbageCollector;
    store: ImageStore;
    host: Platform;
  }) {
    this.#content = parts.content;
    this.#leases = parts.leases;
    this.#collector = parts.collector;
    this.#store = parts.store;
    this.#host = parts.host;
  }

  /** Throws `not-found` where there is no such image, or nothing of it for the platform. */
  async find(name: string, request: AttestationRequest): Promise<Attestations> {
    const found = this.#resolve(name, request.platform);
    // A name has one target; an identifier stands for all that are the same image.
    const targets = found.byId ? this.#store.targets(found.listedId) : [found.target];
    if (!request.statement) {
      const statements = await this.#statements(found.manifest, targets, request);
      return { statements, [Symbol.dispose]: () => undefined };
    }
    const lease = this.#leases.acquire('attestations');
    const release = (): void => void this.#collector.collect(lease.release());
    try {
      for (const target of targets) lease.add(imageBlobs(this.#store.db, target));
      const statements = await this.#statements(found.manifest, targets, request);
      for (const { descriptor } of statements) await this.#check(descriptor, name);
      return { statements, [Symbol.dispose]: release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #resolve(name: string, platform: Platform | undefined): FoundImage {
    const found = this.#store.resolve(name, platform);
    if (platform !== undefined || !isIndexType(found.mediaType)) return found;
    const stated = this.#store.manifests(found.target).find(({ digest }) => digest === found.manifest)?.platform;
    if (stated === undefined || only(this.#host).rank(stated) !== undefined) return found;
    throw new LayerdError(
      'not-found',
      `image ${name} has no manifest for the platform of this host (${formatPlatform(this.#host)}), the best that is stored is for ${formatPlatform(stated)}; name the platform whose attestations you want`,
    );
  }

  async #statements(
    attested: Digest,
    targets: readonly Digest[],
    { types, statement }: AttestationRequest,
  ): Promise<AttestedStatement[]> {
    const listed = await Promise.all(targets.map((target) => listedManifests(this.#store, target)));
    const attestations = new Set(
      listed
        .flat()
        .filter((each) => isAttestation(each) && each.annotations?.[ATTESTED_DIGEST] === attested)
        .map(({ digest }) => digest),
    );
    const statements: AttestedStatement[] = [];
    for (const digest of attestations) {
      // An archive need not have brought what its index lists.
      if (!this.#store.hasBlob(digest)) continue;
      const { layers = [] } = await this.#store.documents.read<Manifest>(digest);
      for (const descriptor of layers) {
        const predicateType = descriptor.annotations?.[PREDICATE_TYPE] ?? '';
        if (predicateType === '' || (types.length > 0 && !types.includes(predicateType))) continue;
        const open = statement ? () => this.#open(descriptor.digest) : undefined;
        statements.push({ descriptor, predicateType, open });
      }
    }
    return statements;
  }

  async #check({ digest }: Descriptor, name: string): Promise<void> {
    if (!this.#content.has(digest)) {
      throw new LayerdError('corrupt', `the statement ${digest} of ${name} is not stored; pull the image again`);
    }
    const check = new JsonCheck(`the statement ${digest} of ${name}`);
    for await (const piece of this.#open(digest)) check.push(piece);
    check.end();
  }

  #open(digest: Digest): AsyncIterable<Uint8Array> {
    return createReadStream(this.#content.path(digest), { highWaterMark: READ_BYTES });
  }
}
