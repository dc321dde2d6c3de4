import { must } from '../../test/support/process.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { alternate, CORPUS, refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { memoryOf, resetPeak, timed } from '../measure.ts';
import type { Peer } from '../peers/peer.ts';
import { peakFigure } from './pull.ts';

const FACTOR = 5;
const SUBJECT = `all ${CORPUS.length} images at once`;

/** Pulls the whole corpus at once, and counts in a run of its own how often each blob is fetched. */
export async function together(context: Context): Promise<Figure[]> {
  const { layerd, registry } = context;
  const dockerd = context.peers.get('dockerd');
  const engines: Peer[] = [layerd, ...(dockerd === undefined ? [] : [dockerd])];
  const all = async (engine: Peer, host: string): Promise<unknown> =>
    Promise.all(CORPUS.map((image) => engine.pull(refOf(host, image))));
  const peaks: number[] = [];
  const values = await alternate(context, engines, SUBJECT, async (engine) => {
    await engine.empty();
    await must('sync', []);
    if (engine === layerd) await resetPeak(layerd.pid);
    const seconds = await timed(() => all(engine, registry));
    if (engine === layerd) peaks.push((await memoryOf(layerd.pid)).peak / 1e6);
    return seconds;
  });
  const figures = [...values].map(([engine, runs]) =>
    figureOf({
      scenario: 'together',
      subject: SUBJECT,
      engine,
      unit: 's',
      runs,
      ...(engine === 'dockerd' ? { factor: FACTOR } : {}),
    }),
  );
  figures.push(peakFigure(SUBJECT, peaks));

  // The proxy takes part of the machine, so this run is not timed.
  await layerd.empty();
  await using proxy = await startProxy({ host: registry });
  await all(layerd, proxy.host);
  const bytes = new Map<string, number>();
  for (const { path, bytes: sent } of proxy.blobRequests()) {
    const digest = path.slice(path.lastIndexOf('/') + 1);
    bytes.set(digest, (bytes.get(digest) ?? 0) + sent);
  }
  const sizes = await Promise.all(
    [...bytes.keys()].map(async (digest) => [digest, await sizeOf(registry, digest, proxy.seen)] as const),
  );
  const again = sizes.filter(([digest, size]) => bytes.get(digest) !== size);
  context.log(`${SUBJECT}: ${bytes.size} blobs fetched, ${again.length} of them not exactly once`);
  const common = { scenario: 'together', engine: 'layerd', unit: 'blobs' } as const;
  figures.push(figureOf({ ...common, subject: 'unique blobs fetched', runs: [bytes.size] }));
  figures.push(figureOf({ ...common, subject: 'blobs not fetched exactly once', runs: [again.length], atMost: 0 }));
  for (const engine of engines) await engine.empty();
  return figures;
}

/** What the registry says the blob's size is. */
async function sizeOf(registry: string, digest: string, seen: readonly { path: string }[]): Promise<number> {
  const path = seen.find((request) => request.path.endsWith(digest))?.path ?? '';
  const answer = await fetch(`http://${registry}${path}`, { method: 'HEAD' });
  return Number(answer.headers.get('content-length'));
}
