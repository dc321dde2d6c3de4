import { readFileSync } from 'node:fs';

/** What the build wrote of itself, beside the compiled files. */
export interface Build {
  readonly commit: string;
  /** RFC 3339. */
  readonly time: string;
}

/** Of sources that run without a build nothing is known. */
const NONE: Build = { commit: '', time: '' };

export function readBuild(): Build {
  try {
    return JSON.parse(readFileSync(new URL('../build.json', import.meta.url), 'utf8')) as Build;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NONE;
    throw error;
  }
}
