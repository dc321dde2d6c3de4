import { Exit, type Run } from './command.ts';

/** `layerctl tag`. */
export const tag: Run<object> = async ({ client, signal }, [source = '', target = '']) => {
  await client.tag(source, target, { signal });
  return Exit.ok;
};
