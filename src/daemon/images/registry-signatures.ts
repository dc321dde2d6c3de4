import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { hexOf, type Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import { digestOf } from '../../protocol/sha256.ts';
import { isIndex, parseManifest } from '../registry/manifest.ts';
import type { Registries, Repository, RequestOptions } from '../registry/registry.ts';
import type { Signatures, SigstoreSignature, SimpleSignature } from '../signatures/signature.ts';

/** What cosign signs, as a layer; and sigstore's bundle, as a layer and as the type of what has it. */
const PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
const BUNDLE_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/** Signatures of one kind and one manifest that are looked at: anybody who may push can add more. */
export const MAX_SIGNATURES = 64;
/** Bytes of one of them: 256 KiB. */
const MAX_SIGNATURE_BYTES = 256 * 1024;

/** Where simple signatures are kept beside a registry (containers-registries.d(5), "lookaside"). */
export interface Lookaside {
  /** The registry, namespace or repository; undefined for all. */
  readonly scope: string | undefined;
  /** file:, http: or https:. */
  readonly url: string;
}

export interface RegistrySignaturesOptions extends RequestOptions {
  readonly registries: Pick<Registries, 'manifest' | 'blob' | 'referrers' | 'download'>;
  readonly repository: Repository;
  /** Where the repository's simple signatures are; undefined where nobody keeps any. */
  readonly lookaside: string | undefined;
}

/** The signatures of one repository, fetched as they are asked for and each once: the first may be enough. */
export class RegistrySignatures implements Signatures {
  readonly #options: RegistrySignaturesOptions;
  readonly #simple = new Map<Digest, Remembered<SimpleSignature>>();
  readonly #sigstore = new Map<Digest, Remembered<SigstoreSignature>>();

  constructor(options: RegistrySignaturesOptions) {
    this.#options = options;
  }

  simple(digest: Digest): AsyncIterable<SimpleSignature> {
    return remembered(this.#simple, digest, () => this.#lookAside(digest));
  }

  sigstore(digest: Digest): AsyncIterable<SigstoreSignature> {
    return remembered(this.#sigstore, digest, () => this.#attached(digest));
  }

  /** `LOOKASIDE/REPOSITORY@sha256=HEX/signature-N`, from 1 on to the first that is not there. */
  async *#lookAside(digest: Digest): AsyncGenerator<SimpleSignature> {
    const { lookaside, repository } = this.#options;
    if (lookaside === undefined) return;
    const base = `${lookaside.replace(/\/+$/, '')}/${repository.path}@sha256=${hexOf(digest)}`;
    for (let number = 1; number <= MAX_SIGNATURES; number++) {
      const message = await this.#read(new URL(`${base}/signature-${number}`));
      if (message === undefined) return;
      yield { message };
    }
  }

  async #read(url: URL): Promise<Buffer | undefined> {
    if (url.protocol === 'file:') return readSmall(url);
    const { signal } = this.#options;
    try {
      const { body } = await this.#options.registries.download(url, { signal });
      return await collected(body, url.href);
    } catch (error) {
      if (isKind(error, 'not-found')) return undefined;
      throw error;
    }
  }

  /** Those under the tag that cosign makes of the digest, then the bundles that refer to it. */
  async *#attached(digest: Digest): AsyncGenerator<SigstoreSignature> {
    let count = 0;
    for await (const signature of this.#sources(digest)) {
      if (++count > MAX_SIGNATURES) return;
      yield signature;
    }
  }

  async *#sources(digest: Digest): AsyncGenerator<SigstoreSignature> {
    for (const layer of await this.#layers(`sha256-${hexOf(digest)}.sig`)) {
      if (layer.mediaType !== PAYLOAD_TYPE) {
        yield { unusable: `the tag of its signatures has something else, ${layer.mediaType}` };
        continue;
      }
      const payload = await this.#blob(layer);
      yield Buffer.isBuffer(payload) ? { payload, annotations: layer.annotations ?? {} } : payload;
    }
    for (const referrer of await this.#referrers(digest)) {
      for (const layer of await this.#layers(referrer.digest)) {
        if (layer.mediaType !== BUNDLE_TYPE) continue;
        const bundle = await this.#blob(layer);
        yield Buffer.isBuffer(bundle) ? { bundle } : bundle;
      }
    }
  }

  /** What says of itself that it is a signature of the digest; nothing where the list cannot be read. */
  async #referrers(digest: Digest): Promise<Descriptor[]> {
    const { registries, repository, credentials, signal } = this.#options;
    try {
      return await registries.referrers(repository, digest, { artifactType: BUNDLE_TYPE, credentials, signal });
    } catch (error) {
      if (isBroken(error)) return [];
      throw error;
    }
  }

  /** The layers of a manifest; none where it is not there or is no manifest. */
  async #layers(reference: string): Promise<Descriptor[]> {
    const { registries, repository, credentials, signal } = this.#options;
    try {
      const { bytes, descriptor } = await registries.manifest(repository, reference, { credentials, signal });
      const manifest = parseManifest(bytes, descriptor.mediaType);
      return isIndex(manifest) ? [] : manifest.layers;
    } catch (error) {
      if (isKind(error, 'not-found') || isBroken(error)) return [];
      throw error;
    }
  }

  async #blob({ digest, size }: Descriptor): Promise<Buffer | { readonly unusable: string }> {
    if (size > MAX_SIGNATURE_BYTES) return { unusable: `it has ${size} bytes, the limit is ${MAX_SIGNATURE_BYTES}` };
    const { registries, repository, credentials, signal } = this.#options;
    try {
      const { body } = await registries.blob(repository, digest, { credentials, signal });
      const bytes = await collected(body, digest);
      return digestOf(bytes) === digest ? bytes : { unusable: `the registry serves something else for ${digest}` };
    } catch (error) {
      if (isKind(error, 'not-found')) return { unusable: `${digest} is not in the registry` };
      if (isBroken(error)) return { unusable: error.message };
      throw error;
    }
  }
}

/** The signatures of what has none that are read here. */
export const NO_SIGNATURES: Signatures = { simple: none, sigstore: none };

/** The lookaside of the most specific of the scopes. */
export function lookasideOf(lookasides: readonly Lookaside[], scopes: readonly string[]): string | undefined {
  const scope = [...scopes, undefined].find((each) => lookasides.some((lookaside) => lookaside.scope === each));
  return lookasides.find((lookaside) => lookaside.scope === scope)?.url;
}

async function* none(): AsyncGenerator<never> {
  // Nothing.
}

/** Whether somebody pushed nonsense: of one signature, that says nothing of the next. */
function isBroken(error: unknown): error is LayerdError {
  return isKind(error, 'corrupt') || isKind(error, 'invalid');
}

async function readSmall(url: URL): Promise<Buffer | undefined> {
  const path = fileURLToPath(url);
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > MAX_SIGNATURE_BYTES) throw tooLarge(path);
    return await file.readFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    if (error instanceof LayerdError) throw error;
    throw new LayerdError('unavailable', `cannot read the signature ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function collected(body: AsyncIterable<Uint8Array>, what: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > MAX_SIGNATURE_BYTES) throw tooLarge(what);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(what: string): LayerdError {
  return new LayerdError('invalid', `the signature ${what} is larger than the limit of ${MAX_SIGNATURE_BYTES} bytes`);
}

function remembered<T>(map: Map<Digest, Remembered<T>>, digest: Digest, begin: () => AsyncIterator<T>): Remembered<T> {
  const known = map.get(digest) ?? new Remembered(begin());
  map.set(digest, known);
  return known;
}

/** Items that are made as they are asked for, and kept for whoever asks again; one at a time asks. */
class Remembered<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #source: AsyncIterator<T>;

  constructor(source: AsyncIterator<T>) {
    this.#source = source;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    yield* this.#items;
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return;
      this.#items.push(next.value);
      yield next.value;
    }
  }
}
