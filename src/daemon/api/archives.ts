import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { newRouter, serve, type Call } from './call.ts';
import { failureOf } from './errors.ts';
import { imageName } from './names.ts';
import { flag, platforms } from './parameters.ts';
import type { ApiParts } from './parts.ts';
import { ProgressStream } from './progress.ts';
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
    serve(async (call) => {
      const { request, response, query, version, signal } = call;
      const stream = new ProgressStream(response);
      const archive = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
      try {
        await images.load(
          {
            archive,
            // Without the parameter dockerd is quiet, whatever the definition says.
            quiet: !query.has('quiet') || flag(query, 'quiet'),
            platforms: version < Since.loadPlatform ? [] : platforms(query, 'platform'),
            signal,
          },
          (message) => stream.send(message),
        );
      } catch (error) {
        // What the client still sends is discarded, so that it gets to the answer.
        request.resume();
        if (!stream.begun || signal.aborted) throw error;
        stream.end(failureOf(error, call, log).message);
        return;
      }
      stream.end();
    }),
  );

  return router;
}
