import type { Router } from 'express';
import type { DemandReport } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { parseReference, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import type { DetachedRequest } from '../images/detached.ts';
import { newRouter, serve, type Call } from './call.ts';
import { wishOf } from './client.ts';
import { credentialsOf } from './credentials.ts';
import { known, readFields } from './fields.ts';
import { answerLines } from './ndjson.ts';
import { refuseReserved } from './names.ts';
import { flag, named } from './parameters.ts';
import type { ApiParts } from './parts.ts';
import { priorityIn, steeringOf } from './steering.ts';

/** A request for a detached pull, in bytes: 4 KiB. */
const MAX_BODY_BYTES = 4 * 1024;

const FIELDS = ['reference', 'platform', 'allPlatforms', 'priority'] as const;

/** Pulls, pushes and copies under way, and pulls that go on though nobody waits for them, under `/layerd/pulls`. */
export function pullRoutes({ transfers, detached }: Pick<ApiParts, 'transfers' | 'detached'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/pulls',
    serve((call) => call.json([...(flag(call.query, 'all') ? detached.ended() : []), ...transfers.pulls()])),
  );
  router.post(
    '/layerd/pulls',
    serve(async (call) => {
      const report = detached.begin(await detachedRequest(call, detached));
      call.response.setHeader('Location', `/layerd/pulls/${report.id}`);
      call.json(report, 202);
    }),
  );
  router.get(
    '/layerd/pulls/:id',
    serve(async (call) => {
      // Looked for before the answer begins, so that one that is not there is a 404.
      const report = detached.find(idOf(call));
      if (flag(call.query, 'watch')) await answerLines(call, watch(call, detached));
      else call.json(report);
    }),
  );
  router.patch(
    '/layerd/pulls/:id',
    serve(async (call) => {
      const { priority } = await steeringOf(call, ['priority']);
      call.json(transfers.prioritizePull(idOf(call), priority ?? 0));
    }),
  );
  router.delete(
    '/layerd/pulls/:id',
    serve((call) => {
      transfers.cancelPull(idOf(call));
      call.response.status(204).end();
    }),
  );
  return router;
}

const idOf = ({ request }: Call): string => String(request.params['id']);

async function* watch(call: Call, detached: ApiParts['detached']): AsyncGenerator<readonly DemandReport[]> {
  for await (const report of detached.watch(idOf(call), call.signal)) yield [report];
}

/** What to pull, from the body. Throws `invalid`, naming the field that is wrong. */
async function detachedRequest(call: Call, detached: ApiParts['detached']): Promise<DetachedRequest> {
  const body = await readFields(call, MAX_BODY_BYTES);
  if (body === undefined) {
    throw new LayerdError('invalid', 'the body does not say what to pull: expected a JSON object with reference');
  }
  const { reference, platform, allPlatforms = false, priority } = known(body, FIELDS);
  if (typeof allPlatforms !== 'boolean') throw new LayerdError('invalid', 'field allPlatforms: expected true or false');
  if (platform !== undefined && (typeof platform !== 'string' || platform === '')) {
    throw new LayerdError('invalid', 'field platform: expected a platform such as linux/arm64');
  }
  if (allPlatforms && platform !== undefined) {
    throw new LayerdError('invalid', 'conflicting options: allPlatforms and platform cannot both be set');
  }
  const wish = wishOf(call.request);
  return {
    reference: referenceIn(reference),
    platform: platform === undefined ? undefined : named('platform', () => detached.platform(platform), 'field'),
    allPlatforms,
    credentials: credentialsOf(call.request),
    client: wish.client,
    priority: priorityIn(priority) ?? wish.priority ?? 0,
  };
}

function referenceIn(value: unknown): Reference {
  if (typeof value !== 'string') {
    throw new LayerdError(
      'invalid',
      'field reference: expected a reference such as redis:7 or registry.example.com/app',
    );
  }
  return named('reference', () => withDefaultTag(refuseReserved(parseReference(value))), 'field');
}
