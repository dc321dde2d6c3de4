import { LayerdClient } from '../../src/client/index.ts';
import { timed } from '../measure.ts';
import type { Peer } from './peer.ts';

/** What an engine that answers the Engine API has in common, whoever wrote it: the same requests, timed here. */
export abstract class EnginePeer implements Peer {
  abstract readonly name: string;
  abstract readonly version: string;
  readonly client: LayerdClient;

  constructor(socket: string) {
    this.client = new LayerdClient({ host: `unix://${socket}`, apiVersion: '1.41' });
  }

  async pull(ref: string): Promise<number> {
    return timed(async () => {
      let last = '';
      for await (const { status } of this.client.pull(ref)) last = status ?? last;
      if (!last.startsWith('Status: Downloaded')) throw new Error(`${this.name} did not pull ${ref}: ${last}`);
    });
  }

  async remove(ref: string): Promise<number> {
    return timed(() => this.client.remove(ref));
  }

  async empty(): Promise<void> {
    for (const { Id } of await this.client.images({ all: true })) await this.client.remove(Id, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
  }
}
