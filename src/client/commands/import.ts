import { Exit, type Context, type Run } from './command.ts';
import { readFileInput, readStandardInput } from './input.ts';
import { terminalView } from './save.ts';

interface Options {
  readonly change?: readonly string[];
  readonly message?: string;
  readonly platform?: string;
}

/** `layerctl import`. */
export const importImage: Run<Options> = async (context, [source = '', name], options) => {
  const { client, out, err, signal } = context;
  const { change, message, platform } = options;
  const tar = await open(context, source);
  const view = await terminalView(err);
  let last = '';
  try {
    for await (const line of client.import(tar, { name, message, changes: change, platform, signal })) {
      last = line.status ?? '';
      if (line.progressDetail !== undefined) await view?.show(line);
    }
  } finally {
    await view?.end();
  }
  // The image ID.
  await out.line(last);
  return Exit.ok;
};

async function open(context: Context, source: string): Promise<AsyncIterable<Uint8Array> | URL> {
  if (/^https?:\/\//i.test(source)) return new URL(source);
  if (source !== '-') return readFileInput(source);
  return readStandardInput(context, 'there is no tar: name a file or a URL, or redirect one to standard input');
}
