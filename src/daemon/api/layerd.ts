import type { Router } from 'express';
import { newRouter, serve } from './call.ts';
import { imageName } from './names.ts';
import type { ApiParts } from './parts.ts';

/** layerd's own endpoints, beside the Engine API's; `docs/layerd-api.yaml` defines them. */
export function layerdRoutes({ images, registries }: Pick<ApiParts, 'images' | 'registries'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/images/*name/layers',
    serve(async (call) => call.json(await images.layers(imageName(call.request.params['name'])))),
  );
  router.get(
    '/layerd/registries',
    serve((call) => call.json(registries())),
  );
  return router;
}
