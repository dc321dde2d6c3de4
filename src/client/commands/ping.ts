import { Exit, type Run } from './command.ts';

/** `layerctl ping`. */
export const ping: Run<{ readonly quiet?: boolean }> = async ({ client, out, signal }, _args, { quiet }) => {
  const start = performance.now();
  const { apiVersion, server } = await client.ping({ signal });
  const ms = (performance.now() - start).toFixed(1);
  if (quiet !== true)
    await out.line(`${server ?? 'engine'} at ${client.host} answered in ${ms} ms (API ${apiVersion})`);
  return Exit.ok;
};
