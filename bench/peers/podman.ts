import { join } from 'node:path';
import { has, must, scratch } from '../../test/support/process.ts';
import { timed } from '../measure.ts';
import { MissingPeer, type Peer } from './peer.ts';

/** Debian's podman, which pulls without a daemon: each pull starts a process. */
export class Podman implements Peer {
  readonly name = 'podman';
  readonly version: string;
  readonly #storage: readonly string[];
  readonly #resources: AsyncDisposableStack;

  private constructor(version: string, storage: readonly string[], resources: AsyncDisposableStack) {
    this.version = version;
    this.#storage = storage;
    this.#resources = resources;
  }

  static async start(): Promise<Podman> {
    if (!has('podman')) throw new MissingPeer('not installed: apt-get install podman');
    if (process.getuid?.() !== 0) throw new MissingPeer('needs root');
    await using cleanup = new AsyncDisposableStack();
    const { path } = cleanup.use(await scratch('podman'));
    const storage = ['--root', join(path, 'root'), '--runroot', join(path, 'run')];
    const format = '{{.Version.Version}} {{.Store.GraphDriverName}}';
    const version = await must('podman', [...storage, 'info', '--format', format]);
    const podman = new Podman(version.trim(), storage, cleanup.move());
    podman.#resources.defer(() => podman.empty());
    return podman;
  }

  async empty(): Promise<void> {
    await must('podman', [...this.#storage, 'rmi', '--all', '--force']);
  }

  async pull(ref: string): Promise<number> {
    return timed(() => must('podman', [...this.#storage, 'pull', '--quiet', '--tls-verify=false', ref]));
  }

  async remove(ref: string): Promise<number> {
    return timed(() => must('podman', [...this.#storage, 'rmi', ref]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
