import type { Router } from 'express';
import { newRouter, serve, type Call } from './call.ts';
import { systemInfo } from './compat.ts';
import { answerDiskUsage } from './disk-usage.ts';
import { streamEvents } from './events.ts';
import type { ApiParts } from './parts.ts';

/** The operations of the Engine API's tag "System" that are served. */
export function systemRoutes({ system, events, images }: Pick<ApiParts, 'system' | 'events' | 'images'>): Router {
  const router = newRouter();
  // Express answers HEAD by the route of GET where there is none of its own.
  router.head('/_ping', serve(pingHeaders));
  router.get('/_ping', serve(ping));
  router.get(
    '/version',
    serve((call) => call.json(system.version())),
  );
  router.get(
    '/info',
    serve(async (call) => call.json(systemInfo(await system.info(), call.version))),
  );
  router.get(
    '/system/df',
    serve((call) => answerDiskUsage(call, images)),
  );
  router.get(
    '/events',
    serve((call) => streamEvents(call, events)),
  );
  return router;
}

function ping({ response }: Call): void {
  preparePing(response);
  response.end('OK');
}

function pingHeaders({ response }: Call): void {
  preparePing(response);
  response.setHeader('Content-Length', '0');
  response.end();
}

function preparePing(response: Call['response']): void {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate');
  response.setHeader('Pragma', 'no-cache');
  // The builder that a client should choose: the classic one, which lives in the daemon. It is refused clearly, where
  // BuildKit's would be tried over /session first.
  response.setHeader('Builder-Version', '1');
  response.setHeader('Swarm', 'inactive');
}
