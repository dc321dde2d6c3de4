import { LayerdError } from '../../protocol/errors.ts';
import { describeUrl, header, type HttpRequest, type HttpResponse } from './http.ts';
import { refuseDowngrade } from './redirect.ts';

/** Where an upload goes on: the registry names a new place with each of its answers. */
export interface UploadLocation {
  readonly url: URL;
  /** Whether it is the registry itself, which alone gets the user's credentials. */
  readonly trusted: boolean;
  readonly reach: HttpRequest['reach'];
}

/**
 * The Location of an answer (OCI distribution spec, "Pushing blobs"), relative or absolute. It is a redirect by another
 * name and open to the same attacks: a registry that was taken over would have the password sent to a host of its
 * choosing, the layer written over a wire that anybody reads, or a request made to what only the inside of our network can
 * reach. So credentials go to the origin that answered alone, and once they were dropped they do not come back; TLS stays
 * TLS; and what a public host names elsewhere must be public, for the rest of the upload.
 *
 * `before`: the location that was asked; undefined where the registry was, by its own name.
 */
export function locationOf(
  response: HttpResponse,
  before: UploadLocation | undefined,
  endpoint: Pick<HttpRequest, 'insecure'>,
): UploadLocation {
  const location = header(response, 'location');
  const url = location === undefined ? null : URL.parse(location, response.url);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new LayerdError('unavailable', `${describeUrl(response.url)} does not say where the upload goes on`);
  }
  // User names in a URL are credentials of the other side's choosing.
  url.username = '';
  url.password = '';
  url.hash = '';
  const { trusted, reach } = before ?? { trusted: true, reach: 'anywhere' };
  if (url.origin === response.url.origin) return { url, trusted, reach };
  refuseDowngrade(endpoint, response.url, url);
  return { url, trusted: false, reach: response.public ? 'public' : reach };
}
