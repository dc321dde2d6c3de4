import { spawnSync } from 'node:child_process';
import { needs, Running, scratch } from './process.ts';

/** An address for examples (RFC 5737): no real network has it, and layerd treats it like any that is not loopback. */
export const ADDRESS = '192.0.2.1';
/** The name that the namespace's /etc/hosts has for the address. */
export const NAME = 'registry.test';

/** Leaves this machine's network and mounts. */
const UNSHARE = ['--net', '--mount', '--propagation', 'private', '--', 'sh', '-c'];
/**
 * Makes the network and the /etc of the namespace. The upper side of /etc is a tmpfs, because the folder may lie on an
 * overlay itself, which cannot be the upper side of another.
 */
const SETUP = `
  ip link set lo up && ip address add ${ADDRESS}/32 dev lo &&
  mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" &&
  mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" overlay /etc &&
  mkdir -p /etc/docker/certs.d && printf '127.0.0.1 localhost\\n${ADDRESS} ${NAME}\\n' >/etc/hosts`;

/**
 * A machine within this one: a network on which there is nothing but itself, and an /etc of its own over this machine's.
 * It shares all other files, so sockets in a test's folder lead into it. It ends with its last process.
 */
export class Namespace implements AsyncDisposable {
  readonly #holder: Running;
  readonly #resources: AsyncDisposableStack;

  private constructor(holder: Running, resources: AsyncDisposableStack) {
    this.#holder = holder;
    this.#resources = resources;
  }

  static async start(): Promise<Namespace> {
    await using cleanup = new AsyncDisposableStack();
    const { path } = cleanup.use(await scratch('namespace'));
    const script = `${SETUP} && echo ready && exec sleep infinity`;
    const holder = cleanup.use(new Running('unshare', [...UNSHARE, script, 'sh', path]));
    await holder.until('the namespace', ({ stdout }) => stdout.includes('ready'));
    return new Namespace(holder, cleanup.move());
  }

  /** The command line that runs a command line inside. */
  enter(command: string, args: readonly string[]): [command: string, args: string[]] {
    return ['nsenter', ['--target', String(this.#pid), '--net', '--mount', '--', command, ...args]];
  }

  /** Where a file of its /etc is for those outside. */
  etc(path: string): string {
    return `/proc/${this.#pid}/root/etc/${path}`;
  }

  get #pid(): number {
    return this.#holder.child.pid ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** What is missing for a namespace, as {@link needs} says it. */
export function needsNamespace(): string | false {
  const missing = needs('root', 'unshare', 'nsenter', 'ip');
  if (missing !== false) return missing;
  // A container's root may lack the capability, and a kernel the file system.
  const { status, stderr } = spawnSync('unshare', [...UNSHARE, SETUP, 'sh', '/mnt'], { encoding: 'utf8' });
  return status === 0 ? false : `needs namespaces for network and mounts: ${stderr.trim()}`;
}
