import { setTimeout as sleep } from 'node:timers/promises';
import { image, layer, push } from '../../test/support/images.ts';
import { scratch } from '../../test/support/process.ts';
import { startRegistry } from '../../test/support/registry.ts';
import { refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { memoryOf, percentile, timed } from '../measure.ts';
import { Layerd } from '../peers/layerd.ts';

const IMAGES = 1000;
/** How many images are made and pulled at a time. */
const CONCURRENCY = 8;
const REQUESTS = 400;
/** Between two requests while pulls are going on, so that the requests themselves are not the load. */
const PAUSE_MS = 10;
/** How long the daemon is left alone before its idle memory is read. */
const SETTLE_MS = 5000;
const START_POLL_MS = 1;

const LATENCY_MS = { list: { idle: 15, busy: 50 }, inspect: { idle: 2, busy: 15 } } as const;
const IDLE_MEMORY_MB = 90;
const START_MS = 400;

/** Everything that is asked of a daemon with a thousand images: latencies idle and busy, memory, and its start. */
export async function thousand(context: Context): Promise<Figure[]> {
  await using data = await scratch('bench-thousand');
  await using layerd = await Layerd.start(`${data.path}/data`);
  const names = await fill(context, layerd);
  const figures: Figure[] = [];

  const starts: number[] = [];
  for (let run = 0; run < context.runs; run++) {
    await layerd.daemon.kill('SIGTERM');
    starts.push(1000 * (await timed(() => layerd.daemon.start(START_POLL_MS))));
    context.log(
      `start with ${IMAGES} images, run ${run + 1} of ${context.runs}: ${starts.at(-1)?.toFixed(0) ?? ''} ms`,
    );
  }
  const common = { engine: 'layerd', subject: `${IMAGES} images` } as const;
  figures.push(figureOf({ ...common, scenario: 'start until _ping', unit: 'ms', runs: starts, atMost: START_MS }));
  await sleep(SETTLE_MS);
  const idle = (await memoryOf(layerd.pid)).now / 1e6;
  figures.push(figureOf({ ...common, scenario: 'memory, idle', unit: 'MB', runs: [idle], atMost: IDLE_MEMORY_MB }));

  figures.push(...(await latencies(layerd, names, 'idle', REQUESTS, 0, context)));
  const load = new AbortController();
  const pulling = pullOverAndOver(context, layerd, load.signal);
  try {
    figures.push(...(await latencies(layerd, names, 'busy', REQUESTS, PAUSE_MS, context)));
  } finally {
    load.abort();
    await pulling;
  }
  return figures;
}

/** Makes the images, each with a layer of its own on a common one, and has them pulled. Resolves with their names. */
async function fill(context: Context, layerd: Layerd): Promise<string[]> {
  context.log(`making ${IMAGES} images`);
  await using registry = await startRegistry();
  const base = await layer([{ name: 'base', content: 'base' }]);
  const names: string[] = [];
  const made = Array.from({ length: IMAGES }, (_, at) => at).values();
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      for (const at of made) {
        context.signal.throwIfAborted();
        const repository = `bench/image-${String(at).padStart(4, '0')}`;
        const own = await layer([{ name: 'own', content: String(at) }]);
        await push(registry.host, repository, '1', image({ layers: [base, own] }));
        const name = `${registry.host}/${repository}:1`;
        await layerd.pull(name);
        names.push(name);
      }
    }),
  );
  const listed = await layerd.client.images();
  if (listed.length !== IMAGES) throw new Error(`the daemon lists ${listed.length} of ${IMAGES} images`);
  return names;
}

/** Times requests one after the other. Idle the median has a goal, under load the 99th percentile. */
async function latencies(
  layerd: Layerd,
  names: readonly string[],
  state: 'idle' | 'busy',
  requests: number,
  pauseMs: number,
  context: Context,
): Promise<Figure[]> {
  const calls = {
    list: () => layerd.client.images(),
    inspect: (at: number) => layerd.client.inspect(names[(at * 7919) % names.length] ?? ''),
  };
  const figures: Figure[] = [];
  for (const what of ['list', 'inspect'] as const) {
    const runs: number[] = [];
    for (let at = 0; at < requests; at++) {
      context.signal.throwIfAborted();
      runs.push(1000 * (await timed(() => calls[what](at))));
      if (pauseMs > 0) await sleep(pauseMs);
    }
    const limits = LATENCY_MS[what];
    for (const [percent, atMost] of [
      [50, state === 'idle' ? limits.idle : undefined],
      [99, state === 'busy' ? limits.busy : undefined],
    ] as const) {
      figures.push(
        figureOf({
          scenario: `${what}, ${IMAGES} images`,
          subject: `${state}, p${percent}`,
          engine: 'layerd',
          unit: 'ms',
          runs,
          value: percentile(runs, percent),
          ...(atMost === undefined ? {} : { atMost }),
        }),
      );
    }
  }
  return figures;
}

/** Pulls and removes the images of the corpus that are asked for, all at once, until told to stop. */
async function pullOverAndOver(context: Context, layerd: Layerd, signal: AbortSignal): Promise<void> {
  const refs = context.images.map((image) => refOf(context.registry, image));
  while (!signal.aborted) {
    await Promise.all(refs.map((ref) => layerd.pull(ref)));
    for (const ref of refs) await layerd.remove(ref);
  }
}
