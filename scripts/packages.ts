// Debian packages that tests, demo and benchmarks need: what is missing is installed for root, and named for others.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { has } from '../test/support/process.ts';

/** The Debian package of each command. */
const PACKAGES: Readonly<Record<string, string>> = {
  'docker-registry': 'docker-registry',
  skopeo: 'skopeo',
  'fsck.erofs': 'erofs-utils',
  umoci: 'umoci',
  curl: 'curl',
  gpg: 'gnupg',
  gpgv: 'gpgv',
  openssl: 'openssl',
  ip: 'iproute2',
  socat: 'socat',
  strace: 'strace',
  faketime: 'faketime',
  'systemd-analyze': 'systemd',
};

/** Where the package of a library, which has no command, has its files. */
const LIBRARIES: Readonly<Record<string, string>> = {
  'python3-docker': '/usr/lib/python3/dist-packages/docker/__init__.py',
};

/** The packages of those commands that are not there. */
export function missingPackages(commands: readonly string[]): string[] {
  return [...new Set(commands.filter((command) => !has(command)).map((command) => PACKAGES[command] ?? command))];
}

/** The packages that are not there of all that anything here drives. */
export function allMissingPackages(): string[] {
  const libraries = Object.entries(LIBRARIES).filter(([, file]) => !existsSync(file));
  return [...missingPackages(Object.keys(PACKAGES)), ...libraries.map(([name]) => name)];
}

/** Whether packages can be installed from here. */
export function canInstall(): boolean {
  return process.getuid?.() === 0 && has('apt-get');
}

/** Installs packages. Throws an error with what apt-get said when it fails. */
export function install(packages: readonly string[]): void {
  for (const step of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
    const { status, stdout, stderr } = spawnSync('apt-get', ['-qq', ...step], {
      encoding: 'utf8',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    if (status !== 0) throw new Error(`apt-get ${step.join(' ')} failed:\n${stdout}${stderr}`);
  }
}

/** Sees to it that the commands are there. Throws an error that says what to install when it cannot. */
export function ensure(...commands: readonly string[]): void {
  const missing = missingPackages(commands);
  if (missing.length === 0) return;
  if (!canInstall()) {
    throw new Error(`missing: ${missing.join(', ')}. Install with: sudo apt-get install -y ${missing.join(' ')}`);
  }
  console.log(`installing ${missing.join(', ')} with apt-get`);
  install(missing);
}
