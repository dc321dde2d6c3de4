import { LayerdError } from '../../protocol/errors.ts';
import { describeUrl, header, type Send } from './http.ts';

/** A file on the web. */
export interface Download {
  /** Bytes; undefined where the server does not say. */
  readonly size: number | undefined;
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * Opens a URL that a user gave. Whoever may import may have the daemon fetch from wherever it can reach, as from dockerd;
 * where a public host redirects to is checked as everywhere. Throws `not-found`, `forbidden` or `unavailable`.
 */
export async function openDownload(send: Send, url: URL, signal: AbortSignal | undefined): Promise<Download> {
  const response = await send({
    method: 'GET',
    url,
    // What comes is taken as it is, whatever it is compressed with.
    headers: { 'accept-encoding': 'identity' },
    // By writing http: the user has chosen it.
    insecure: url.protocol === 'http:',
    reach: 'anywhere',
    signal,
  });
  const { status, body } = response;
  if (status !== 200) {
    await response.discard();
    const kind =
      status === 404 || status === 410 ? 'not-found' : status === 401 || status === 403 ? 'forbidden' : 'unavailable';
    throw new LayerdError(kind, `cannot download ${describeUrl(url)}: ${url.host} answered with status ${status}`);
  }
  const length = header(response, 'content-length');
  return { size: length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined, body };
}
