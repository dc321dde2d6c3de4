import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { MAX_SPEC_BYTES } from '../../protocol/image-set.ts';
import { readBody } from './body.ts';
import { newRouter, serve, type Call } from './call.ts';
import { discardBody } from './guard.ts';
import { answerLines } from './ndjson.ts';
import { flag } from './parameters.ts';
import type { ApiParts } from './parts.ts';

/** Pinned image sets, under `/layerd/sets`. */
export function setRoutes({ sets }: Pick<ApiParts, 'sets'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/sets',
    serve((call) => (flag(call.query, 'watch') ? answerLines(call, sets.watch(call.signal)) : call.json(sets.list()))),
  );
  router.get(
    '/layerd/sets/:name',
    serve((call) => call.json(sets.get(nameOf(call)))),
  );
  router.put(
    '/layerd/sets/:name',
    serve(async (call) => {
      const { request, response } = call;
      const bytes = await readBody(request, MAX_SPEC_BYTES);
      if (bytes === undefined) {
        discardBody(request, response);
        throw new LayerdError('invalid', `the body is larger than the limit of ${MAX_SPEC_BYTES} bytes`);
      }
      const { outcome, report } = sets.put(nameOf(call), bytes.toString());
      call.json(report, outcome === 'created' ? 201 : 200);
    }),
  );
  router.delete(
    '/layerd/sets/:name',
    serve((call) => {
      sets.delete(nameOf(call));
      call.response.status(204).end();
    }),
  );
  return router;
}

const nameOf = ({ request }: Call): string => String(request.params['name']);
