import type { Config } from './config.ts';
import { options, optionList } from './options.ts';

/** What a reload comes to. */
export interface Reload {
  /** The configuration that is now in force. */
  readonly config: Config;
  /** Keys of the options that changed. */
  readonly changed: readonly string[];
  /** Keys of the options that were changed but wait for a restart. */
  readonly pending: readonly string[];
}

/** Takes from the next configuration what a running daemon can take on, and keeps the rest of the present one. */
export function mergeReload(present: Config, next: Config): Reload {
  const differing = optionList
    .map(([name]) => name)
    .filter((name) => JSON.stringify(present[name]) !== JSON.stringify(next[name]));
  const taken = differing.filter((name) => options[name].reloadable);
  const config = Object.freeze({
    ...present,
    ...Object.fromEntries(taken.map((name) => [name, next[name]])),
    configFile: next.configFile,
  });
  return {
    config,
    changed: taken.map((name) => options[name].key),
    pending: differing.filter((name) => !options[name].reloadable).map((name) => options[name].key),
  };
}
