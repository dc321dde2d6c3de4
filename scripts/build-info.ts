import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What a build says of itself; `docker version` shows it. */
export interface BuildInfo {
  /** Abbreviated; ends in `-dirty` where files were changed since. Empty when not built from a checkout. */
  readonly commit: string;
  /** RFC 3339. */
  readonly time: string;
}

/** Describes a build of the folder that is made now, or at SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds. */
export function buildInfo(root: string, env: NodeJS.ProcessEnv): BuildInfo {
  const epoch = env['SOURCE_DATE_EPOCH'] ?? '';
  return {
    commit: commitOf(root),
    time: new Date(epoch === '' ? Date.now() : Number(epoch) * 1000).toISOString(),
  };
}

function commitOf(root: string): string {
  // A package that is built inside another project's checkout must not name that project's commit.
  if (!existsSync(`${root}/.git`)) return '';
  // Without tags: a commit is what is asked for, and whether a clone has tags is a matter of how it was cloned.
  const args = ['-C', root, 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'];
  const { status, stdout } = spawnSync('git', args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : '';
}
