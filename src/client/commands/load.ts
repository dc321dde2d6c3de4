import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { Exit, type Context, type Run } from './command.ts';
import { terminalView } from './save.ts';

interface Options {
  readonly input?: string;
  readonly platform?: readonly string[];
  readonly quiet?: boolean;
}

/** Bytes of a file that are read at a time. */
const READ_BYTES = 256 * 1024;

/** `layerctl load`. */
export const load: Run<Options> = async (context, _names, options) => {
  const { client, out, err, signal } = context;
  const archive = await openArchive(context, options.input);
  const view = options.quiet === true ? undefined : await terminalView(err);
  try {
    const quiet = view === undefined;
    for await (const message of client.load(archive, { quiet, platforms: options.platform, signal })) {
      if (message.stream === undefined) await view?.show(message);
      else {
        await view?.end();
        await out.write(message.stream);
      }
    }
  } finally {
    await view?.end();
  }
  return Exit.ok;
};

async function openArchive({ input }: Context, path: string | undefined): Promise<AsyncIterable<Uint8Array>> {
  if (path === undefined) {
    const standard = input();
    if (standard.isTTY === true) {
      throw new LayerdError(
        'invalid',
        'there is no archive: name a file with --input, or redirect one to standard input',
      );
    }
    return standard as AsyncIterable<Uint8Array>;
  }
  try {
    return createReadStream('', { fd: await open(path), highWaterMark: READ_BYTES }) as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw new LayerdError('unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}
