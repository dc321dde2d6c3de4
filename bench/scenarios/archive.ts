import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { must, scratch } from '../../test/support/process.ts';
import { alternate, refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { timed } from '../measure.ts';
import { Dockerd } from '../peers/dockerd.ts';
import type { EnginePeer } from '../peers/engine.ts';

const IMAGE = 'gcc:12';
const FACTOR = 2;
/** Bytes of an archive that are read at a time. */
const READ_BYTES = 256 * 1024;

/** Saves one image into a file and loads it again. */
export async function archive(context: Context): Promise<Figure[]> {
  const { layerd, registry } = context;
  const dockerd = context.peers.get('dockerd');
  const engines: EnginePeer[] = [layerd, ...(dockerd instanceof Dockerd ? [dockerd] : [])];
  const ref = refOf(registry, IMAGE);
  await using folder = await scratch('archive');
  const fileOf = (name: string): string => join(folder.path, `${name}.tar`);

  for (const engine of engines) {
    await engine.empty();
    await engine.pull(ref);
  }
  const saved = await alternate(context, engines, `save ${IMAGE}`, async ({ name, client }) => {
    await must('sync', []);
    return timed(() => pipeline(client.save([ref]), createWriteStream(fileOf(name))));
  });
  const figures = figuresOf(saved, `save ${IMAGE}`);
  for (const engine of engines) {
    const source = engine.name;
    const subject = `load ${IMAGE}, saved by ${source}`;
    // An archive of layerd's has what a registry has; the other engine's own is what it is measured with.
    const loaders = source === layerd.name ? [layerd] : engines;
    const loaded = await alternate(context, loaders, subject, async (loader) => {
      await loader.empty();
      await must('sync', []);
      return timed(() => load(loader, fileOf(source)));
    });
    figures.push(...figuresOf(loaded, subject));
  }
  for (const engine of engines) await engine.empty();
  return figures;
}

async function load({ name, client }: EnginePeer, file: string): Promise<void> {
  let last = '';
  const bytes = createReadStream(file, { highWaterMark: READ_BYTES }) as AsyncIterable<Uint8Array>;
  for await (const { stream } of client.load(bytes, { quiet: true })) last = stream ?? last;
  if (!last.startsWith('Loaded image')) throw new Error(`${name} did not load ${file}: ${last}`);
}

function figuresOf(values: ReadonlyMap<string, readonly number[]>, subject: string): Figure[] {
  return [...values].map(([engine, runs]) =>
    figureOf({
      scenario: 'archive',
      subject,
      engine,
      unit: 's',
      runs,
      ...(engine === 'dockerd' ? { factor: FACTOR } : {}),
    }),
  );
}
