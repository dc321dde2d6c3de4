import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { AddressClass } from '../../../src/daemon/registry/address.ts';
import { classifyAddress } from '../../../src/daemon/registry/address.ts';
import {
  createRegistries,
  type ReconfigurableRegistries,
  type RegistryEnvironment,
} from '../../../src/daemon/registry/client.ts';
import type { RegistryOptions, RemoteBlob, Repository } from '../../../src/daemon/registry/registry.ts';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The registry side under test, with what it logged and how long it would have waited. */
export interface Client extends AsyncDisposable {
  readonly registries: ReconfigurableRegistries;
  readonly log: LogLine[];
  /** Milliseconds of each pause between retries; none of them is really waited for. */
  readonly waits: number[];
  readonly options: RegistryOptions;
}

export const OPTIONS: RegistryOptions = {
  insecureRegistries: [],
  mirrors: [],
  certsDirs: [],
  maxAttempts: 3,
  proxies: {},
  userAgent: 'layerd/test',
};

export function startClient(
  options: Partial<RegistryOptions> = {},
  environment: Partial<RegistryEnvironment> = {},
): Client {
  const log: LogLine[] = [];
  const waits: number[] = [];
  const logTo =
    (level: LogLine['level']) =>
    (message: string, fields: object = {}): void => {
      log.push({ level, message, fields: { ...fields } });
    };
  const all = { ...OPTIONS, ...options };
  const registries = createRegistries(all, {
    logger: { debug: logTo('debug'), info: logTo('info'), warn: logTo('warn') },
    random: () => 0.5,
    sleep: (milliseconds, signal) => {
      waits.push(milliseconds);
      signal?.throwIfAborted();
      return Promise.resolve();
    },
    ...environment,
  });
  return { registries, log, waits, options: all, [Symbol.asyncDispose]: () => registries.close() };
}

/** Takes 127.0.0.1 for a host on the Internet; 127.0.0.2 and all others stay what they are. */
export const internetAt127001 = (address: string): AddressClass =>
  address === '127.0.0.1' ? 'public' : classifyAddress(address);

/** A server that answers what a test says, and remembers what it was asked. */
export interface Server extends AsyncDisposable {
  readonly host: string;
  readonly url: string;
  readonly requests: { method: string; url: string; headers: IncomingMessage['headers'] }[];
}

/** Serves on a free port of a loopback address. */
export async function serve(answer: RequestListener, address = '127.0.0.1'): Promise<Server> {
  const requests: Server['requests'] = [];
  const server = createServer((request, response) => {
    requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    answer(request, response);
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, address, resolve));
  const host = `${address}:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `http://${host}`,
    requests,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

export const repositoryAt = (registry: string, path = 'team/app'): Repository => ({ registry, path });

export async function bytesOf(blob: Pick<RemoteBlob, 'body'>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
