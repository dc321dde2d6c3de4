import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import type { AttestedStatement } from '../images/attestations.ts';
import { newRouter, serve } from './call.ts';
import { imageName } from './names.ts';
import { flag, platforms } from './parameters.ts';
import type { ApiParts } from './parts.ts';
import { Since, versionText } from './versions.ts';

/** The operation of the Engine API's tag "Image" that tells what attests to an image. */
export function attestationRoutes({ images }: Pick<ApiParts, 'images'>): Router {
  const router = newRouter();
  router.get(
    '/images/*name/attestations',
    serve(async ({ query, request, response, version }) => {
      if (version < Since.attestations) {
        throw new LayerdError(
          'invalid',
          `GET /images/{name}/attestations requires minimum API version ${versionText(Since.attestations)}, not ${versionText(version)}`,
        );
      }
      const [platform, ...others] = platforms(query, 'platform');
      if (others.length > 0) {
        throw new LayerdError('invalid', 'parameter platform: given more than once; expected one platform');
      }
      using found = await images.attestations(imageName(request.params['name']), {
        platform,
        types: query.getAll('type').filter((type) => type !== ''),
        statement: flag(query, 'statement'),
      });
      response.setHeader('Content-Type', 'application/json');
      await pipeline(Readable.from(listOf(found.statements), { objectMode: false }), response);
    }),
  );
  return router;
}

/** The list as JSON, in which statements are as they were made: an SBOM can be far too large to be held in memory. */
async function* listOf(statements: readonly AttestedStatement[]): AsyncGenerator<string | Uint8Array> {
  yield '[';
  for (const [index, { descriptor, predicateType, open }] of statements.entries()) {
    const entry = JSON.stringify({ Descriptor: descriptor, PredicateType: predicateType });
    const separator = index === 0 ? '' : ',';
    if (open === undefined) {
      yield separator + entry;
      continue;
    }
    yield `${separator}${entry.slice(0, -1)},"Statement":`;
    yield* open();
    yield '}';
  }
  yield ']\n';
}
