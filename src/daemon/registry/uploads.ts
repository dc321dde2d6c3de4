import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { MANIFEST_ACCEPT } from '../../protocol/media-types.ts';
import type { Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import { header, type HttpResponse, type RequestBody } from './http.ts';
import { locationOf, type UploadLocation } from './location.ts';
import { pushRefusal } from './reason.ts';
import type { PushedManifest, Repository, RequestOptions } from './registry.ts';
import { isWorthRetrying } from './retry.ts';

/** How long a registry may take to cancel an upload that nobody waits for: 5 s, in milliseconds. */
const CANCEL_TIMEOUT = 5_000;

/** What the registry has of an upload. */
export interface UploadState {
  readonly location: UploadLocation;
  /** Bytes that have arrived. */
  readonly offset: number;
}

/** Answers of a registry that does not know the upload any more, or expects another part of it: not found, range invalid. */
const LOST: ReadonlySet<number> = new Set([404, 416]);

/** An upload that did not get on, because the registry cannot take it just now or has lost it. It is worth going on. */
export class UploadSetback extends LayerdError {
  readonly response: Pick<HttpResponse, 'headers'>;

  constructor(error: LayerdError, response: Pick<HttpResponse, 'headers'>) {
    super(error.kind, error.message, { cause: error });
    this.name = 'UploadSetback';
    this.response = response;
  }
}

/** The requests of a push to one repository at one endpoint (OCI distribution spec, "Push"). */
export class Uploads {
  readonly #exchange: Exchange;
  readonly #endpoint: Endpoint;
  readonly #repository: Repository;
  readonly #options: RequestOptions;

  constructor(exchange: Exchange, endpoint: Endpoint, repository: Repository, options: RequestOptions) {
    this.#exchange = exchange;
    this.#endpoint = endpoint;
    this.#repository = repository;
    this.#options = options;
  }

  /** Whether the repository holds a blob ("Checking if content exists"). */
  hasBlob(digest: Digest): Promise<boolean> {
    return this.#has(`blobs/${digest}`);
  }

  /** Whether the repository holds a manifest or index under its digest. */
  hasManifest(digest: Digest): Promise<boolean> {
    return this.#has(`manifests/${digest}`);
  }

  /**
   * Asks for a blob to be taken over from another repository ("Mounting a blob from another repository"). A registry that
   * cannot or will not, or does not let the user read there, has begun an upload instead or says no: undefined.
   */
  async mount(digest: Digest, from: string): Promise<'mounted' | UploadLocation | undefined> {
    const query = new URLSearchParams({ mount: digest, from }).toString();
    let response: HttpResponse;
    try {
      response = await this.#send({ method: 'POST', path: `blobs/uploads/?${query}`, push: { from } });
    } catch (error) {
      // The token server gives no token for reading there; one for pushing alone may still be had.
      if (error instanceof LayerdError && (error.kind === 'unauthorized' || error.kind === 'forbidden'))
        return undefined;
      throw error;
    }
    await response.discard();
    if (response.status === 201) return 'mounted';
    return response.status === 202 ? locationOf(response, undefined, this.#endpoint) : undefined;
  }

  /** Begins an upload ("POST then PUT"). */
  async begin(): Promise<UploadLocation> {
    const response = await this.#send({ method: 'POST', path: 'blobs/uploads/' });
    if (response.status !== 202) throw await this.#refusal(response);
    await response.discard();
    return locationOf(response, undefined, this.#endpoint);
  }

  /** Sends bytes up to the end of the blob, from the offset on ("Pushing a blob in chunks"). */
  async append(
    location: UploadLocation,
    { offset, size, body }: { offset: number; size: number; body: RequestBody },
  ): Promise<UploadLocation> {
    const response = await this.#send({
      method: 'PATCH',
      path: location,
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(size - offset),
        'content-range': `${offset}-${size - 1}`,
      },
      body,
      once: true,
    });
    if (response.status !== 202) throw await this.#setback(response);
    await response.discard();
    return locationWith(response, location, this.#endpoint);
  }

  /** Says that all of the blob has arrived, with the bytes themselves where they are sent in one piece. */
  async finish(
    location: UploadLocation,
    digest: Digest,
    content?: { readonly size: number; readonly body: RequestBody },
  ): Promise<void> {
    const url = new URL(location.url);
    // The query is the registry's and may be signed: it is added to, not written anew.
    url.search = `${url.search === '' ? '?' : `${url.search}&`}digest=${encodeURIComponent(digest)}`;
    const response = await this.#send({
      method: 'PUT',
      path: { ...location, url },
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(content?.size ?? 0) },
      body: content?.body,
      once: true,
      assembles: true,
    });
    if (response.status !== 201 && response.status !== 204) throw await this.#setback(response);
    await response.discard();
    const stored = header(response, 'docker-content-digest');
    if (stored !== undefined && stored !== digest) {
      throw new LayerdError('corrupt', `${response.url.host} stored ${digest} under another digest`);
    }
  }

  /** Asks how far an upload got; undefined where the registry does not say so that it can be relied upon. */
  async state(location: UploadLocation): Promise<UploadState | undefined> {
    const response = await this.#send({ method: 'GET', path: location });
    await response.discard();
    if (response.status !== 204 && response.status !== 200) return undefined;
    const last = Number(/^(?:bytes=)?0-(\d{1,15})$/.exec(header(response, 'range') ?? '')?.[1] ?? NaN);
    // `0-0` is what registries say of nothing and of one byte.
    if (!Number.isSafeInteger(last) || last === 0) return undefined;
    return { location: locationWith(response, location, this.#endpoint), offset: last + 1 };
  }

  /**
   * Gives an upload up, so that the registry need not keep what has arrived. Only at the registry itself: nobody else
   * shall be able to have a DELETE sent to where they please. It is a courtesy; registries forget uploads after a while.
   */
  async cancel(location: UploadLocation): Promise<void> {
    if (!location.trusted) return;
    const call = { method: 'DELETE', path: location, once: true } as const;
    try {
      const response = await this.#send(call, AbortSignal.timeout(CANCEL_TIMEOUT));
      await response.discard();
    } catch (error) {
      if (!(error instanceof LayerdError)) throw error;
    }
  }

  /** Puts a manifest under a tag or its digest ("Pushing Manifests"). */
  async putManifest(reference: string, { mediaType, digest, bytes }: PushedManifest): Promise<void> {
    const response = await this.#send({
      method: 'PUT',
      path: `manifests/${reference}`,
      headers: { 'content-type': mediaType },
      body: bytes,
      assembles: true,
    });
    if (response.status !== 201) throw await this.#refusal(response);
    await response.discard();
    const stored = header(response, 'docker-content-digest');
    if (stored !== undefined && stored !== digest) {
      throw new LayerdError('corrupt', `${response.url.host} stored the manifest ${digest} under another digest`);
    }
  }

  async #has(path: string): Promise<boolean> {
    // A manifest that is not of an accepted type would be told as not found; nobody minds the header for a blob.
    const response = await this.#send({ method: 'HEAD', path, headers: { accept: MANIFEST_ACCEPT } });
    if (response.status !== 200 && response.status !== 404) throw await this.#refusal(response);
    await response.discard();
    return response.status === 200;
  }

  #send(
    call: Pick<Call, 'method' | 'path' | 'headers' | 'body' | 'once' | 'assembles' | 'push'>,
    signal = this.#options.signal,
  ): Promise<HttpResponse> {
    const { credentials } = this.#options;
    return this.#exchange(this.#endpoint, { push: {}, ...call, repository: this.#repository, credentials, signal });
  }

  async #refusal(response: HttpResponse): Promise<LayerdError> {
    const call = { repository: this.#repository, credentials: this.#options.credentials };
    return pushRefusal(response, subjectOf(this.#endpoint, call, 'tags', ''));
  }

  /** What came of an upload: a refusal, or what it can be gone on from. */
  async #setback(response: HttpResponse): Promise<LayerdError> {
    const error = await this.#refusal(response);
    return isWorthRetrying(response.status) || LOST.has(response.status) ? new UploadSetback(error, response) : error;
  }
}

/** The location that an answer names, or the one that was asked where it names none, as it need not. */
function locationWith(response: HttpResponse, asked: UploadLocation, endpoint: Endpoint): UploadLocation {
  return header(response, 'location') === undefined ? asked : locationOf(response, asked, endpoint);
}
