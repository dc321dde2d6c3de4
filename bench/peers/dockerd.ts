import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { find, Running, scratch } from '../../test/support/process.ts';
import { EnginePeer } from './engine.ts';
import { MissingPeer } from './peer.ts';

/** How long dockerd may take to answer: it starts a containerd of its own. */
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

/** Debian's dockerd with its default storage driver, on a data root of its own. */
export class Dockerd extends EnginePeer {
  readonly name = 'dockerd';
  #version = '';
  readonly #resources: AsyncDisposableStack;

  private constructor(socket: string, resources: AsyncDisposableStack) {
    super(socket);
    this.#resources = resources;
  }

  get version(): string {
    return this.#version;
  }

  static async start(): Promise<Dockerd> {
    const command = process.env['LAYERD_BENCH_DOCKERD'] ?? find('dockerd');
    if (command === undefined || !existsSync(command)) {
      throw new MissingPeer('not installed: apt-get install docker.io, or set LAYERD_BENCH_DOCKERD to a dockerd');
    }
    if (process.getuid?.() !== 0) throw new MissingPeer('needs root');
    await using cleanup = new AsyncDisposableStack();
    const { path } = cleanup.use(await scratch('dockerd'));
    const socket = join(path, 'docker.sock');
    // containerd and the shim are looked up beside a dockerd that was unpacked somewhere.
    const folders = [dirname(command), join(dirname(command), '../bin'), process.env['PATH'] ?? ''];
    const places = [
      '--data-root',
      join(path, 'data'),
      '--exec-root',
      join(path, 'exec'),
      '--pidfile',
      join(path, 'pid'),
    ];
    const network = ['--bridge=none', '--iptables=false'];
    const running = cleanup.use(
      new Running(command, ['-H', `unix://${socket}`, ...places, ...network], {
        env: { PATH: folders.join(delimiter) },
      }),
    );
    // A SIGTERM lets it end its containerd too.
    cleanup.defer(async () => {
      await running.kill('SIGTERM');
    });
    const dockerd = new Dockerd(socket, cleanup.move());
    try {
      for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline;) {
        try {
          const { ServerVersion, Driver } = await dockerd.client.info();
          dockerd.#version = `${ServerVersion ?? '?'} ${Driver ?? '?'}`;
          return dockerd;
        } catch {
          // It does not listen yet, or never will.
          if (running.child.exitCode !== null) break;
          await sleep(POLL_MS);
        }
      }
      throw new MissingPeer(`does not start: ${running.stderr.slice(-500)}`);
    } catch (error) {
      await dockerd[Symbol.asyncDispose]();
      throw error;
    }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.#resources.disposeAsync();
  }
}
