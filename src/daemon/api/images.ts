import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { parseFilters, type Filters } from '../images/filters.ts';
import { IMAGE_FILTERS, PRUNE_FILTERS } from '../images/image-filter.ts';
import { SEARCH_FILTERS } from '../images/search.ts';
import type { PushRequest } from '../images/push.ts';
import { parseImageAndTag, parseReference, splitSearchTerm, type Reference } from '../../protocol/reference.ts';
import { newRouter, serve, type Call } from './call.ts';
import { historyItem, imageInspect, imageSummary } from './compat.ts';
import { wishOf } from './client.ts';
import { credentialsOf, pushCredentials } from './credentials.ts';
import { discardBody } from './guard.ts';
import { importImage } from './import.ts';
import { imageName, refuseReserved } from './names.ts';
import { flag, integer, named, platform, platforms, tagged } from './parameters.ts';
import type { ApiParts, PullRequest } from './parts.ts';
import { streamed } from './streamed.ts';
import { NO_SINGLE_FILTER, Since } from './versions.ts';

/** Results of a search that may be asked for, and how many there are where nobody says: Docker Hub's and dockerd's. */
const SEARCH_LIMITS = { min: 1, max: 100 };
const DEFAULT_SEARCH_LIMIT = 25;

/** The operations of the Engine API's tag "Image" that are served. */
export function imageRoutes({ images, log }: Pick<ApiParts, 'images' | 'log'>): Router {
  const router = newRouter();

  router.get(
    '/images/json',
    serve(async (call) => {
      const { query, version } = call;
      const manifests = version >= Since.listManifests && flag(query, 'manifests');
      const identity = version >= Since.identity && flag(query, 'identity');
      if (identity && !manifests) {
        throw new LayerdError('invalid', 'conflicting options: identity requires manifests=1');
      }
      const list = await images.list({
        all: flag(query, 'all'),
        filters: listFilters(call),
        sharedSize: version >= Since.sharedSize && flag(query, 'shared-size'),
        manifests,
        identity,
      });
      call.json(list.map((image) => imageSummary(image, version)));
    }),
  );

  router.get(
    '/images/search',
    serve(async (call) => {
      const { query, request, signal } = call;
      const term = query.get('term') ?? '';
      if (term.trim() === '') {
        throw new LayerdError(
          'invalid',
          'parameter term: missing; expected what to search for, such as redis or registry.example.com/redis',
        );
      }
      const { registry, rest } = named('term', () => splitSearchTerm(term));
      const found = await images.search({
        registry,
        term: rest,
        limit: integer(query, 'limit', SEARCH_LIMITS) ?? DEFAULT_SEARCH_LIMIT,
        filters: parseFilters(query.get('filters') ?? '', SEARCH_FILTERS),
        credentials: credentialsOf(request),
        signal,
      });
      call.json(found);
    }),
  );

  router.get(
    '/images/*name/json',
    serve(async (call) => {
      const { query, version } = call;
      const manifests = version >= Since.inspectManifests && flag(query, 'manifests');
      const only = version < Since.inspectPlatform ? undefined : platform(query, 'platform');
      if (manifests && only !== undefined) {
        throw new LayerdError('invalid', 'conflicting options: manifests and platform cannot both be set');
      }
      const image = await images.inspect(nameOf(call), { manifests, platform: only });
      call.json(imageInspect(image, version));
    }),
  );

  router.get(
    '/images/*name/history',
    serve(async (call) => {
      const { query, version } = call;
      const items = await images.history(nameOf(call), {
        platform: version < Since.historyPlatform ? undefined : platform(query, 'platform'),
      });
      call.json(items.map((item) => historyItem(item, version)));
    }),
  );

  router.delete(
    '/images/*name',
    serve(async (call) => {
      const { query, version } = call;
      const items = await images.remove(nameOf(call), {
        force: flag(query, 'force'),
        noPrune: flag(query, 'noprune'),
        platforms: version < Since.deletePlatforms ? [] : platforms(query, 'platforms'),
      });
      call.json(items);
    }),
  );

  router.post(
    '/images/prune',
    serve(async (call) => {
      call.json(await images.prune(parseFilters(call.query.get('filters') ?? '', PRUNE_FILTERS), call.signal));
    }),
  );

  router.post(
    '/images/*name/tag',
    serve(async (call) => {
      await images.tag(nameOf(call), newName(call));
      call.response.status(201).end();
    }),
  );

  router.post(
    '/images/create',
    serve((call) => {
      if (call.query.has('fromSrc') && (call.query.get('fromImage') ?? '') === '')
        return importImage(call, { images, log });
      discardBody(call.request, call.response);
      const request = pullRequest(call);
      return streamed(call, log, (progress) => images.pull(request, progress));
    }),
  );

  router.post(
    '/images/*name/push',
    serve(async (call) => {
      const request = await pushRequest(call);
      return streamed(call, log, (progress) => images.push(request, progress));
    }),
  );

  return router;
}

const nameOf = ({ request }: Call): string => imageName(request.params['name']);

/** The filters of a list; older clients send the reference alone, as `filter`. */
function listFilters({ query, version }: Call): Filters {
  const filters = parseFilters(query.get('filters') ?? '', IMAGE_FILTERS);
  const pattern = query.get('filter') ?? '';
  if (version >= NO_SINGLE_FILTER || pattern === '' || filters.has('reference')) return filters;
  return new Map([...filters, ['reference', [pattern]]]);
}

/** The name that a tag gives: the tag of its own parameter goes before one in the repository's. */
function newName({ query }: Call): Reference {
  const repository = query.get('repo') ?? '';
  if (repository === '') {
    throw new LayerdError('invalid', 'parameter repo: missing; expected the repository to tag in, such as team/app');
  }
  const reference = named('repo', () => parseReference(repository));
  return tagged(reference, query);
}

function pullRequest(call: Call): PullRequest {
  const { query, version } = call;
  const image = query.get('fromImage') ?? '';
  if (image === '') {
    throw new LayerdError('invalid', 'fromImage is missing: expected the name of an image to pull, such as redis');
  }
  if (query.has('fromSrc')) {
    throw new LayerdError(
      'invalid',
      'conflicting options: fromImage pulls an image, fromSrc imports one; give one of them',
    );
  }
  const reference = refuseReserved(parseImageAndTag(image, query.get('tag') ?? ''));
  const specifier = version < Since.pullPlatform ? '' : (query.get('platform') ?? '');
  const allPlatforms = flag(query, 'all-platforms');
  if (allPlatforms && specifier !== '') {
    throw new LayerdError('invalid', 'conflicting options: all-platforms and platform cannot both be set');
  }
  return {
    reference,
    all: reference.tag === undefined && reference.digest === undefined,
    allPlatforms,
    platform: specifier === '' ? undefined : specifier,
    credentials: credentialsOf(call.request),
    ...wishOf(call.request),
    signal: call.signal,
  };
}

/** What to push: the tag of its own parameter, else the name's, else all tags there are, as dockerd has it. */
async function pushRequest(call: Call): Promise<PushRequest> {
  const { query, version } = call;
  const reference = named('name', () => parseReference(nameOf(call)));
  return {
    reference: tagged(reference, query),
    platform: version < Since.pushPlatform ? undefined : platform(query, 'platform'),
    credentials: await pushCredentials(call.request),
    ...wishOf(call.request),
    signal: call.signal,
  };
}
