import type { Router } from 'express';
import { parseReference, withDefaultTag } from '../../protocol/reference.ts';
import { newRouter, serve } from './call.ts';
import { credentialsOf } from './credentials.ts';
import { imageName } from './names.ts';
import { platform } from './parameters.ts';
import type { ApiParts } from './parts.ts';

/** layerd's own endpoints, beside the Engine API's; `docs/layerd-api.yaml` defines them. */
export function layerdRoutes({ images, registries }: Pick<ApiParts, 'images' | 'registries'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/images/*name/layers',
    serve(async (call) => call.json(await images.layers(imageName(call.request.params['name'])))),
  );
  router.get(
    '/layerd/images/*name/referrers',
    serve(async (call) => {
      const { query, request, signal } = call;
      const artifactType = query.get('artifactType') ?? '';
      const report = await images.referrers(imageName(request.params['name']), {
        platform: platform(query, 'platform'),
        artifactType: artifactType === '' ? undefined : artifactType,
        credentials: credentialsOf(request),
        signal,
      });
      call.json(report);
    }),
  );
  router.get(
    '/layerd/manifests/*name',
    serve(async (call) => {
      const reference = withDefaultTag(parseReference(imageName(call.request.params['name'])));
      const { descriptor, bytes } = await images.remoteManifest(reference, {
        credentials: credentialsOf(call.request),
        signal: call.signal,
      });
      call.response.setHeader('Content-Type', descriptor.mediaType);
      call.response.setHeader('Docker-Content-Digest', descriptor.digest);
      // The bytes as they were served, since the digest is of them.
      call.response.end(bytes);
    }),
  );
  router.get(
    '/layerd/usage',
    serve(async (call) => {
      const { items: _, ...report } = await images.usage({ items: false });
      call.json(report);
    }),
  );
  router.get(
    '/layerd/registries',
    serve((call) => call.json(registries.reports())),
  );
  return router;
}
