import { LayerdError } from '../../protocol/errors.ts';
import type { InsecureRegistries } from './insecure.ts';
import type { Repository } from './registry.ts';

/** Docker Hub, by the name in references, and where its registry really is. */
const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_REGISTRY = 'https://registry-1.docker.io';
/** Where Docker Hub is searched. */
const DOCKER_HUB_INDEX = 'https://index.docker.io';

export const isDockerHub = (registry: string): boolean => registry === DOCKER_HUB;

/** A server that a repository can be reached at. */
export interface Endpoint {
  readonly host: string;
  readonly mirror: boolean;
  /** Whether it may be spoken to over plain HTTP. */
  readonly insecure: boolean;
  /** The base of its URLs, without a slash at the end. */
  readonly base: string;
  /** The base to fall back to: the plain HTTP side of an insecure registry. */
  readonly alternative: string | undefined;
}

/** The endpoints of a repository in the order in which they are tried. */
export async function endpointsOf(
  repository: Repository,
  options: { mirrors: readonly string[]; insecure: InsecureRegistries },
): Promise<Endpoint[]> {
  const mirrors = isDockerHub(repository.registry) ? options.mirrors : [];
  return [
    ...mirrors.map((mirror) => fixedEndpoint(mirror, true)),
    await endpointOf(repository.registry, options.insecure),
  ];
}

/** The endpoint of a registry itself. */
export async function endpointOf(registry: string, insecurities: InsecureRegistries): Promise<Endpoint> {
  if (isDockerHub(registry)) return fixedEndpoint(DOCKER_HUB_REGISTRY, false);
  const url = URL.parse(`https://${registry}`);
  if (url === null || url.pathname !== '/' || url.username !== '' || url.search !== '' || url.hash !== '') {
    throw new LayerdError('invalid', `${registry} is not a registry's HOST or HOST:PORT`);
  }
  const insecure = (await insecurities.of(url)) !== 'secure';
  return {
    host: registry,
    mirror: false,
    insecure,
    base: `https://${registry}`,
    alternative: insecure ? `http://${registry}` : undefined,
  };
}

/** The endpoint at which a registry is searched. Docker Hub's mirrors have no search. */
export async function searchEndpointOf(registry: string, insecurities: InsecureRegistries): Promise<Endpoint> {
  return isDockerHub(registry) ? fixedEndpoint(DOCKER_HUB_INDEX, false) : endpointOf(registry, insecurities);
}

/** An endpoint whose scheme is given: whoever configures an http:// mirror wants it spoken to like that. */
function fixedEndpoint(text: string, mirror: boolean): Endpoint {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `https://${text}`);
  if (url === null || url.username !== '') {
    throw new LayerdError('invalid', 'a registry mirror is not a URL: write it as https://HOST:PORT');
  }
  return {
    host: url.host,
    mirror,
    insecure: url.protocol === 'http:',
    base: `${url.origin}${url.pathname.replace(/\/+$/, '')}`,
    alternative: undefined,
  };
}

/** A repository as users call it: `redis` for docker.io/library/redis. */
export function familiarName({ registry, path }: Repository): string {
  if (!isDockerHub(registry)) return `${registry}/${path}`;
  return /^library\/[^/]+$/.test(path) ? path.slice('library/'.length) : path;
}

/** A repository with a tag or digest, as users call it. */
export function familiarReference(repository: Repository, reference: string): string {
  return `${familiarName(repository)}${reference.includes(':') ? '@' : ':'}${reference}`;
}
