import { image, layer, tarOf } from '../../test/support/images.ts';
import { alternate, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { timed } from '../measure.ts';
import { Dockerd } from '../peers/dockerd.ts';
import type { EnginePeer } from '../peers/engine.ts';

const IMAGES = 1000;
const TAGS = 5;
const TEAMS = 10;
const FACTOR = 5;
/** Requests whose mean is one run. */
const REQUESTS = 20;
const MS = 1000;

const nameOf = (at: number, tag: number): string => `bench/image-${String(at).padStart(4, '0')}:${tag}`;

/** What engines with many images and names are asked all the time. */
const QUESTIONS: Readonly<Record<string, (engine: EnginePeer, at: number) => Promise<unknown>>> = {
  list: ({ client }) => client.images(),
  'list by label': ({ client }) => client.images({ filters: { label: ['team=3'] } }),
  'list by name': ({ client }) => client.images({ filters: { reference: ['bench/image-05*'] } }),
  df: ({ client }) => client.diskUsage({ verbose: true }),
  inspect: ({ client }, at) => client.inspect(nameOf((at * 7919) % IMAGES, 1 + (at % TAGS))),
};

/** Asks engines that have the same thousand images, each with five tags. */
export async function tags(context: Context): Promise<Figure[]> {
  const { layerd } = context;
  const dockerd = context.peers.get('dockerd');
  const engines: EnginePeer[] = [layerd, ...(dockerd instanceof Dockerd ? [dockerd] : [])];
  const archive = await makeArchive(context);
  for (const engine of engines) {
    await engine.empty();
    context.log(`loading ${IMAGES} images with ${TAGS} tags each into ${engine.name}`);
    const loading = engine.client.load(once(archive), { quiet: true });
    for await (const { stream } of loading) if (stream === undefined) throw new Error(`${engine.name} did not load it`);
    const listed = await engine.client.images();
    const names = listed.reduce((sum, { RepoTags }) => sum + RepoTags.length, 0);
    if (listed.length !== IMAGES || names !== IMAGES * TAGS) {
      throw new Error(`${engine.name} lists ${listed.length} images with ${names} names`);
    }
  }
  const figures: Figure[] = [];
  for (const [question, ask] of Object.entries(QUESTIONS)) {
    const values = await alternate(context, engines, question, async (engine) => {
      const seconds = await timed(async () => {
        for (let at = 0; at < REQUESTS; at += 1) await ask(engine, at);
      });
      return seconds / REQUESTS;
    });
    for (const [engine, runs] of values) {
      figures.push(
        figureOf({
          scenario: `${question}, ${TAGS} tags each`,
          subject: `${IMAGES} images`,
          engine,
          unit: 'ms',
          runs: runs.map((seconds) => seconds * MS),
          ...(engine === 'dockerd' ? { factor: FACTOR } : {}),
        }),
      );
    }
  }
  for (const engine of engines) await engine.empty();
  return figures;
}

/** An archive in docker's own format of images that share a layer and have one of their own. */
async function makeArchive(context: Context): Promise<Buffer> {
  context.log(`making ${IMAGES} images`);
  const base = await layer([{ name: 'base', content: 'base' }], { compression: 'none' });
  const blobs = new Map<string, Buffer>();
  const contents: object[] = [];
  for (let at = 0; at < IMAGES; at += 1) {
    context.signal.throwIfAborted();
    const own = await layer([{ name: 'own', content: String(at) }], { compression: 'none' });
    const made = image({
      layers: [base, own],
      config: { config: { Cmd: ['sh'], Labels: { team: String(at % TEAMS), number: String(at) } } },
    });
    for (const { digest, bytes } of made.blobs) blobs.set(digest.slice('sha256:'.length), bytes);
    contents.push({
      Config: made.id.slice('sha256:'.length),
      RepoTags: Array.from({ length: TAGS }, (_, tag) => nameOf(at, tag + 1)),
      Layers: made.layers.map(({ digest }) => digest.slice('sha256:'.length)),
    });
  }
  return tarOf([
    ...[...blobs].map(([name, content]) => ({ name, content })),
    { name: 'manifest.json', content: JSON.stringify(contents) },
  ]);
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes);
}
