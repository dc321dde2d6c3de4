import { LayerdError } from '../../protocol/errors.ts';
import { parseReference, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import type { Call } from './call.ts';
import { discardBody } from './guard.ts';
import { named, quote, tagged } from './parameters.ts';
import type { ApiParts, ImportRequest } from './parts.ts';
import { streamed, streamedFrom } from './streamed.ts';
import { Since } from './versions.ts';

/** What stands for the body of the request, in place of a URL. */
const BODY = '-';
/** Longer than any URL that servers take, in characters. */
const MAX_URL_LENGTH = 8192;

/** `POST /images/create?fromSrc=…`: makes an image of a tar. */
export function importImage(call: Call, { images, log }: Pick<ApiParts, 'images' | 'log'>): Promise<void> {
  const { query, request, response } = call;
  const source = query.get('fromSrc') ?? '';
  const url = source === BODY ? undefined : downloadUrl(source);
  // The body of a request that names a URL is of no use.
  if (url !== undefined) discardBody(request, response);
  const details = importDetails(call, source);
  if (url !== undefined) {
    return streamed(call, log, async (progress) => {
      await progress({ status: await images.import({ ...details, source: url }, progress) });
    });
  }
  return streamedFrom(call, log, async (body, progress) => {
    await progress({ status: await images.import({ ...details, source: body }, progress) });
  });
}

function importDetails({ query, version, signal }: Call, source: string): Omit<ImportRequest, 'source'> {
  const message = query.get('message') ?? '';
  const specifier = version < Since.pullPlatform ? '' : (query.get('platform') ?? '');
  return {
    name: newName(query),
    message: message === '' ? `Imported from ${source}` : message,
    changes: query.getAll('changes'),
    platform: specifier === '' ? undefined : specifier,
    signal,
  };
}

/** As dockerd reads it: without a scheme it is http. */
function downloadUrl(text: string): URL {
  const url = text.length > MAX_URL_LENGTH ? null : URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new LayerdError(
      'invalid',
      `parameter fromSrc: ${quote(text)} is neither "-", for the body of the request, nor an http or https URL`,
    );
  }
  return url;
}

/** The name of the new image; none is given where there is no repository. */
function newName(query: URLSearchParams): Reference | undefined {
  const repository = query.get('repo') ?? '';
  const tag = query.get('tag') ?? '';
  if (repository === '' && tag === '') return undefined;
  if (repository === '') {
    throw new LayerdError('invalid', 'parameter repo: missing; a tag needs the repository that it is in');
  }
  const reference = named('repo', () => parseReference(repository));
  const name = withDefaultTag(tagged(reference, query));
  if (name.digest !== undefined) {
    throw new LayerdError(
      'invalid',
      'parameter repo: cannot import digest reference: the digest of an import is its own',
    );
  }
  return name;
}
