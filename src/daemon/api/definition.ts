import { readFile } from 'node:fs/promises';
import type { Router } from 'express';
import { newRouter, serve } from './call.ts';

/** The definition of what layerd serves beside the Engine API; the package brings it along. */
const DEFINITION = new URL('../../../docs/layerd-api.yaml', import.meta.url);

/** `GET /layerd/openapi.yaml`: the definition of layerd's own endpoints. */
export function definitionRoutes(): Router {
  const router = newRouter();
  router.get(
    '/layerd/openapi.yaml',
    serve(async ({ response }) => {
      const text = await readFile(DEFINITION);
      // RFC 9512.
      response.setHeader('Content-Type', 'application/yaml');
      response.end(text);
    }),
  );
  return router;
}
