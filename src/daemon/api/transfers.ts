import type { Router } from 'express';
import { isDigest, type Digest } from '../../protocol/digest.ts';
import type { TransferUpdate } from '../../protocol/engine.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { isPriority, PRIORITIES } from '../transfers/demand.ts';
import type { Steering } from '../transfers/transfers.ts';
import { parseFields, readBody } from './body.ts';
import { newRouter, serve, type Call } from './call.ts';
import { discardBody } from './guard.ts';
import { flag, quote } from './parameters.ts';
import type { ApiParts, TransferOperations } from './parts.ts';
import { written } from './written.ts';

/** A change of a transfer, in bytes: 4 KiB. */
const MAX_BODY_BYTES = 4 * 1024;

/** What is under way between the daemon and registries, under `/layerd/`. */
export function transferRoutes({ transfers }: Pick<ApiParts, 'transfers'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/transfers',
    serve((call) => (flag(call.query, 'watch') ? watch(call, transfers) : call.json(transfers.list()))),
  );
  router.patch(
    '/layerd/transfers/:digest',
    serve(async (call) => {
      const digest = digestOf(call);
      call.json(transfers.steer(digest, await fieldsOf(call, ['priority', 'paused'])));
    }),
  );
  router.delete(
    '/layerd/transfers/:digest',
    serve(async (call) => {
      await transfers.cancel(digestOf(call));
      call.response.status(204).end();
    }),
  );
  router.get(
    '/layerd/pulls',
    serve((call) => call.json(transfers.pulls())),
  );
  router.patch(
    '/layerd/pulls/:id',
    serve(async (call) => {
      const { priority } = await fieldsOf(call, ['priority']);
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

function digestOf({ request }: Call): Digest {
  const text = String(request.params['digest']);
  if (isDigest(text)) return text;
  throw new LayerdError('invalid', `${quote(text)} is no digest: expected sha256: and 64 hexadecimal digits`);
}

/** What is changed, from the body. Throws `invalid`, naming the field that is wrong; nothing is changed then. */
async function fieldsOf({ request, response }: Call, known: readonly (keyof Steering)[]): Promise<Steering> {
  const text = (await readBody(request, MAX_BODY_BYTES))?.toString();
  if (text === undefined) {
    discardBody(request, response);
    throw new LayerdError('invalid', `the body is larger than the limit of ${MAX_BODY_BYTES} bytes`);
  }
  const fields = parseFields(text);
  if (fields === undefined || Object.keys(fields).length === 0) {
    throw new LayerdError(
      'invalid',
      `the body says nothing to change: expected a JSON object with ${known.join(' or ')}`,
    );
  }
  const unknown = Object.keys(fields).find((name) => !known.some((field) => field === name));
  if (unknown !== undefined) {
    throw new LayerdError('invalid', `field ${quote(unknown)}: unknown; expected ${known.join(' or ')}`);
  }
  const { priority, paused } = fields;
  if (paused !== undefined && typeof paused !== 'boolean') {
    throw new LayerdError('invalid', 'field paused: expected true or false');
  }
  if (priority !== undefined && !isPriority(priority)) {
    const { min, max } = PRIORITIES;
    throw new LayerdError('invalid', `field priority: expected a whole number from ${min} to ${max}`);
  }
  return { priority, paused };
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
    if (lines !== '') await written(response, lines, signal);
  }
  response.end();
}
