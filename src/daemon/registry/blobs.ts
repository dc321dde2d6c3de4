import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Endpoint } from './endpoints.ts';
import { subjectOf, type Call, type Exchange } from './exchange.ts';
import type { ExpiringMap } from './expiring-map.ts';
import { header, type HttpResponse } from './http.ts';
import { refusal } from './reason.ts';
import type { Logger, RemoteBlob, Repository, RequestOptions } from './registry.ts';

/**
 * Opens a blob at one endpoint (OCI distribution spec, "Pulling blobs"), from `offset` on where it serves ranges and
 * from 0 where it does not, or not these.
 */
export async function openBlob(
  exchange: Exchange,
  endpoint: Endpoint,
  repository: Repository,
  digest: Digest,
  options: RequestOptions & { offset: number; etags: ExpiringMap<string>; logger: Logger },
): Promise<RemoteBlob> {
  const { offset, etags, logger } = options;
  const call: Call = {
    method: 'GET',
    repository,
    path: `blobs/${digest}`,
    credentials: options.credentials,
    signal: options.signal,
  };
  const keyOf = (host: string): string => `${host} ${digest}`;
  const succeed = async (response: HttpResponse, start: number, size: number | undefined): Promise<RemoteBlob> => {
    await refuseEncoded(response, digest);
    const etag = header(response, 'etag');
    // A weak one says that the meaning is the same, and we go on in the middle of a byte sequence.
    if (etag?.startsWith('"') === true) etags.set(keyOf(response.url.host), etag);
    return { offset: start, size, host: response.url.host, body: response.body };
  };
  if (offset > 0) {
    const headersFor = (url: URL): Record<string, string> => {
      const etag = etags.get(keyOf(url.host));
      return etag === undefined ? {} : { 'if-range': etag };
    };
    const response = await exchange(endpoint, { ...call, headers: { range: `bytes=${offset}-` }, headersFor });
    if (response.status === 206) {
      const range = contentRange(header(response, 'content-range'));
      if (range?.start === offset) return succeed(response, offset, range.total);
    } else if (response.status === 200) {
      return succeed(response, 0, contentLength(response));
    } else if (response.status !== 416) {
      throw await refusal(response, subjectOf(endpoint, call, 'blob', digest));
    }
    // 416 where the registry has fewer bytes than are here, or another part than was asked for.
    logger.warn('the registry does not serve the rest of a blob; starting over', {
      host: response.url.host,
      digest,
      offset,
      status: response.status,
    });
    await response.discard();
  }
  const response = await exchange(endpoint, call);
  if (response.status !== 200) throw await refusal(response, subjectOf(endpoint, call, 'blob', digest));
  return succeed(response, 0, contentLength(response));
}

/** Bytes that went through a coding are not those that the digest is of. */
async function refuseEncoded(response: HttpResponse, digest: Digest): Promise<void> {
  const encoding = header(response, 'content-encoding') ?? 'identity';
  if (encoding.toLowerCase() === 'identity') return;
  await response.discard();
  throw new LayerdError(
    'corrupt',
    `${response.url.host} serves ${digest} in a Content-Encoding that was not asked for`,
  );
}

function contentLength(response: HttpResponse): number | undefined {
  const length = Number(header(response, 'content-length') ?? NaN);
  return Number.isSafeInteger(length) && length >= 0 ? length : undefined;
}

/** Parses `bytes 100-199/200` (RFC 9110 section 14.4); the total may be `*`. */
export function contentRange(text: string | undefined): { start: number; total: number | undefined } | undefined {
  const [, start, end, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(text?.trim() ?? '') ?? [];
  if (start === undefined || Number(end) < Number(start)) return undefined;
  if (total === '*') return { start: Number(start), total: undefined };
  // What ends before the end would be resumed again; what ends behind it is nonsense.
  return Number(end) < Number(total) ? { start: Number(start), total: Number(total) } : undefined;
}
