import type { Router } from 'express';
import { newRouter, serve } from './call.ts';
import { negotiate } from './media-type.ts';
import type { ApiParts } from './parts.ts';

const PLAIN = 'text/plain';
const OPEN = 'application/openmetrics-text';

/** `GET /metrics`: for Prometheus, as OpenMetrics for those who ask for it. */
export function metricsRoutes({ metrics }: Pick<ApiParts, 'metrics'>): Router {
  const router = newRouter();
  router.get(
    '/metrics',
    serve(({ request, response }) => {
      const isOpen = negotiate(request.headers.accept, [PLAIN, OPEN], PLAIN) === OPEN;
      response.setHeader(
        'Content-Type',
        `${isOpen ? `${OPEN}; version=1.0.0` : `${PLAIN}; version=0.0.4`}; charset=utf-8`,
      );
      response.setHeader('Cache-Control', 'no-store');
      response.end(metrics.expose(isOpen ? OPEN : PLAIN));
    }),
  );
  return router;
}
