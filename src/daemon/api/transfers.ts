import { once } from 'node:events';
import type { Router } from 'express';
import type { TransferUpdate } from '../../protocol/engine.ts';
import { newRouter, serve, type Call } from './call.ts';
import { flag } from './parameters.ts';
import type { ApiParts, TransferOperations } from './parts.ts';

/** What is under way between the daemon and registries, under `/layerd/`. */
export function transferRoutes({ transfers }: Pick<ApiParts, 'transfers'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/transfers',
    serve((call) => (flag(call.query, 'watch') ? watch(call, transfers) : call.json(transfers.list()))),
  );
  router.get(
    '/layerd/pulls',
    serve((call) => call.json(transfers.pulls())),
  );
  return router;
}

/** Answers with a line for each transfer, and one more whenever it has changed. */
async function watch(call: Call, transfers: TransferOperations): Promise<void> {
  const { response, signal } = call;
  response.setHeader('Content-Type', 'application/x-ndjson');
  response.flushHeaders();
  for await (const { reports, missed } of transfers.watch(signal)) {
    const updates: TransferUpdate[] = missed === 0 ? reports : [{ missed }, ...reports];
    const lines = updates.map((update) => `${JSON.stringify(update)}\n`).join('');
    // Nothing is asked for while the connection is full: what changes meanwhile is told as it is then.
    if (lines !== '' && !response.write(lines)) await once(response, 'drain', { signal }).catch(() => undefined);
  }
  response.end();
}
