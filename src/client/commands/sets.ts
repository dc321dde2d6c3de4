import { basename } from 'node:path';
import { LayerdError } from '../../protocol/errors.ts';
import {
  MAX_SPEC_BYTES,
  type ImageSetCondition,
  type ImageSetMember,
  type ImageSetReport,
  type ImageSetUpdate,
} from '../../protocol/image-set.ts';
import type { LayerdClient } from '../engine.ts';
import { EngineError } from '../errors.ts';
import { DocumentFormat, ListFormat, type RowFormat } from '../format/format.ts';
import { alignTabs, plain } from '../format/table.ts';
import { shortenId } from '../format/units.ts';
import { stringify } from '../json.ts';
import { Exit, type Context, type Run } from './command.ts';
import { forEachName } from './each.ts';
import { readFileInput, readStandardInput } from './input.ts';

const ROW: RowFormat = {
  headings: {
    Created: 'CREATED',
    File: 'FILE',
    Generation: 'GENERATION',
    Images: 'IMAGES',
    Message: 'MESSAGE',
    Name: 'NAME',
    Reason: 'REASON',
    Since: 'SINCE',
    Status: 'STATUS',
  },
  table: '{{.Name}}\t{{.Images}}\t{{.Status}}\t{{.Since}}\t{{.Message}}',
};

/** Standard input, where a file is named. */
const STANDARD_INPUT = '-';

interface ListOptions {
  readonly format?: string;
  readonly quiet?: boolean;
}

/** `layerctl sets`. */
export const sets: Run<ListOptions> = async ({ client, out, signal }, _args, { format, quiet }) => {
  const rows = new ListFormat(format ?? (quiet === true ? '{{.Name}}' : undefined), ROW);
  const list = await client.sets({ signal });
  await out.lines(rows.lines(list.map(rowOf)));
  return Exit.ok;
};

interface ApplyOptions {
  readonly file?: string;
  readonly wait?: boolean;
}

/** `layerctl set apply`. */
export const apply: Run<ApplyOptions> = async (context, [given], { file, wait }) => {
  if (file === undefined)
    throw new LayerdError('invalid', 'there is no set: name a file with --file, or - for standard input');
  const { client, out, signal } = context;
  const name = given ?? nameOf(file);
  const json = await textOf(
    file === STANDARD_INPUT
      ? readStandardInput(context, 'there is no set: redirect one to standard input')
      : await readFileInput(file),
  );
  const { generation } = await client.putSet(name, json, { signal });
  if (wait === true) await untilReady(context, name, generation);
  await out.line(name);
  return Exit.ok;
};

/** Waits until all images of that generation of a set are here, and says meanwhile why they are not. */
async function untilReady({ client, err, signal }: Context, name: string, generation: number): Promise<void> {
  let told = '';
  for await (const set of watched(client, [name], signal)) {
    if ('deleted' in set) throw new EngineError('not-found', `the image set ${name} was deleted meanwhile`);
    if (set.observedGeneration < generation) continue;
    if (isTrue(set, 'Ready') && !isTrue(set, 'Progressing')) return;
    const { message } = decisive(set);
    if (message !== told) await err.line(`${name}: ${plain(message)}`);
    told = message;
  }
}

interface InspectOptions {
  readonly format?: string;
  readonly images?: boolean;
  readonly trunc?: boolean;
}

/** `layerctl set inspect`. */
export const inspect: Run<InspectOptions> = async (context, names, options) => {
  const { client, out, signal } = context;
  if (options.images === true && options.format !== undefined) {
    throw new LayerdError('invalid', '--images and --format exclude each other');
  }
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format, ['file']);
  const found: ImageSetReport[] = [];
  const finish = (): Promise<void> =>
    format === undefined && options.images !== true ? out.line(stringify(found, 4)) : Promise.resolve();
  let isFirst = true;
  return forEachName(
    context,
    names,
    async (name) => {
      const set = await client.set(name, { signal });
      found.push(set);
      if (format !== undefined) await out.line(format.render(set));
      if (options.images !== true) return;
      const heading = names.length === 1 ? [] : [...(isFirst ? [] : ['']), out.style.bold(name)];
      isFirst = false;
      await out.lines([...heading, ...imageTable(set.images, options.trunc !== false)]);
    },
    finish,
  );
};

/** `layerctl set rm`. */
export const remove: Run<object> = (context, names) =>
  forEachName(context, names, async (name) => {
    await context.client.removeSet(name, { signal: context.signal });
    await context.out.line(name);
  });

interface WatchOptions {
  readonly format?: string;
}

/** `layerctl set watch`. */
export const watch: Run<WatchOptions> = async ({ client, out, signal, now }, names, options) => {
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format, ['file', 'deleted']);
  for await (const set of watched(client, names, signal)) {
    if (format !== undefined) await out.line(format.render(set));
    else {
      const { Images: images, Status: status, Message: message } = 'deleted' in set ? GONE : rowOf(set);
      await out.line(
        [new Date(now()).toISOString(), set.name, images, status, message].filter((cell) => cell !== '').join(' '),
      );
    }
  }
  return Exit.ok;
};

const GONE = { Images: '', Status: 'Deleted', Message: '' };

/** The sets of those names, or all, as they change. */
async function* watched(
  client: LayerdClient,
  names: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<ImageSetUpdate, void, undefined> {
  for await (const set of client.watchSets({ signal })) {
    if (names.length === 0 || names.includes(set.name)) yield set;
  }
  throw new LayerdError('unavailable', 'the daemon has stopped');
}

function rowOf(set: ImageSetReport): Record<string, string> {
  const { name, images, file = '', generation, createdAt } = set;
  const here = images.filter(({ state }) => state !== 'missing').length;
  const { reason, message, lastTransitionTime } = decisive(set);
  return {
    Created: createdAt,
    File: plain(file),
    Generation: String(generation),
    Images: `${here}/${images.length}`,
    Message: plain(message),
    Name: name,
    Reason: reason,
    Since: lastTransitionTime,
    Status: statusOf(set),
  };
}

const TYPES = ['Ready', 'Progressing', 'Degraded'] as const;

const isTrue = ({ conditions }: ImageSetReport, type: ImageSetCondition['type']): boolean =>
  conditions.some((condition) => condition.type === type && condition.status === 'True');

/** The conditions that are true, `Ready, Degraded`. */
function statusOf(set: ImageSetReport): string {
  if (set.observedGeneration < set.generation) return 'Pending';
  return TYPES.filter((type) => isTrue(set, type)).join(', ') || 'NotReady';
}

const PENDING = { reason: 'Pending', message: 'it is about to be looked at', lastTransitionTime: '' };

/** The condition that matters most: what fails, else what goes on, else whether it is ready. */
function decisive(set: ImageSetReport): Pick<ImageSetCondition, 'reason' | 'message' | 'lastTransitionTime'> {
  if (set.observedGeneration < set.generation) return PENDING;
  const type = TYPES.findLast((each) => isTrue(set, each)) ?? 'Ready';
  return set.conditions.find((condition) => condition.type === type) ?? PENDING;
}

function imageTable(images: readonly ImageSetMember[], truncates: boolean): string[] {
  const show = (digest: string | undefined): string =>
    digest === undefined ? '' : truncates ? shortenId(digest) : digest;
  const rows = images.map(({ reference, platform = '', pullPolicy, state, imageId, nextCheck = '', error }) =>
    [reference, platform, pullPolicy, state, show(imageId), nextCheck, plain(error?.message ?? '')].join('\t'),
  );
  return alignTabs(['REFERENCE\tPLATFORM\tPULL POLICY\tSTATE\tIMAGE ID\tNEXT CHECK\tERROR', ...rows]);
}

/** A set is called after its file, unless it is given another name. */
function nameOf(file: string): string {
  if (file !== STANDARD_INPUT) return basename(file).replace(/\.json$/, '');
  throw new LayerdError('invalid', 'a set from standard input needs a name: layerctl set apply NAME -f -');
}

async function textOf(input: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of input) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > MAX_SPEC_BYTES) throw new LayerdError('invalid', `the set is larger than ${MAX_SPEC_BYTES} bytes`);
  }
  return Buffer.concat(chunks).toString();
}
