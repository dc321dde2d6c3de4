// Runs a daemon under mixed load for a while, and compares what it holds of the host before and after: `npm run soak`.
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Random } from '../faults/random.ts';
import { LayerdClient } from '../src/client/index.ts';
import type { Daemon } from '../test/support/daemon.ts';
import { bulk, image } from '../test/support/images.ts';
import { startStack, type Stack } from '../test/support/stack.ts';

const USAGE = `Usage: npm run soak -- [--minutes N] [--seed N]

Pulls, removals, lists, verifications, collections of garbage, and subscribers that come and go, at once, for N minutes (default:
20). Then everything is removed, and memory, file descriptors, threads, mounts, loop devices and the data root are compared
with what they were after a first minute of the same. Exits with 1 if any of them has grown, or anything failed.`;

const IMAGES = 12;
const LAYER_BYTES = 400_000;
const WORKERS = 6;
/** Milliseconds until a daemon that has nothing to do has let go of what it can: idle threads, connections, garbage. */
const SETTLE = 20_000;
const WARM_UP = 60_000;
/** What memory may differ by without being a leak: the garbage collector's own swing, in MiB. */
const MEMORY_SWING = 48;
const MIB = 1024 * 1024;

/** What the daemon holds. */
interface Holdings {
  readonly memoryMiB: number;
  readonly descriptors: number;
  readonly threads: number;
  readonly mounts: number;
  readonly loops: number;
  /** Files of the data root but the metadata's own. */
  readonly files: number;
}

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

async function holdingsOf({ process: { child }, dataRoot }: Daemon): Promise<Holdings> {
  const proc = `/proc/${child.pid ?? 0}`;
  const status = await readFile(`${proc}/status`, 'utf8');
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? NaN);
  const loops = await readdir('/sys/block');
  const backed = await Promise.all(
    loops
      .filter((name) => name.startsWith('loop'))
      .map((name) => readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '')),
  );
  const files = await readdir(dataRoot, { recursive: true });
  return {
    memoryMiB: Math.round((number('VmRSS') * 1024) / MIB),
    descriptors: (await readdir(`${proc}/fd`)).length,
    threads: number('Threads'),
    mounts: (await readFile(`${proc}/mountinfo`, 'utf8')).split('\n').filter((line) => line.includes(dataRoot)).length,
    loops: backed.filter((file) => file.includes(dataRoot)).length,
    files: files.filter((name) => !name.startsWith('metadata.db')).length,
  };
}

class Load {
  readonly counts = new Map<string, number>();
  readonly failures: string[] = [];
  readonly #stack: Stack;
  readonly #names: readonly string[];
  readonly #random: Random;

  constructor(stack: Stack, names: readonly string[], random: Random) {
    this.#stack = stack;
    this.#names = names;
    this.#random = random;
  }

  /** Does all of it for so many milliseconds. */
  async run(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds;
    await Promise.all(
      Array.from({ length: WORKERS }, async () => {
        const client = new LayerdClient({ host: `unix://${this.#stack.daemon.socket}` });
        while (Date.now() < until) await this.#once(client);
        client.close();
      }),
    );
  }

  /** Removes all images, and all that interrupted pulls have left. */
  async clean(): Promise<void> {
    const client = new LayerdClient({ host: `unix://${this.#stack.daemon.socket}` });
    for (const name of this.#names) await client.remove(name, { force: true }).catch(() => undefined);
    await client.prune({ filters: { dangling: ['false'] } });
    client.close();
  }

  async #once(client: LayerdClient): Promise<void> {
    const name = this.#random.pick(this.#names);
    const dice = this.#random.next();
    const [what, work] =
      dice < 0.35
        ? (['pull', () => drain(client.pull(name))] as const)
        : dice < 0.45
          ? (['pull given up', () => this.#givenUp(client, name)] as const)
          : dice < 0.65
            ? (['remove', () => client.remove(name, { force: true })] as const)
            : dice < 0.8
              ? (['list', () => client.images({ all: true })] as const)
              : dice < 0.95
                ? (['subscriber', () => this.#subscribe(client)] as const)
                : dice < 0.98
                  ? (['prune', () => client.prune()] as const)
                  : (['verify', () => drain(client.verify())] as const);
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
    try {
      await work();
    } catch (error) {
      const { message } = error as Error;
      // Others work on the same images: what one looks for another has removed, and one prune or verification runs at a time.
      if (!/no such image|already running|was cancelled|given up/i.test(message))
        this.failures.push(`${what}: ${message}`);
    }
  }

  async #givenUp(client: LayerdClient, name: string): Promise<void> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(new Error('given up')), this.#random.next() * 30);
    try {
      await drain(client.pull(name, { signal: stop.signal }));
    } finally {
      clearTimeout(timer);
    }
  }

  async #subscribe(client: LayerdClient): Promise<void> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(new Error('given up')), this.#random.next() * 500);
    try {
      await drain(client.events({ cursor: 0, signal: stop.signal }));
    } finally {
      clearTimeout(timer);
    }
  }
}

async function drain(messages: AsyncIterable<unknown>): Promise<void> {
  const all = messages[Symbol.asyncIterator]();
  while ((await all.next()).done !== true);
}

async function soak(minutes: number, seed: string): Promise<boolean> {
  await using stack = await startStack();
  const shared = await bulk('shared', LAYER_BYTES);
  const names: string[] = [];
  for (let index = 0; index < IMAGES; index += 1) {
    const layers = [shared, await bulk(`half ${index % 3}`, LAYER_BYTES), await bulk(`own ${index}`, LAYER_BYTES / 4)];
    await stack.push(`soak/image${index}:1`, image({ layers }));
    names.push(stack.ref(`soak/image${index}:1`));
  }
  const load = new Load(stack, names, new Random(seed));
  const settled = async (): Promise<Holdings> => {
    await load.clean();
    await sleep(SETTLE);
    return holdingsOf(stack.daemon);
  };
  await load.run(WARM_UP);
  const before = await settled();
  console.log(`after a minute: ${JSON.stringify(before)}`);
  for (let minute = 0; minute < minutes; minute += 1) {
    await load.run(60_000);
    console.log(`${minute + 1} of ${minutes} minutes: ${JSON.stringify(Object.fromEntries(load.counts))}`);
  }
  const after = await settled();
  console.log(`at the end:     ${JSON.stringify(after)}`);
  const grown = Object.entries(after).filter(([name, value]) => {
    const allowed = name === 'memoryMiB' ? MEMORY_SWING : 0;
    return value > before[name as keyof Holdings] + allowed;
  });
  for (const [name, value] of grown) console.log(`grown: ${name}, from ${before[name as keyof Holdings]} to ${value}`);
  for (const failure of new Set(load.failures)) console.log(`failed: ${failure}`);
  return grown.length === 0 && load.failures.length === 0;
}

if (values.help) console.log(USAGE);
else process.exit((await soak(Number(values.minutes), values.seed)) ? 0 : 1);
