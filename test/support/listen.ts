import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Has the server listen on a free loopback port. Closing it also cuts the connections that are open. */
export async function listen(server: Server): Promise<{ host: string; close: () => Promise<void> }> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
