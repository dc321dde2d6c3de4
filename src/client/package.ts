import { readFileSync } from 'node:fs';

/** The version of this package. Sources and compiled files lie equally deep in it. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
