import { hexOf, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { MediaType } from '../../protocol/media-types.ts';
import { MAX_DOCUMENT_BYTES, type Descriptor } from '../../protocol/oci.ts';
import { familiarReference, type Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import { header, readBody, type HttpResponse } from './http.ts';
import { bareMediaType, isIndex, parseManifest } from './manifest.ts';
import { itemsOf, nextQuery, type Page } from './pages.ts';
import { refusal } from './reason.ts';
import type { Repository, RequestOptions } from './registry.ts';

/** Pages of one manifest's referrers. */
const MAX_PAGES = 100;
/** Bytes of all of them: 16 MiB. */
const MAX_BYTES = 16 * 1024 * 1024;

/** Answers of registries that do not have the API, or not the tag; the specification knows the first alone. */
const NOT_HERE: ReadonlySet<number> = new Set([404, 405, 501]);

/**
 * What refers to a manifest, such as signatures and SBOMs (OCI distribution spec, "Listing Referrers"). A registry that
 * does not have the API has them in an index under a tag made of the digest ("Referrers Tag Schema"), where clients that
 * push them maintain it. The same types are left out whether or not the registry filters.
 */
export async function getReferrers(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  digest: Digest,
  options: RequestOptions & { readonly artifactType: string | undefined },
): Promise<Descriptor[]> {
  const { artifactType, credentials, signal } = options;
  const name = familiarReference(repository, digest);
  const what = `the referrers of ${name}`;
  const tooMany = (): never => {
    throw new LayerdError(
      'invalid',
      `${name} has more referrers at ${endpoint.host} than fit into ${MAX_PAGES} pages or ${MAX_BYTES} bytes; ask for one type of them`,
    );
  };
  const ask = async (path: string): Promise<HttpResponse> => {
    const call: Call = {
      method: 'GET',
      repository,
      path,
      headers: { accept: MediaType.ociIndex },
      document: { what, limit: MAX_DOCUMENT_BYTES },
      credentials,
      signal,
    };
    const response = await exchange(endpoint, call);
    if (response.status === 200 || NOT_HERE.has(response.status)) return response;
    throw await refusal(response, subjectOf(endpoint, call, 'referrers', digest));
  };
  const path = `referrers/${digest}`;
  let bytes = 0;
  const get = async (query: string): Promise<Page<Descriptor> | undefined> => {
    const response = await ask(path + query);
    // A page for browsers is what some registries answer any path with that they do not know.
    if (response.status !== 200 || mediaTypeOf(response) !== MediaType.ociIndex) {
      await response.discard();
      return undefined;
    }
    const body = await readBody(response, MAX_DOCUMENT_BYTES, what);
    bytes += body.byteLength;
    if (bytes > MAX_BYTES) tooMany();
    const next = nextQuery(response, `/v2/${repository.path}/${path}`);
    return { items: descriptorsOf(body, response, what), next };
  };
  const getNext = async (query: string): Promise<Page<Descriptor>> => {
    const page = await get(query);
    if (page !== undefined) return page;
    throw new LayerdError('unavailable', `${endpoint.host} links to a page of ${what} that it does not have`);
  };
  const getTagged = async (): Promise<Descriptor[]> => {
    const response = await ask(`manifests/sha256-${hexOf(digest)}`);
    if (response.status === 200) {
      return descriptorsOf(await readBody(response, MAX_DOCUMENT_BYTES, what), response, what);
    }
    await response.discard();
    return [];
  };
  const first = await get(artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType }).toString()}`);
  const all =
    first === undefined
      ? await getTagged()
      : await Array.fromAsync(itemsOf(first, getNext, { limit: MAX_PAGES, onLimit: tooMany }));
  return artifactType === undefined ? all : all.filter((referrer) => referrer.artifactType === artifactType);
}

const mediaTypeOf = (response: HttpResponse): string => bareMediaType(header(response, 'content-type'));

function descriptorsOf(bytes: Buffer, response: HttpResponse, what: string): Descriptor[] {
  const document = parseManifest(bytes, mediaTypeOf(response));
  if (!isIndex(document)) throw new LayerdError('corrupt', `${what} are told by a manifest, which should be an index`);
  return document.manifests;
}
