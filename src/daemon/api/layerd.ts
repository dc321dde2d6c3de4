import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import { MAX_DOCUMENT_BYTES } from '../../protocol/oci.ts';
import { parseReference, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import { readBody } from './body.ts';
import { newRouter, serve, type Call } from './call.ts';
import { wishOf } from './client.ts';
import { credentialsByRegistry, credentialsOf } from './credentials.ts';
import { gcRequest } from './gc.ts';
import { discardBody } from './guard.ts';
import { imageName } from './names.ts';
import { flag, named, platform } from './parameters.ts';
import type { ApiParts } from './parts.ts';
import { streamed } from './streamed.ts';

/** layerd's own endpoints, beside the Engine API's; `docs/layerd-api.yaml` defines them. */
export function layerdRoutes({ images, registries, log }: Pick<ApiParts, 'images' | 'registries' | 'log'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/images/*name/layers',
    serve(async (call) => call.json(await images.layers(imageName(call.request.params['name'])))),
  );
  router.get(
    '/layerd/images/*name/referrers',
    serve(async (call) => {
      const { query, request, signal } = call;
      const artifactType = query.get('artifactType') ?? '';
      const report = await images.referrers(imageName(request.params['name']), {
        platform: platform(query, 'platform'),
        artifactType: artifactType === '' ? undefined : artifactType,
        credentials: credentialsOf(request),
        signal,
      });
      call.json(report);
    }),
  );
  router.get(
    '/layerd/manifests/*name',
    serve(async (call) => {
      const reference = withDefaultTag(parseReference(imageName(call.request.params['name'])));
      const { descriptor, bytes } = await images.remoteManifest(reference, {
        credentials: credentialsOf(call.request),
        signal: call.signal,
      });
      call.response.setHeader('Content-Type', descriptor.mediaType);
      call.response.setHeader('Docker-Content-Digest', descriptor.digest);
      // The bytes as they were served, since the digest is of them.
      call.response.end(bytes);
    }),
  );
  router.put(
    '/layerd/manifests/*name',
    serve(async (call) => {
      const { request, response, query, signal } = call;
      const reference = parseReference(imageName(request.params['name']));
      const from = query.getAll('from').map((text) => named('from', () => parseReference(text)));
      const bytes = await readBody(request, MAX_DOCUMENT_BYTES);
      if (bytes === undefined) {
        discardBody(request, response);
        throw new LayerdError('invalid', `the document is larger than the limit of ${MAX_DOCUMENT_BYTES} bytes`);
      }
      const mediaType = request.headers['content-type'] ?? '';
      const credentials = credentialsOf(request);
      const { client } = wishOf(request);
      const published = await images.publish({ reference, mediaType, bytes, from, credentials, client, signal });
      response.setHeader('Docker-Content-Digest', published.digest);
      call.json(published, 201);
    }),
  );
  router.post(
    '/layerd/copy',
    serve((call) => {
      const { request, query, signal } = call;
      const copy = {
        from: nameIn(call, 'from'),
        to: nameIn(call, 'to'),
        platform: platform(query, 'platform'),
        fromCredentials: credentialsOf(request, 'x-registry-auth-from'),
        toCredentials: credentialsOf(request, 'x-registry-auth-to'),
        ...wishOf(request),
        signal,
      };
      return streamed(call, log, (progress) => images.copy(copy, progress));
    }),
  );
  router.post(
    '/layerd/verify',
    serve((call) => {
      const { request, query, signal } = call;
      const image = query.get('image') ?? '';
      const verify = {
        image: image === '' ? undefined : image,
        repair: flag(query, 'repair'),
        credentialsFor: credentialsByRegistry(request),
        client: wishOf(request).client,
        signal,
      };
      return streamed(call, log, async (progress) => {
        await progress({ aux: await images.verify(verify, progress) });
      });
    }),
  );
  router.get(
    '/layerd/usage',
    serve(async (call) => {
      const { items: _, ...report } = await images.usage({ items: false });
      call.json(report);
    }),
  );
  router.post(
    '/layerd/gc',
    serve(async (call) => call.json(await images.collect(gcRequest(call)))),
  );
  router.get(
    '/layerd/registries',
    serve((call) => call.json(registries.reports())),
  );
  return router;
}

/** The reference that a parameter has to name. */
function nameIn({ query }: Call, parameter: string): Reference {
  const text = query.get(parameter) ?? '';
  if (text === '') {
    throw new LayerdError(
      'invalid',
      `parameter ${parameter}: missing; expected a reference such as registry.example.com/team/app:1`,
    );
  }
  return named(parameter, () => parseReference(text));
}
