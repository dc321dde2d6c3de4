import { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { serve, type Call } from './call.ts';
import { historyItem, imageInspect, imageSummary } from './compat.ts';
import { credentialsOf } from './credentials.ts';
import { failureOf } from './errors.ts';
import { imageName } from './names.ts';
import { flag, parseFilters, parsePlatform, type Filters } from './parameters.ts';
import type { ApiParts, PullRequest } from './parts.ts';
import { ProgressStream } from './progress.ts';
import { LIST_FILTERS, Since } from './versions.ts';

/** The operations of the Engine API's tag "Image" that are served. */
export function imageRoutes({ images, log }: Pick<ApiParts, 'images' | 'log'>): Router {
  const router = Router();

  router.get(
    '/images/json',
    serve(async (call) => {
      const { query, version } = call;
      const manifests = version >= Since.listManifests && flag(query, 'manifests');
      if (version >= Since.identity && flag(query, 'identity') && !manifests) {
        throw new LayerdError('invalid', 'conflicting options: identity requires manifests=1');
      }
      const list = await images.list({
        all: flag(query, 'all'),
        filters: listFilters(call),
        sharedSize: version >= Since.sharedSize && flag(query, 'shared-size'),
        manifests,
      });
      call.json(list.map((image) => imageSummary(image, version)));
    }),
  );

  router.get(
    '/images/*name/json',
    serve(async (call) => {
      const { query, version } = call;
      const manifests = version >= Since.inspectManifests && flag(query, 'manifests');
      const platform = platformOf(call, Since.inspectPlatform);
      if (manifests && platform !== undefined) {
        throw new LayerdError('invalid', 'conflicting options: manifests and platform cannot both be set');
      }
      const image = await images.inspect(nameOf(call), { manifests, platform });
      call.json(imageInspect(image, version));
    }),
  );

  router.get(
    '/images/*name/history',
    serve(async (call) => {
      const items = await images.history(nameOf(call), { platform: platformOf(call, Since.historyPlatform) });
      call.json(items.map(historyItem));
    }),
  );

  // `noprune` keeps untagged parents, which only classic builds leave behind: there are none to prune.
  router.delete(
    '/images/*name',
    serve(async (call) => {
      const { query, version } = call;
      const platforms = version >= Since.deletePlatforms ? query.getAll('platforms') : [];
      const items = await images.remove(nameOf(call), {
        force: flag(query, 'force'),
        platforms: platforms.map((text) => parsePlatform('platforms', text)),
      });
      call.json(items);
    }),
  );

  router.post(
    '/images/create',
    serve(async (call) => {
      const request = pullRequest(call);
      const stream = new ProgressStream(call.response);
      try {
        await images.pull(request, (message) => stream.send(message));
      } catch (error) {
        if (!stream.begun || request.signal.aborted) throw error;
        stream.end(failureOf(error, call, log).message);
        return;
      }
      stream.end();
    }),
  );

  return router;
}

const nameOf = ({ request }: Call): string => imageName(request.params['name']);

function platformOf({ query, version }: Call, since: number): ReturnType<typeof parsePlatform> | undefined {
  const text = query.get('platform') ?? '';
  return version < since || text === '' ? undefined : parsePlatform('platform', text);
}

/** The filters of a list; clients of before 1.25 send the reference alone, as `filter`. */
function listFilters({ query, version }: Call): Filters {
  const filters = parseFilters(query.get('filters') ?? '');
  const pattern = query.get('filter') ?? '';
  if (version >= LIST_FILTERS || pattern === '' || filters.has('reference')) return filters;
  return new Map([...filters, ['reference', [pattern]]]);
}

/** A name that means "no image" in a Dockerfile, so that it can be the name of none. */
const RESERVED = /^(?:docker\.io\/)?(?:library\/)?scratch(?:[:@]|$)/;
const DIGEST = /^[a-z0-9+._-]+:[a-f0-9]{32,}$/i;

function pullRequest(call: Call): PullRequest {
  const { query, version } = call;
  const image = query.get('fromImage') ?? '';
  if (image === '') {
    if (query.has('fromSrc')) {
      throw new LayerdError('not-implemented', 'layerd does not import images from archives (fromSrc)');
    }
    throw new LayerdError('invalid', 'fromImage is missing: expected the name of an image to pull, such as redis');
  }
  const { reference, all } = withTag(image, query.get('tag') ?? '');
  if (RESERVED.test(reference)) throw new LayerdError('forbidden', "'scratch' is a reserved name");
  const platform = version >= Since.pullPlatform ? query.get('platform') : null;
  return {
    reference,
    all,
    platform: platform === null || platform === '' ? undefined : platform,
    credentials: credentialsOf(call.request),
    signal: call.signal,
  };
}

/**
 * The reference that an image and a tag parameter make. The tag takes the place of the image's; it may be a digest; and
 * the image may end with a bare colon, which means all tags, as does having neither tag nor digest.
 */
export function withTag(image: string, tag: string): { reference: string; all: boolean } {
  const trimmed = image.replace(/:$/, '');
  const at = trimmed.indexOf('@');
  const named = at === -1 ? trimmed : trimmed.slice(0, at);
  const digest = at === -1 ? '' : trimmed.slice(at);
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  const repository = colon === -1 ? named : named.slice(0, colon);
  if (tag === '') return { reference: trimmed, all: digest === '' && colon === -1 };
  if (DIGEST.test(tag)) return { reference: `${repository}@${tag}`, all: false };
  return { reference: `${repository}:${tag}${digest}`, all: false };
}
