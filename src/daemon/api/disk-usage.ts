import { LayerdError } from '../../protocol/errors.ts';
import type { UsageTotals } from '../../protocol/engine.ts';
import type { Usage } from '../images/usage.ts';
import type { Call } from './call.ts';
import { usedImage } from './compat.ts';
import { quote } from './parameters.ts';
import type { ImageOperations } from './parts.ts';
import { Since } from './versions.ts';

type Body = Record<string, unknown>;

/** Types of objects, with the names of their totals and of their list in versions before the totals. */
const TYPES: Readonly<Record<string, { readonly totals: string; readonly list: string }>> = {
  image: { totals: 'ImageUsage', list: 'Images' },
  container: { totals: 'ContainerUsage', list: 'Containers' },
  volume: { totals: 'VolumeUsage', list: 'Volumes' },
  'build-cache': { totals: 'BuildCacheUsage', list: 'BuildCache' },
};

/** There are no containers, volumes and build caches, and they take nothing. */
const NOTHING: UsageTotals<never> = { ActiveCount: 0, TotalCount: 0, TotalSize: 0, Reclaimable: 0 };

/** `GET /system/df`: lists with all objects before 1.52; since then totals, and lists in them or, unasked, beside them. */
export async function answerDiskUsage(call: Call, images: Pick<ImageOperations, 'usage'>): Promise<void> {
  const { version } = call;
  const types = wantedTypes(call);
  const verbose = version < Since.usageTotals ? undefined : verbosity(call);
  const usage = await images.usage({ items: types.has('image') && verbose !== false });
  const body: Body = {};
  for (const [type, { totals, list }] of Object.entries(TYPES)) {
    if (!types.has(type)) continue;
    const objects = (type === 'image' ? usage.items : undefined)?.map((image) => usedImage(image, version)) ?? [];
    if (version >= Since.usageTotals) {
      const sums = type === 'image' ? imageTotals(usage) : NOTHING;
      // An empty list is left out, as by dockerd.
      body[totals] = verbose === true && objects.length > 0 ? { ...sums, Items: objects } : sums;
    }
    if (verbose !== undefined) continue;
    if (type === 'image') body['LayersSize'] = imageTotals(usage).TotalSize;
    body[list] = objects;
    if (type === 'build-cache' && version < Since.usageTypes) body['BuilderSize'] = 0;
  }
  call.json(body);
}

/** As long as there are no containers, no image is in use but by what is under way. */
function imageTotals({ images, interrupted, underWay }: Usage): UsageTotals<never> {
  const reclaimable = images.size + interrupted.size;
  return {
    ActiveCount: 0,
    TotalCount: images.count,
    TotalSize: reclaimable + underWay.size,
    Reclaimable: reclaimable,
  };
}

function wantedTypes({ query, version }: Call): ReadonlySet<string> {
  const all = Object.keys(TYPES);
  const given = version < Since.usageTypes ? [] : query.getAll('type');
  for (const type of given) {
    if (!all.includes(type)) {
      throw new LayerdError('invalid', `unknown object type: ${quote(type)}; expected ${all.join(', ')}`);
    }
  }
  return new Set(given.length === 0 ? all : given);
}

/** Undefined where it is not given. It is stricter than other flags, as in dockerd, which reads it as Go reads booleans. */
function verbosity({ query }: Call): boolean | undefined {
  const text = query.get('verbose') ?? '';
  if (text === '') return undefined;
  if (/^(?:1|t|T|true|True|TRUE)$/.test(text)) return true;
  if (/^(?:0|f|F|false|False|FALSE)$/.test(text)) return false;
  throw new LayerdError('invalid', `invalid value for verbose: ${quote(text)}; expected true or false`);
}
