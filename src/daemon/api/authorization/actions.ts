import { canonicalName, parseReference } from '../../../protocol/reference.ts';
import { LayerdError } from '../../../protocol/errors.ts';
import type { Call } from '../call.ts';
import { routeOf } from '../route.ts';

/** What may be allowed. */
export const VERBS = [
  /** Asking whether the daemon is alive: needs no rule. */
  'ping',
  /** What is stored, what is under way, and how the daemon does: lists, inspections, versions, metrics. */
  'read',
  'events',
  /** Asking a registry through the daemon: search, manifests, referrers. */
  'ask',
  'login',
  'pull',
  'push',
  'copy',
  'publish',
  'tag',
  'remove',
  'save',
  'load',
  'import',
  /** Pausing, reordering and cancelling transfers, whoever wants them, and the limits on all of them. */
  'steer',
  'verify',
  /** Declaring which images are kept. */
  'pin',
] as const;
export type Verb = (typeof VERBS)[number];

/** What a request would do. */
export interface Action {
  readonly verb: Verb;
  /** Canonical names of the repositories that it is about; undefined where it is about none in particular, or all. */
  readonly repositories: readonly string[] | undefined;
}

/** The repositories, by canonical name, that an image which a client names is in; undefined where it is in none. */
export type RepositoriesOf = (name: string) => readonly string[] | undefined;

type Subject = (call: Call, repositoriesOf: RepositoriesOf) => readonly string[] | undefined;

const nothing: Subject = () => undefined;
/** The image in the path. */
const stored: Subject = ({ request }, repositoriesOf) => repositoriesOf(pathName(request.params['name']));
/** The reference in the path, which need not be stored. */
const named: Subject = ({ request }) => [repositoryOf(pathName(request.params['name']))];
const parameter =
  (name: string): Subject =>
  ({ query }) => [repositoryOf(query.get(name) ?? '')];
const all =
  (...subjects: Subject[]): Subject =>
  (...call) => {
    const repositories = subjects.map((subject) => subject(...call));
    return repositories.includes(undefined) ? undefined : repositories.flatMap((each) => each ?? []);
  };

/** Each operation, by its route, with what it does and to what. */
const OPERATIONS: Readonly<Record<string, readonly [Verb, Subject]>> = {
  'GET /_ping': ['ping', nothing],
  'GET /livez': ['ping', nothing],
  'GET /livez/{check}': ['ping', nothing],
  'GET /readyz': ['ping', nothing],
  'GET /readyz/{check}': ['ping', nothing],
  'GET /metrics': ['read', nothing],
  'GET /version': ['read', nothing],
  'GET /info': ['read', nothing],
  'GET /system/df': ['read', nothing],
  'GET /events': ['events', nothing],
  'POST /auth': ['login', nothing],
  'GET /images/json': ['read', nothing],
  'GET /images/search': ['ask', nothing],
  'GET /images/{name}/json': ['read', stored],
  'GET /images/{name}/history': ['read', stored],
  'GET /images/{name}/attestations': ['read', stored],
  'GET /images/get': ['save', all(({ query }, of) => union(query.getAll('names').map((name) => of(name))))],
  'GET /images/{name}/get': ['save', stored],
  'POST /images/load': ['load', nothing],
  'POST /images/prune': ['remove', nothing],
  'POST /images/create': ['pull', parameter('fromImage')],
  'POST /images/{name}/tag': ['tag', all(stored, parameter('repo'))],
  'POST /images/{name}/push': ['push', named],
  'DELETE /images/{name}': ['remove', stored],
  'GET /distribution/{name}/json': ['ask', named],
  'GET /layerd/openapi.yaml': ['ping', nothing],
  'GET /layerd/events': ['events', nothing],
  'GET /layerd/images/{name}/layers': ['read', stored],
  'GET /layerd/images/{name}/referrers': ['ask', stored],
  'GET /layerd/manifests/{name}': ['ask', named],
  'PUT /layerd/manifests/{name}': ['publish', named],
  'POST /layerd/copy': ['copy', all(parameter('from'), parameter('to'))],
  'POST /layerd/gc': ['remove', nothing],
  'POST /layerd/verify': ['verify', nothing],
  'GET /layerd/usage': ['read', nothing],
  'GET /layerd/registries': ['read', nothing],
  'GET /layerd/limits': ['read', nothing],
  'PATCH /layerd/limits': ['steer', nothing],
  'GET /layerd/transfers': ['read', nothing],
  'PATCH /layerd/transfers/{digest}': ['steer', nothing],
  'DELETE /layerd/transfers/{digest}': ['steer', nothing],
  'GET /layerd/sets': ['read', nothing],
  'GET /layerd/sets/{name}': ['read', nothing],
  // Their references stand in the body, or in the set: whoever pins, pins whatever there is.
  'PUT /layerd/sets/{name}': ['pin', nothing],
  'DELETE /layerd/sets/{name}': ['pin', nothing],
  'GET /layerd/pulls': ['read', nothing],
  // The reference stands in the body, which is not read for whom nobody may know yet.
  'POST /layerd/pulls': ['pull', nothing],
  'GET /layerd/pulls/{id}': ['read', nothing],
  'PATCH /layerd/pulls/{id}': ['steer', nothing],
  'DELETE /layerd/pulls/{id}': ['steer', nothing],
};

/** What the request would do. A route that was forgotten here is one that nobody may use. */
export function actionOf(call: Call, repositoriesOf: RepositoriesOf): Action {
  const { request } = call;
  const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${routeOf(request) ?? ''}`;
  // An import is a creation as well, whose `fromImage` is empty.
  if (route === 'POST /images/create' && (call.query.get('fromImage') ?? '') === '') {
    const repository = call.query.get('repo') ?? '';
    return { verb: 'import', repositories: repository === '' ? undefined : [repositoryOf(repository)] };
  }
  const operation = OPERATIONS[route];
  if (operation === undefined) throw new LayerdError('forbidden', `${route} is not subject to authorization`);
  const [verb, subject] = operation;
  return { verb, repositories: subject(call, repositoriesOf) };
}

/** Whether the route is known here. */
export const isKnown = (route: string): boolean => Object.hasOwn(OPERATIONS, route);

/** What several images are in together; undefined where one of them is in nothing. */
function union(repositories: readonly (readonly string[] | undefined)[]): readonly string[] | undefined {
  return repositories.includes(undefined) ? undefined : repositories.flatMap((each) => each ?? []);
}

const pathName = (name: string | string[] | undefined): string => [name ?? []].flat().join('/');

/** The canonical name of a reference's repository. Throws `invalid` for what is no reference. */
const repositoryOf = (name: string): string => canonicalName(parseReference(name));
