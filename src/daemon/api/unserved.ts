import { LayerdError } from '../../protocol/errors.ts';

/**
 * The operations of the Engine API that layerd does not have, by area: a method and a path per line, in which `*` is one
 * path element and `**` an image or plugin name. They are told apart from paths that never existed, so that a client
 * learns which of the two it met.
 */
const UNSERVED: Readonly<Record<string, string>> = {
  containers: `
    GET /containers/json
    POST /containers/create
    POST /containers/prune
    GET /containers/*/json
    GET /containers/*/top
    GET /containers/*/logs
    GET /containers/*/changes
    GET /containers/*/export
    GET /containers/*/stats
    POST /containers/*/resize
    POST /containers/*/start
    POST /containers/*/stop
    POST /containers/*/restart
    POST /containers/*/kill
    POST /containers/*/update
    POST /containers/*/rename
    POST /containers/*/pause
    POST /containers/*/unpause
    POST /containers/*/attach
    GET /containers/*/attach/ws
    POST /containers/*/wait
    POST /containers/*/exec
    POST /containers/*/copy
    DELETE /containers/*
    HEAD /containers/*/archive
    GET /containers/*/archive
    PUT /containers/*/archive
    GET /containers/*/checkpoints
    POST /containers/*/checkpoints
    DELETE /containers/*/checkpoints/*
    POST /exec/*/start
    POST /exec/*/resize
    GET /exec/*/json`,
  'committing a container to an image': `
    POST /commit`,
  builds: `
    POST /build
    POST /build/prune
    POST /build/cancel
    POST /session
    POST /grpc`,
  volumes: `
    GET /volumes
    POST /volumes/create
    POST /volumes/prune
    GET /volumes/*
    PUT /volumes/*
    DELETE /volumes/*`,
  networks: `
    GET /networks
    POST /networks/create
    POST /networks/prune
    GET /networks/*
    DELETE /networks/*
    POST /networks/*/connect
    POST /networks/*/disconnect`,
  plugins: `
    GET /plugins
    GET /plugins/privileges
    POST /plugins/pull
    POST /plugins/create
    GET /plugins/**/json
    DELETE /plugins/**
    POST /plugins/**/enable
    POST /plugins/**/disable
    POST /plugins/**/upgrade
    POST /plugins/**/push
    POST /plugins/**/set`,
  'swarm mode': `
    GET /swarm
    POST /swarm/init
    POST /swarm/join
    POST /swarm/leave
    POST /swarm/update
    GET /swarm/unlockkey
    POST /swarm/unlock
    GET /nodes
    GET /nodes/*
    DELETE /nodes/*
    POST /nodes/*/update
    GET /services
    POST /services/create
    GET /services/*
    DELETE /services/*
    POST /services/*/update
    GET /services/*/logs
    GET /tasks
    GET /tasks/*
    GET /tasks/*/logs
    GET /secrets
    POST /secrets/create
    GET /secrets/*
    DELETE /secrets/*
    POST /secrets/*/update
    GET /configs
    POST /configs/create
    GET /configs/*
    DELETE /configs/*
    POST /configs/*/update`,
};

/** An operation that is known and not served. */
export interface UnservedOperation {
  readonly area: string;
  readonly method: string;
  /** As in the table. */
  readonly path: string;
}

const OPERATIONS: readonly (UnservedOperation & { readonly pattern: RegExp })[] = Object.entries(UNSERVED).flatMap(
  ([area, lines]) =>
    lines
      .trim()
      .split('\n')
      .map((line) => {
        const [method = '', path = ''] = line.trim().split(' ');
        const pattern = path.replace(/\*\*?/g, (star) => (star === '**' ? '.+' : '[^/]+'));
        return { area, method, path, pattern: new RegExp(`^${pattern}$`) };
      }),
);

export const unservedOperations: readonly UnservedOperation[] = OPERATIONS;

/** The error that answers a path that no route took: a known operation is not implemented, any other not found. */
export function unservedError(method: string, path: string): LayerdError {
  const known = OPERATIONS.find((operation) => operation.method === method && operation.pattern.test(path));
  if (known === undefined) return new LayerdError('not-found', 'page not found');
  // By the words "not supported" `docker inspect` knows that it may go on with the next kind of object.
  return new LayerdError(
    'not-implemented',
    `layerd is an image daemon and does not serve ${known.area} (${method} ${path}); it pulls, pushes, tags, loads, imports, saves, lists, inspects, removes, prunes and searches images, and logs in to registries, other operations are not supported`,
  );
}
