import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { ADDRESS, type Namespace } from './namespace.ts';
import { Running } from './process.ts';

/** A proxy as companies have them between their machines and the Internet. */
export interface ForwardProxy extends AsyncDisposable {
  readonly url: string;
  /** What it was asked, such as `CONNECT registry.test:443`. */
  readonly seen: string[];
  /** Ends it. */
  stop(): Promise<void>;
}

/** Starts one in a namespace. It tunnels to the namespace's registries, also under names that only it resolves. */
export async function startForwardProxy(namespace: Namespace): Promise<ForwardProxy> {
  const running = new Running(...namespace.enter(process.execPath, [fileURLToPath(import.meta.url)]));
  const listening = /^listening on (\S+)\n/;
  await running.until('the proxy', ({ stdout }) => listening.test(stdout));
  const stop = (): Promise<void> => running[Symbol.asyncDispose]();
  return {
    url: `http://${listening.exec(running.stdout)?.[1] ?? ''}`,
    get seen() {
      return running.stdout.split('\n').slice(1, -1);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** What runs in the namespace. */
function serve(): void {
  const server = createServer((request, response) => {
    console.log(`${request.method ?? ''} ${request.url ?? ''}`);
    response.writeHead(501).end();
  });
  server.on('connect', ({ url = '' }: IncomingMessage, client) => {
    console.log(`CONNECT ${url}`);
    const upstream = connect(Number(url.split(':')[1]), ADDRESS, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  server.listen(0, ADDRESS, () => console.log(`listening on ${ADDRESS}:${(server.address() as AddressInfo).port}`));
}

if (import.meta.main) serve();
