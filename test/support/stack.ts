import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hexOf } from '../../src/protocol/digest.ts';
import type { Daemon, DaemonOptions } from './daemon.ts';
import { startDaemon } from './daemon.ts';
import { push, type Blob, type PushOptions, type TestImage } from './images.ts';
import type { Outcome } from './process.ts';
import { startProxy, type Proxy } from './proxy.ts';
import { startRegistry, type Registry, type RegistryOptions } from './registry.ts';

/** How long something may take that a test waits for, and how often it is looked for. */
const TIMEOUT_MS = 20_000;
const POLL_MS = 10;

/** A registry, the proxy in front of it and a daemon that pulls through it. */
export interface Stack extends AsyncDisposable {
  readonly registry: Registry;
  readonly proxy: Proxy;
  readonly daemon: Daemon;
  /** The reference of a repository's tag or digest as the daemon has to ask for it. */
  ref(name: string): string;
  /** Pushes an image to `repository:tag`. */
  push(name: string, image: TestImage, options?: PushOptions): Promise<TestImage>;
  stop(): Promise<void>;
}

export interface StackOptions extends Omit<DaemonOptions, 'args'> {
  readonly registry?: RegistryOptions;
  /** More flags of the daemon; a function is given the proxy, whose address they may name. */
  readonly args?: readonly string[] | ((proxy: Proxy) => readonly string[]);
}

export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const { registry: registryOptions, args, ...daemonOptions } = options;
  await using cleanup = new AsyncDisposableStack();
  const registry = cleanup.use(await startRegistry(registryOptions));
  const proxy = cleanup.use(await startProxy(registry));
  const flags = typeof args === 'function' ? args(proxy) : (args ?? []);
  const daemon = cleanup.use(await startDaemon({ ...daemonOptions, args: flags }));
  const resources = cleanup.move();
  const stop = (): Promise<void> => resources.disposeAsync();
  return {
    registry,
    proxy,
    daemon,
    ref: (name) => `${proxy.host}/${name}`,
    push(name, image, pushOptions) {
      const [repository = '', tag = 'latest'] = name.split(':');
      return push(registry.host, repository, tag, image, pushOptions);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** The standard output of a command that had to succeed. */
export function succeeded(outcome: Outcome): string {
  assert.equal(outcome.code, 0, `exit code ${outcome.code}: ${outcome.stderr}${outcome.stdout}`);
  return outcome.stdout;
}

/** What a command that had to fail with the exit code wrote, both streams. */
export function failed(outcome: Outcome, code = 1): string {
  assert.equal(outcome.code, code, `exit code ${outcome.code}: ${outcome.stderr}${outcome.stdout}`);
  return outcome.stderr + outcome.stdout;
}

/** The lines of a text, without the last line's end. */
export function linesOf(text: string): string[] {
  return text.trimEnd().split('\n');
}

/** What a data root holds: digests of blobs, diff IDs of layers, and names of whatever is unfinished. */
export interface StoreFiles {
  readonly blobs: string[];
  readonly layers: string[];
  readonly ingests: string[];
  /** What is removed already and about to be freed. */
  readonly trash: string[];
}

export async function storeFiles(dataRoot: string): Promise<StoreFiles> {
  const list = async (folder: string): Promise<string[]> => {
    try {
      return (await readdir(join(dataRoot, folder))).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  };
  return {
    blobs: (await list('blobs/sha256')).map((hex) => `sha256:${hex}`),
    layers: (await list('layers/sha256')).map((name) => `sha256:${name.replace(/\.erofs$/, '')}`),
    ingests: await list('ingest'),
    trash: await list('trash'),
  };
}

/** Asserts that the store holds what these images need and nothing else. */
export async function assertStoreHolds(dataRoot: string, ...images: readonly TestImage[]): Promise<void> {
  const below = (image: TestImage): TestImage[] => [image, ...image.children.flatMap(below)];
  const all = images.flatMap(below);
  const sorted = (digests: readonly string[]): string[] => [...new Set(digests)].sort();
  const { trash: _, ...held } = await storeFiles(dataRoot);
  assert.deepEqual(held, {
    blobs: sorted(all.flatMap((image) => [image.digest, ...image.blobs.map(({ digest }) => digest)])),
    layers: sorted(all.flatMap((image) => image.layers.map(({ diffId }) => diffId))),
    ingests: [],
  });
}

/**
 * Begins a pull over the API and waits until bytes of the blob have reached the disk. The result ends it as a client does
 * that goes away.
 */
export async function beginPull(stack: Stack, name: string, blob: Blob): Promise<() => void> {
  const [repository = '', tag = ''] = name.split(':');
  const path = `/images/create?fromImage=${encodeURIComponent(stack.ref(repository))}&tag=${tag}`;
  const response = await stack.daemon.open(path, { method: 'POST' });
  // A daemon that is killed ends it in the middle.
  response.on('error', () => undefined).resume();
  await untilArriving(stack.daemon, blob);
  return () => {
    response.destroy();
  };
}

/** Waits until bytes of the blob have reached the disk. */
export async function untilArriving({ dataRoot }: Daemon, { digest }: Blob): Promise<void> {
  const ingest = join(dataRoot, 'ingest', hexOf(digest));
  await until(`bytes of ${digest} to arrive`, () =>
    stat(ingest).then(
      ({ size }) => size > 0,
      () => false,
    ),
  );
}

/** Waits until it is so. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, `waited in vain for ${what}`);
    await sleep(POLL_MS);
  }
}
