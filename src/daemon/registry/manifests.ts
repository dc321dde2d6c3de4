import { isDigest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isIndexType, isManifestType, MANIFEST_ACCEPT } from '../../protocol/media-types.ts';
import { MAX_DOCUMENT_BYTES, type Descriptor } from '../../protocol/oci.ts';
import { digestOf } from '../../protocol/sha256.ts';
import { familiarReference, type Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import { header, readBody, type HttpResponse } from './http.ts';
import { bareMediaType, parseManifest, refuseSchema1Type } from './manifest.ts';
import { refusal } from './reason.ts';
import type { RemoteManifest, Repository, RequestOptions } from './registry.ts';

/** Gets a manifest from one endpoint (OCI distribution spec, "Pulling manifests"), verified and valid. */
export async function getManifest(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  reference: string,
  options: RequestOptions & { note: (response: HttpResponse) => void },
): Promise<RemoteManifest> {
  const what = `the manifest of ${familiarReference(repository, reference)}`;
  const call = manifestCall('GET', repository, reference, options);
  const response = await exchange(endpoint, { ...call, document: { what, limit: MAX_DOCUMENT_BYTES } });
  options.note(response);
  if (response.status !== 200) throw await refusal(response, subjectOf(endpoint, call, 'manifest', reference));
  const bytes = await readBody(response, MAX_DOCUMENT_BYTES, what);
  const digest = digestOf(bytes);
  if (isDigest(reference) && digest !== reference) {
    throw new LayerdError(
      'corrupt',
      `${response.url.host} served ${what} with digest ${digest}, expected ${reference}`,
    );
  }
  const { mediaType } = parseManifest(bytes, bareMediaType(header(response, 'content-type')));
  return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
}

/**
 * Asks one endpoint which manifest a reference names. HEAD costs nothing of Docker Hub's pull limit; where its answer
 * is a refusal (it has no body to say why) or does not tell all, GET follows.
 */
export async function headManifest(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  reference: string,
  options: RequestOptions & { note: (response: HttpResponse) => void },
): Promise<Descriptor> {
  const response = await exchange(endpoint, manifestCall('HEAD', repository, reference, options));
  options.note(response);
  await response.discard();
  const descriptor = response.status === 200 ? descriptorOf(response) : undefined;
  if (descriptor === undefined)
    return (await getManifest(exchange, endpoint, repository, reference, options)).descriptor;
  if (isDigest(reference) && descriptor.digest !== reference) {
    throw new LayerdError(
      'corrupt',
      `${response.url.host} has ${descriptor.digest} where it was asked for ${familiarReference(repository, reference)}`,
    );
  }
  return descriptor;
}

function manifestCall(
  method: 'GET' | 'HEAD',
  repository: Repository,
  reference: string,
  options: RequestOptions,
): Call {
  return {
    method,
    repository,
    path: `manifests/${reference}`,
    headers: { accept: MANIFEST_ACCEPT },
    credentials: options.credentials,
    signal: options.signal,
  };
}

/** What the headers of a HEAD say; undefined unless they say it all. */
function descriptorOf(response: HttpResponse): Descriptor | undefined {
  const mediaType = bareMediaType(header(response, 'content-type'));
  refuseSchema1Type(mediaType);
  const digest = header(response, 'docker-content-digest');
  const size = Number(header(response, 'content-length') ?? NaN);
  if (!isDigest(digest) || !Number.isSafeInteger(size) || size <= 0) return undefined;
  if (!isIndexType(mediaType) && !isManifestType(mediaType)) return undefined;
  if (size > MAX_DOCUMENT_BYTES) {
    throw new LayerdError('invalid', `the manifest has ${size} bytes, the limit is ${MAX_DOCUMENT_BYTES}`);
  }
  return { mediaType, digest, size };
}
