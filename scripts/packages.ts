// Debian packages that tests, demo and benchmarks need: what is missing is installed for root, and named for others.
import { execFileSync, type ExecFileSyncOptions } from 'node:child_process';
import { has } from '../test/support/process.ts';

/** The Debian package of each command. */
const PACKAGES: Readonly<Record<string, string>> = {
  'docker-registry': 'docker-registry',
  skopeo: 'skopeo',
  'fsck.erofs': 'erofs-utils',
};

/** Sees to it that the commands are there. Throws an error that says what to install when it cannot. */
export function ensure(...commands: readonly string[]): void {
  const missing = commands.filter((command) => !has(command)).map((command) => PACKAGES[command] ?? command);
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !has('apt-get')) {
    throw new Error(`missing: ${missing.join(', ')}. Install with: sudo apt-get install -y ${missing.join(' ')}`);
  }
  console.log(`installing ${missing.join(', ')} with apt-get`);
  const options: ExecFileSyncOptions = {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  };
  execFileSync('apt-get', ['update', '-q'], options);
  execFileSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], options);
}
