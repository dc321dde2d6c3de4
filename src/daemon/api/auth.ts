import type { Router } from 'express';
import type { LoginResult } from '../../protocol/engine.ts';
import { newRouter, serve } from './call.ts';
import { loginOf } from './credentials.ts';
import type { ApiParts } from './parts.ts';

/** The operation by which clients try an account before they keep it. The daemon keeps nothing of it. */
export function authRoutes({ registries }: Pick<ApiParts, 'registries'>): Router {
  const router = newRouter();
  router.post(
    '/auth',
    serve(async (call) => {
      const { registry, credentials } = await loginOf(call.request);
      const identityToken = await registries.logIn(registry, { credentials, signal: call.signal });
      const result: LoginResult = { Status: 'Login Succeeded', IdentityToken: identityToken ?? '' };
      call.json(result);
    }),
  );
  return router;
}
