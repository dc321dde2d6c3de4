import { setTimeout as sleep } from 'node:timers/promises';
import { startDaemon, type Daemon } from '../../test/support/daemon.ts';
import { storeFiles } from '../../test/support/stack.ts';
import { EnginePeer } from './engine.ts';

/** The daemon of this checkout. */
export class Layerd extends EnginePeer {
  readonly name = 'layerd';
  readonly version: string;
  readonly daemon: Daemon;

  private constructor(daemon: Daemon, version: string) {
    super(daemon.socket);
    this.daemon = daemon;
    this.version = version;
  }

  static async start(dataRoot?: string): Promise<Layerd> {
    const daemon = await startDaemon({
      args: ['--log-level', 'warn'],
      ...(dataRoot === undefined ? {} : { dataRoot }),
    });
    const { Version } = (await daemon.request('/version')).json<{ Version: string }>();
    return new Layerd(daemon, Version);
  }

  get pid(): number {
    return this.daemon.process.child.pid ?? 0;
  }

  override async empty(): Promise<void> {
    await super.empty();
    await this.untilFreed();
  }

  /** Waits until nothing of a removed image is on the disk any more. */
  async untilFreed(): Promise<void> {
    for (;;) {
      const { blobs, layers, trash } = await storeFiles(this.daemon.dataRoot);
      if (blobs.length + layers.length + trash.length === 0) return;
      await sleep(1);
    }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.daemon.kill('SIGTERM');
    await this.daemon.stop();
  }
}
