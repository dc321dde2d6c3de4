import { join } from 'node:path';
import { must, scratch } from '../../test/support/process.ts';
import { startRegistry } from '../../test/support/registry.ts';
import { alternate, refOf, type Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { timed } from '../measure.ts';

const IMAGE = 'node:18';
/** As fast as skopeo, which copies files that are laid out for it. */
const FACTOR = 1;
const PRESENT_MS = 100;

/** Pushes one image to a registry that has nothing, beside skopeo from an OCI layout, and then what is there already. */
export async function push(context: Context): Promise<Figure[]> {
  const { layerd } = context;
  const ref = refOf(context.registry, IMAGE);
  await using folder = await scratch('push');
  const layout = `oci:${join(folder.path, 'layout')}:${IMAGE}`;
  await must('skopeo', ['copy', '--src-tls-verify=false', `docker://${ref}`, layout]);
  await layerd.empty();
  await layerd.pull(ref);

  const present: number[] = [];
  const pushers = [
    {
      name: layerd.name,
      async push(host: string): Promise<number> {
        const target = `${host}/${IMAGE}`;
        await layerd.client.tag(ref, target);
        const seconds = await timed(() => pushed(target));
        present.push(1000 * (await timed(() => pushed(target))));
        // The next run's registry has another name, and this one's must not be mounted from.
        await layerd.client.remove(target);
        return seconds;
      },
    },
    {
      name: 'skopeo',
      push: (host: string): Promise<number> =>
        timed(() => must('skopeo', ['copy', '--dest-tls-verify=false', layout, `docker://${host}/${IMAGE}`])),
    },
  ];
  const pushed = async (target: string): Promise<void> => {
    let last = '';
    for await (const { status } of layerd.client.push(target)) last = status ?? last;
    if (!last.includes('digest: sha256:')) throw new Error(`layerd did not push ${target}: ${last}`);
  };

  const values = await alternate(context, pushers, `push ${IMAGE}`, async (pusher) => {
    await using registry = await startRegistry();
    await must('sync', []);
    return await pusher.push(registry.host);
  });
  const figures = [...values].map(([engine, runs]) =>
    figureOf({
      scenario: 'push',
      subject: IMAGE,
      engine,
      unit: 's',
      runs,
      ...(engine === layerd.name ? {} : { factor: FACTOR }),
    }),
  );
  const subject = `${IMAGE}, all there already`;
  figures.push(
    figureOf({ scenario: 'push', subject, engine: layerd.name, unit: 'ms', runs: present, atMost: PRESENT_MS }),
  );
  await layerd.empty();
  return figures;
}
