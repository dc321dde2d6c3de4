import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../test/support/daemon.ts';
import { must, run } from '../../test/support/process.ts';
import { MissingPeer, type Peer } from './peer.ts';

/** containerd with its EROFS snapshotter, driven by the script that sets it up. */
export class Containerd implements Peer {
  readonly name = 'containerd';
  readonly version: string;
  readonly #script: string;
  /** Whether it ran before; then it is left running. */
  readonly #ranBefore: boolean;

  private constructor(script: string, version: string, ranBefore: boolean) {
    this.#script = script;
    this.version = version;
    this.#ranBefore = ranBefore;
  }

  static async start(): Promise<Containerd> {
    const script = process.env['LAYERD_BENCH_CONTAINERD'] ?? join(ROOT, '../shared/peers/containerd-erofs');
    if (!existsSync(script)) throw new MissingPeer('no script: set LAYERD_BENCH_CONTAINERD to peers/containerd-erofs');
    if (process.getuid?.() !== 0) throw new MissingPeer('needs root');
    const dir = process.env['PEER_DIR'] ?? join(homedir(), '.cache/layerd-peers');
    if (!existsSync(join(dir, 'root/usr/bin/containerd'))) throw new MissingPeer(`not set up: run ${script} setup`);
    const pid = (await readFile(join(dir, 'containerd.pid'), 'utf8').catch(() => '')).trim();
    const ranBefore = pid !== '' && existsSync(`/proc/${pid}`);
    if (!ranBefore) {
      // The script leaves containerd in the background with its output in a file; only its own exit is waited for.
      const started = await run('sh', ['-c', '"$1" start </dev/null >/dev/null 2>&1', 'sh', script]);
      if (started.code !== 0) throw new MissingPeer(`does not start: see ${join(dir, 'containerd.log')}`);
    }
    const version = await must('chroot', [join(dir, 'root'), 'containerd', '--version']);
    return new Containerd(script, `${/ v?(\d[\w.~+-]*)/.exec(version)?.[1] ?? version.trim()} erofs`, ranBefore);
  }

  /** Nothing to do: the script empties the store before each pull, outside of the time it tells. */
  async empty(): Promise<void> {
    await Promise.resolve();
  }

  async pull(ref: string): Promise<number> {
    return Number(await must(this.#script, ['pull', ref, 'erofs']));
  }

  remove(ref: string): Promise<number> {
    return Promise.reject(new Error(`${this.name} is not measured removing ${ref}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ranBefore) await run(this.#script, ['stop']);
  }
}
