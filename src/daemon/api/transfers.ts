import type { Router } from 'express';
import { isDigest, type Digest } from '../../protocol/digest.ts';
import type { TransferUpdate } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { newRouter, serve, type Call } from './call.ts';
import { answerLines } from './ndjson.ts';
import { flag, quote } from './parameters.ts';
import type { ApiParts, TransferOperations } from './parts.ts';
import { steeringOf } from './steering.ts';
import { progressUpdates } from './subscriptions/messages.ts';

/** What is under way between the daemon and registries, under `/layerd/`. */
export function transferRoutes({ transfers }: Pick<ApiParts, 'transfers'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/transfers',
    serve((call) =>
      flag(call.query, 'watch') ? answerLines(call, watch(call, transfers)) : call.json(transfers.list()),
    ),
  );
  router.patch(
    '/layerd/transfers/:digest',
    serve(async (call) => {
      const digest = digestOf(call);
      call.json(transfers.steer(digest, await steeringOf(call, ['priority', 'paused'])));
    }),
  );
  router.delete(
    '/layerd/transfers/:digest',
    serve(async (call) => {
      await transfers.cancel(digestOf(call));
      call.response.status(204).end();
    }),
  );
  return router;
}

function digestOf({ request }: Call): Digest {
  const text = String(request.params['digest']);
  if (isDigest(text)) return text;
  throw new LayerdError('invalid', `${quote(text)} is no digest: expected sha256: and 64 hexadecimal digits`);
}

/** All transfers, and each once more whenever it has changed. */
async function* watch({ signal }: Call, transfers: TransferOperations): AsyncGenerator<readonly TransferUpdate[]> {
  for await (const changes of transfers.watch(signal)) yield progressUpdates(changes);
}
