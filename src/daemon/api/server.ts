import express, { type Application, type RequestHandler } from 'express';
import { Call, callOf } from './call.ts';
import { archiveRoutes } from './archives.ts';
import { attestationRoutes } from './attestations.ts';
import { authRoutes } from './auth.ts';
import { definitionRoutes } from './definition.ts';
import { distributionRoutes } from './distribution.ts';
import { answerFailure, errorHandler, failureOf, newRequestId } from './errors.ts';
import { discardBody, readsBody, refuseBrowsers } from './guard.ts';
import { beginSpan, endSpan } from './span.ts';
import { healthRoutes } from './health.ts';
import { imageRoutes } from './images.ts';
import { layerdRoutes } from './layerd.ts';
import { metricsRoutes } from './metrics.ts';
import type { ApiParts } from './parts.ts';
import type { Handler } from './listeners.ts';
import { routeOf } from './route.ts';
import { setRoutes } from './sets.ts';
import { subscriptionRoutes } from './subscriptions/routes.ts';
import { pullRoutes } from './pulls.ts';
import { limitRoutes } from './limits.ts';
import { transferRoutes } from './transfers.ts';
import { Upgrades } from './upgrades.ts';
import { systemRoutes } from './system.ts';
import { unservedError } from './unserved.ts';
import { NEWEST, parseVersion, splitVersion, versionText } from './versions.ts';

/**
 * The Engine API and layerd's own endpoints, over whatever listener they are put on. A request passes the guards, is
 * given its {@link Call} with the version that its prefix names, and is routed without that prefix.
 */
export function createHandler(parts: ApiParts): Handler {
  const upgrades = new Upgrades();
  const app = createApp(parts, upgrades);
  return { request: app, upgrade: upgrades.listener(app) };
}

function createApp(parts: ApiParts, upgrades: Upgrades): Application {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);

  app.use(admit(parts));
  app.use(refuseHead);
  app.use(healthRoutes(parts));
  app.use(metricsRoutes(parts));
  app.use(systemRoutes(parts));
  app.use(authRoutes(parts));
  app.use(archiveRoutes(parts));
  app.use(imageRoutes(parts));
  app.use(attestationRoutes(parts));
  app.use(distributionRoutes(parts));
  app.use(layerdRoutes(parts));
  app.use(transferRoutes(parts));
  app.use(pullRoutes(parts));
  app.use(limitRoutes(parts));
  app.use(setRoutes(parts));
  app.use(definitionRoutes());
  app.use(subscriptionRoutes(parts, upgrades));
  app.use((request) => {
    throw unservedError(request.method, request.path);
  });
  app.use(errorHandler(parts.log, callOf));
  return app;
}

/** What monitoring asks by HEAD. */
const HEAD_PATHS = /^\/(_ping|metrics|(livez|readyz)(\/.*)?)$/;

/** Express would answer HEAD by the route of GET, do all of its work, and promise a path that the API does not have. */
const refuseHead: RequestHandler = (request, _response, next) => {
  if (request.method === 'HEAD' && !HEAD_PATHS.test(request.path)) throw unservedError(request.method, request.path);
  next();
};

/** Begins a call: headers, version, identifier, log, and the guards. */
function admit({ version: daemonVersion, log, hostNames, metrics, tracer, authorization }: ApiParts): RequestHandler {
  return (request, response, next) => {
    response.setHeader('Api-Version', versionText(NEWEST));
    response.setHeader('Docker-Experimental', 'false');
    response.setHeader('Ostype', 'linux');
    response.setHeader('Server', `layerd/${daemonVersion} (linux)`);

    const { version: prefix, rest } = splitVersion(request.url);
    const id = newRequestId();
    const question = rest.indexOf('?');
    const query = new URLSearchParams(question === -1 ? '' : rest.slice(question + 1));
    const authorize = (call: Call): void => authorization.check(call);
    const begin = (version: number): Call => {
      const call = new Call({ id, version, request, response, query, authorize });
      response.locals['call'] = call;
      return call;
    };
    // Until the version is known to be served, errors are in the newest form.
    const call = begin(NEWEST);
    log.debug('request', { request: id, method: request.method, url: request.originalUrl });
    const answered = metrics.requested();
    const span = beginSpan(call, rest, tracer);
    response.once('close', () => {
      const { method } = request;
      // Of paths that no route took there is no end.
      const route = routeOf(request) ?? 'none';
      answered({ method, route, status: response.statusCode });
      endSpan(span, call, route);
      log.debug('response', { request: id, status: response.statusCode, complete: response.writableFinished });
    });
    if (!readsBody(request.method, question === -1 ? rest : rest.slice(0, question))) discardBody(request, response);
    try {
      refuseBrowsers(request, hostNames);
      if (prefix !== undefined) begin(parseVersion(prefix));
    } catch (error) {
      answerFailure(call, failureOf(error, call, log));
      return;
    }
    request.url = rest;
    span.within(() => log.within({ request: id, trace: span.traceId }, next));
  };
}
