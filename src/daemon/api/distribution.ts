import type { Router } from 'express';
import { parseReference, withDefaultTag } from '../../protocol/reference.ts';
import { newRouter, serve } from './call.ts';
import { distributionInspect } from './compat.ts';
import { credentialsOf } from './credentials.ts';
import { imageName } from './names.ts';
import type { ApiParts } from './parts.ts';

/** The operation of the Engine API's tag "Distribution". */
export function distributionRoutes({ images }: Pick<ApiParts, 'images'>): Router {
  const router = newRouter();
  router.get(
    '/distribution/*name/json',
    serve(async (call) => {
      const reference = withDefaultTag(parseReference(imageName(call.request.params['name'])));
      const found = await images.distribution(reference, {
        credentials: credentialsOf(call.request),
        signal: call.signal,
      });
      call.json(distributionInspect(found));
    }),
  );
  return router;
}
