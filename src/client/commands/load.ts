import { Exit, type Run } from './command.ts';
import { readFileInput, readStandardInput } from './input.ts';
import { terminalView } from './save.ts';

interface Options {
  readonly input?: string;
  readonly platform?: readonly string[];
  readonly quiet?: boolean;
}

/** `layerctl load`. */
export const load: Run<Options> = async (context, _names, options) => {
  const { client, out, err, signal } = context;
  const archive =
    options.input === undefined
      ? readStandardInput(context, 'there is no archive: name a file with --input, or redirect one to standard input')
      : await readFileInput(options.input);
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
