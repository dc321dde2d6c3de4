import { must } from '../../test/support/process.ts';
import { alternate, refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { timed } from '../measure.ts';
import type { Peer } from '../peers/peer.ts';

const IMAGE = 'node:18';
const FACTOR = 10;

/** Removes one image that is alone in the store. */
export async function remove(context: Context): Promise<Figure[]> {
  const { layerd } = context;
  const dockerd = context.peers.get('dockerd');
  const engines: Peer[] = [layerd, ...(dockerd === undefined ? [] : [dockerd])];
  const ref = refOf(context.registry, IMAGE);
  const freed: number[] = [];
  const values = await alternate(context, engines, `remove ${IMAGE}`, async (engine) => {
    await engine.empty();
    await engine.pull(ref);
    await must('sync', []);
    if (engine !== layerd) return engine.remove(ref);
    // The answer says that the image is gone; when its bytes are freed is told beside it.
    let seconds = 0;
    freed.push(
      await timed(async () => {
        seconds = await engine.remove(ref);
        await layerd.untilFreed();
      }),
    );
    return seconds;
  });
  const figures = [...values].map(([engine, runs]) =>
    figureOf({
      scenario: 'remove',
      subject: IMAGE,
      engine,
      unit: 's',
      runs,
      ...(engine === 'dockerd' ? { factor: FACTOR } : {}),
    }),
  );
  const subject = `${IMAGE}, until its bytes are freed`;
  figures.push(figureOf({ scenario: 'remove', subject, engine: 'layerd', unit: 's', runs: freed }));
  return figures;
}
