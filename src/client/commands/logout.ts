import { parseServerAddress } from '../../protocol/reference.ts';
import { DockerConfig } from '../credentials/config.ts';
import { Exit, type Run } from './command.ts';

/** `layerctl logout`. */
export const logout: Run<object> = async ({ out, env, signal, configDirectory }, [server = '']) => {
  const registry = parseServerAddress(server);
  const config = await DockerConfig.load(configDirectory, env);
  const wasThere = await config.erase(registry, signal);
  await out.line(wasThere ? `Removing login credentials for ${registry}` : `Not logged in to ${registry}`);
  return Exit.ok;
};
