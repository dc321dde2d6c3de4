import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf, type Digest } from '../src/protocol/digest.ts';
import { Daemon, type DaemonOptions } from '../test/support/daemon.ts';
import type { Blob, TestImage } from '../test/support/images.ts';
import type { Proxy } from '../test/support/proxy.ts';
import type { Registry } from '../test/support/registry.ts';
import { assertStoreHolds, storeFiles, until } from '../test/support/stack.ts';
import type { TokenServer } from '../test/support/tokens.ts';
import { keptImage, subjectImages } from './images.ts';

/** A request that has not ended by then hangs, in milliseconds: longer than all pauses between attempts together. */
const DEADLINE_MS = 45_000;
const KIB = 1024;
/** What the daemon promises not to exceed, in bytes. */
const MEMORY_BOUND = 300 * 1000 * 1000;

export type BedOptions = Omit<DaemonOptions, 'args'>;

interface BedParts extends BedOptions {
  /** That of the images. */
  readonly registry: Registry;
  /** Gives the tokens that are asked for where the daemon pulls from. */
  readonly tokens: TokenServer | undefined;
  readonly proxy: Proxy;
}

/** One line of a stream of progress. */
interface Line {
  readonly error?: string;
  readonly aux?: { readonly findings?: readonly { readonly id: string; readonly reason: string }[] };
}

/** How a request ended that was under way while something failed. */
export interface Ending {
  /** Whether the daemon said that it was done. */
  readonly done: boolean;
  /** Why not. */
  readonly error?: string;
}

/** A daemon, and behind a proxy the registry that it pulls from; what it was promised to keep, and what rounds are about. */
export class Bed implements AsyncDisposable {
  readonly registry: Registry;
  readonly tokens: TokenServer | undefined;
  readonly proxy: Proxy;
  readonly kept: TestImage;
  readonly subjects: readonly TestImage[];
  readonly daemon: Daemon;
  /** What the daemon's environment has besides the usual. */
  readonly env: NonNullable<DaemonOptions['env']>;

  private constructor(
    { registry, tokens, proxy, env = {} }: BedParts,
    daemon: Daemon,
    kept: TestImage,
    subjects: readonly TestImage[],
  ) {
    this.env = env;
    this.registry = registry;
    this.tokens = tokens;
    this.proxy = proxy;
    this.daemon = daemon;
    this.kept = kept;
    this.subjects = subjects;
  }

  static async start(parts: BedParts): Promise<Bed> {
    const { registry: _, tokens: __, proxy: ___, ...options } = parts;
    const [kept, subjects] = [await keptImage(), await subjectImages()];
    const daemon = await Daemon.prepare(options);
    const bed = new Bed(parts, daemon, kept, subjects);
    try {
      await daemon.start();
      await bed.mustPull('kept:1');
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return bed;
  }

  get dataRoot(): string {
    return this.daemon.dataRoot;
  }

  /** The reference of `repository:tag` as the daemon has to ask for it. */
  ref(name: string): string {
    return `${this.proxy.host}/${name}`;
  }

  /** Whether the process is there. */
  get isAlive(): boolean {
    const { child } = this.daemon.process;
    return child.exitCode === null && child.signalCode === null;
  }

  /** Starts it if it is not running. */
  async revive(): Promise<void> {
    if (this.isAlive) return;
    await this.daemon.process.exited;
    await this.daemon.start(5);
  }

  /** A request under way while something fails; never rejects but for one that hangs. */
  async attempt(path: string, options: { method?: string; body?: Buffer; leave?: AbortSignal } = {}): Promise<Ending> {
    const { leave, ...rest } = options;
    const deadline = AbortSignal.timeout(DEADLINE_MS);
    const signal = leave === undefined ? deadline : AbortSignal.any([deadline, leave]);
    try {
      const response = await this.daemon.request(path, { method: 'POST', ...rest, signal });
      const said = `${response.status}: ${response.body.slice(-400)}`;
      const failed = response.status >= 300 || /"errorDetail"|"error":/.test(response.body);
      return failed ? { done: false, error: said } : { done: true };
    } catch (error) {
      if (deadline.aborted) throw new Error(`${path} hangs: no end after ${DEADLINE_MS} ms`, { cause: error });
      return { done: false, error: String(error) };
    }
  }

  pull(name: string, leave?: AbortSignal): Promise<Ending> {
    const [repository = '', tag = ''] = name.split(':');
    const path = `/images/create?fromImage=${encodeURIComponent(this.ref(repository))}&tag=${tag}`;
    return this.attempt(path, leave === undefined ? {} : { leave });
  }

  async mustPull(name: string): Promise<void> {
    const { done, error } = await this.pull(name);
    assert.ok(done, `a pull of ${name} without any fault failed: ${error ?? ''}`);
  }

  remove(name: string): Promise<Ending> {
    return this.attempt(`/images/${encodeURIComponent(name)}?force=1`, { method: 'DELETE' });
  }

  /** The image's ID, undefined where there is none of that name. */
  async idOf(name: string): Promise<string | undefined> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    const response = await this.daemon.request(`/images/${encodeURIComponent(name)}/json`, { signal });
    if (response.status === 404) return undefined;
    assert.equal(response.status, 200, `${name} cannot be looked at: ${response.body}`);
    return response.json<{ Id: string }>().Id;
  }

  /** Has the whole store proved; returns what is wrong with it. */
  async findings(repair = false): Promise<string[]> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    const found: string[] = [];
    let reported = false;
    for await (const { error, aux } of this.daemon.lines<Line>(`/layerd/verify?repair=${repair ? 1 : 0}`, {
      method: 'POST',
      signal,
    })) {
      assert.equal(error, undefined, `the store cannot be verified: ${error ?? ''}`);
      reported ||= aux?.findings !== undefined;
      found.push(...(aux?.findings ?? []).map(({ id, reason }) => `${id}: ${reason}`));
    }
    assert.ok(reported, 'the verification ended without a report');
    return found;
  }

  /** What is missing of the subject here, in bytes of blobs, which is all that a pull may fetch. */
  async missing(subject: TestImage): Promise<number> {
    const { blobs } = await storeFiles(this.dataRoot);
    let bytes = 0;
    for (const { digest, bytes: content } of blobsOf(subject)) {
      if (blobs.includes(digest)) continue;
      const gathered = await stat(join(this.dataRoot, 'ingest', hexOf(digest))).then(
        ({ size }) => size,
        () => 0,
      );
      bytes += content.length - Math.min(gathered, content.length);
    }
    return bytes;
  }

  /** Bytes of the subject's blobs that the registry has been asked for since the proxy was reset. */
  fetched(subject: TestImage): number {
    return blobsOf(subject)
      .flatMap(({ digest }) => this.proxy.blobRequests(digest))
      .reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * Holds the store to its promises after a fault: what was promised is whole, nothing is visible that is not, nothing is on
   * the disk that nobody needs.
   */
  async holds(subject: TestImage, others: readonly TestImage[] = []): Promise<void> {
    const allowed = [this.kept, subject, ...others];
    const documents = allowed.flatMap(below);
    const known = new Set<Digest>(
      documents.flatMap((each) => [each.digest, ...each.blobs.map(({ digest }) => digest)]),
    );
    const layers = new Set<Digest>(documents.flatMap((each) => each.layers.map(({ diffId }) => diffId)));
    let odd: string[] = [];
    await until('the store to be in order', async () => {
      odd = await oddFiles(this.dataRoot, known, layers);
      return odd.length === 0;
    }).catch((error: unknown) => {
      throw new Error(`on the disk, and of no use: ${odd.join(', ')}`, { cause: error });
    });
    let findings = await this.findings();
    if (findings.length > 0) {
      // After a start, what has to be made again may be on its way.
      await until('the start to have brought the store in order', this.#isReconciled);
      findings = await this.findings();
    }
    assert.deepEqual(findings, [], 'the store is sound');
    assert.equal(await this.idOf(this.ref('kept:1')), this.kept.id, 'the image that was promised is there');
  }

  /**
   * Brings the subject in, which must work now and fetch no more than was missing, then takes it away, which must leave
   * nothing. Returns the bytes of its blobs that came a second time, since the proxy was reset.
   */
  async settle(name: string, subject: TestImage, also: readonly string[] = []): Promise<number> {
    const before = this.fetched(subject);
    const missing = await this.missing(subject);
    await this.mustPull(name);
    const fetched = this.fetched(subject);
    assert.ok(fetched - before <= missing, `${fetched - before} bytes were fetched where ${missing} were missing`);
    assert.equal(await this.idOf(this.ref(name)), subject.id);
    for (const each of also) await this.remove(this.ref(each));
    await assertStoreHolds(this.dataRoot, this.kept, subject);
    const { done, error } = await this.remove(this.ref(name));
    assert.ok(done, `${name} cannot be removed: ${error ?? ''}`);
    await assertStoreHolds(this.dataRoot, this.kept);
    const size = blobsOf(subject).reduce((sum, { bytes }) => sum + bytes.length, 0);
    return Math.max(0, fetched - size);
  }

  /** The most resident memory that the running daemon has had, in bytes. Throws when that is too much. */
  async peak(): Promise<number> {
    if (!this.isAlive) return 0;
    const { pid } = this.daemon.process.child;
    const status = await readFile(`/proc/${pid ?? 0}/status`, 'utf8').catch(() => '');
    const peak = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * KIB;
    assert.ok(peak <= MEMORY_BOUND, `the daemon has had ${peak} bytes of memory`);
    return peak;
  }

  readonly #isReconciled = async (): Promise<boolean> => {
    const { status } = await this.daemon.request('/readyz/reconciliation', {
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    return status === 200;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon.stop();
  }
}

/** The image and all below it. */
function below(image: TestImage): TestImage[] {
  return [image, ...image.children.flatMap(below)];
}

/** Configs and layers, each once. */
export function blobsOf(image: TestImage): Blob[] {
  const all = below(image).flatMap(({ blobs }) => blobs);
  return [...new Map(all.map((blob) => [blob.digest, blob])).values()];
}

/** Files in the data root that none of those digests accounts for. */
async function oddFiles(dataRoot: string, known: ReadonlySet<Digest>, layers: ReadonlySet<Digest>): Promise<string[]> {
  const held = await storeFiles(dataRoot);
  const list = async (folder: string): Promise<string[]> => {
    const names = await readdir(join(dataRoot, folder));
    return names.map((name) => `${folder}/${name}`);
  };
  return [
    ...held.blobs.filter((digest) => !known.has(digest as Digest)).map((digest) => `blob ${digest}`),
    ...held.layers.filter((digest) => !layers.has(digest as Digest)).map((digest) => `layer ${digest}`),
    ...held.ingests.filter((hex) => !known.has(`sha256:${hex}`)).map((hex) => `ingest/${hex}`),
    ...(await list('staging')),
    ...(await list('trash')),
    ...(await list('layers/trash')),
    ...(await list('layers/unpacking')),
  ];
}
