import { createWriteStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { ProgressView } from '../progress/view.ts';
import { Exit, type Context, type Run } from './command.ts';

interface Options {
  readonly output?: string;
  readonly platform?: readonly string[];
}

/** `layerctl save`. */
export const save: Run<Options> = async (context, names, options) => {
  const { client, out, signal } = context;
  if (options.output === undefined && out.isTerminal) {
    throw new LayerdError(
      'invalid',
      'an archive is not for a terminal: redirect the output, or name a file with --output',
    );
  }
  const archive = shown(context, client.save(names, { platforms: options.platform, signal }));
  if (options.output === undefined) for await (const chunk of archive) await out.write(chunk);
  else await writeFile(options.output, archive);
  return Exit.ok;
};

/** The archive as it comes; on a terminal standard error shows how much of it has. */
async function* shown({ err }: Context, archive: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const view = await terminalView(err);
  let current = 0;
  try {
    for await (const chunk of archive) {
      current += chunk.byteLength;
      await view?.show({ id: 'archive', status: 'Saving', progressDetail: { current } });
      yield chunk;
    }
  } finally {
    await view?.end();
  }
}

/** What draws bars on the output; undefined where it is no terminal. */
export async function terminalView(output: Context['err']): Promise<ProgressView | undefined> {
  if (!output.isTerminal) return undefined;
  const { TerminalView } = await import('../progress/terminal.ts');
  return new TerminalView(output);
}

/**
 * Writes a file that is there only once it is whole: what fails halfway leaves the one that was there before. A device or
 * pipe is written to as it is.
 */
async function writeFile(path: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const present = await stat(path).catch(() => undefined);
  if (present?.isDirectory() === true)
    throw new LayerdError('invalid', `cannot write the archive: ${path} is a directory`);
  const isPlain = present === undefined || present.isFile();
  const target = isPlain ? join(dirname(path), `.${basename(path)}.${process.pid}.part`) : path;
  try {
    // An image may hold secrets: nobody else reads it. The first byte comes before the file, so that nothing is left of
    // an image that there is not.
    const iterator = bytes[Symbol.asyncIterator]();
    const first = await iterator.next();
    const file = await understood(path, () => open(target, isPlain ? 'wx' : 'w', 0o600));
    const stream = createWriteStream('', { fd: file });
    const { pipeline } = await import('node:stream/promises');
    await pipeline(async function* () {
      if (first.done !== true) yield first.value;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    }, stream);
    if (isPlain) await understood(path, () => rename(target, path));
  } catch (error) {
    if (isPlain) await rm(target, { force: true });
    throw error;
  }
}

/** Says of what the file system refuses which file it was about. */
async function understood<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new LayerdError('unavailable', `cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}
