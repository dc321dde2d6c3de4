import type { Access } from './authorization.ts';
import type { Endpoint } from './endpoints.ts';
import type { HttpRequest, HttpResponse } from './http.ts';
import type { UploadLocation } from './location.ts';
import { familiarName, familiarReference } from './endpoints.ts';
import type { Subject } from './reason.ts';
import type { Credentials, Repository } from './registry.ts';

interface Question extends Pick<
  HttpRequest,
  'method' | 'headersFor' | 'document' | 'signal' | 'body' | 'once' | 'assembles'
> {
  readonly headers?: Readonly<Record<string, string>>;
  readonly credentials: Credentials | undefined;
}

/** What one of a registry's verbs asks of an endpoint. */
export interface Call extends Question {
  readonly repository: Repository;
  /** Below `/v2/<repository>/`, or where an upload goes on. */
  readonly path: string | UploadLocation;
  /** Set for what is part of a push. */
  readonly push?: Access['push'];
  readonly scopes?: undefined;
  readonly onIdentity?: undefined;
}

/** What is asked of a registry as a whole. */
export interface RegistryCall extends Question {
  /** From the root: `/v2/_catalog`. */
  readonly path: string;
  /** What a token for it has to be good for: `registry:catalog:*`. */
  readonly scopes: readonly string[];
  /** Set for a login; see {@link Access}. */
  readonly onIdentity?: Access['onIdentity'];
  readonly repository?: undefined;
  readonly push?: undefined;
}

/** Sends a call to an endpoint: authorized, redirected and retried as it takes. */
export type Exchange = (endpoint: Endpoint, call: Call | RegistryCall) => Promise<HttpResponse>;

/** The credentials for an endpoint. Those of Docker Hub are not its mirrors' business: somebody else runs them. */
export function credentialsFor(endpoint: Endpoint, credentials: Credentials | undefined): Credentials | undefined {
  return endpoint.mirror ? undefined : credentials;
}

/** What a call is about, in the words of messages. */
export function subjectOf(
  endpoint: Endpoint,
  call: Pick<Call, 'repository' | 'credentials'>,
  kind: Subject['kind'],
  reference: string,
): Subject {
  const credentials = credentialsFor(endpoint, call.credentials) ?? {};
  return {
    kind,
    name: familiarName(call.repository),
    reference: kind === 'tags' ? familiarName(call.repository) : familiarReference(call.repository, reference),
    authenticated: Object.values(credentials).some((value) => value !== '' && value !== undefined),
  };
}
