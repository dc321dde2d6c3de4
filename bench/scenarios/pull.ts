import { must } from '../../test/support/process.ts';
import { alternate, refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { memoryOf, resetPeak } from '../measure.ts';

/** How many times as fast as each peer layerd should pull. */
const FACTORS: Readonly<Record<string, number>> = { containerd: 1.5, dockerd: 5, podman: 5 };
const PEAK_MEMORY_MB = 300;

/** Pulls single images until they can be run, each time into an emptied store. */
export async function pull(context: Context): Promise<Figure[]> {
  const { layerd, registry, peers } = context;
  const figures: Figure[] = [];
  for (const image of context.images) {
    const peaks: number[] = [];
    const values = await alternate(context, [layerd, ...peers.values()], `pull ${image}`, async (engine) => {
      await engine.empty();
      await must('sync', []);
      if (engine === layerd) await resetPeak(layerd.pid);
      const seconds = await engine.pull(refOf(registry, image));
      if (engine === layerd) peaks.push((await memoryOf(layerd.pid)).peak / 1e6);
      return seconds;
    });
    for (const [engine, runs] of values) {
      const factor = FACTORS[engine];
      figures.push(
        figureOf({
          scenario: 'pull',
          subject: image,
          engine,
          unit: 's',
          runs,
          ...(factor === undefined ? {} : { factor }),
        }),
      );
    }
    figures.push(peakFigure(image, peaks));
    for (const engine of [layerd, ...peers.values()]) await engine.empty();
  }
  return figures;
}

/** The most memory that a pull took; of several runs the largest counts. */
export function peakFigure(subject: string, runs: readonly number[]): Figure {
  const value = Math.max(...runs);
  return figureOf({
    scenario: 'memory, peak',
    subject,
    engine: 'layerd',
    unit: 'MB',
    runs,
    value,
    atMost: PEAK_MEMORY_MB,
  });
}
