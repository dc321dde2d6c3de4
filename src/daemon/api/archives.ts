import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { newRouter, serve, type Call } from './call.ts';
import { imageName } from './names.ts';
import { flag, platforms } from './parameters.ts';
import type { ApiParts } from './parts.ts';
import { streamedFrom } from './streamed.ts';
import { Since } from './versions.ts';

/** The operations of the Engine API's tag "Image" by which images come and go in archives. */
export function archiveRoutes({ images, log }: Pick<ApiParts, 'images' | 'log'>): Router {
  const router = newRouter();

  const save = async ({ query, version, response }: Call, names: readonly string[]): Promise<void> => {
    const archive = await images.save(names, {
      platforms: version < Since.savePlatform ? [] : platforms(query, 'platform'),
    });
    response.setHeader('Content-Type', 'application/x-tar');
    // A client that goes away ends it, and with it the lease on what was saved.
    await pipeline(Readable.from(archive, { objectMode: false }), response);
  };

  router.get(
    '/images/get',
    serve((call) => {
      const names = call.query.getAll('names');
      if (names.length === 0) {
        throw new LayerdError(
          'invalid',
          'parameter names is missing: expected the names of images to save, such as redis:7',
        );
      }
      return save(
        call,
        names.map((name) => imageName(name)),
      );
    }),
  );

  router.get(
    '/images/*name/get',
    serve((call) => save(call, [imageName(call.request.params['name'])])),
  );

  router.post(
    '/images/load',
    serve((call) => {
      const { query, version, signal } = call;
      return streamedFrom(call, log, (archive, progress) =>
        images.load(
          {
            archive,
            // Without the parameter dockerd is quiet, whatever the definition says.
            quiet: !query.has('quiet') || flag(query, 'quiet'),
            platforms: version < Since.loadPlatform ? [] : platforms(query, 'platform'),
            signal,
          },
          progress,
        ),
      );
    }),
  );

  return router;
}
