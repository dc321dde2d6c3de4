// `npm test`: everything that must hold before a change is merged. Stops at the first stage that fails.
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { canInstall, install, allMissingPackages } from './packages.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = (name: string) => join(root, 'node_modules', '.bin', name);

/** Debian keeps some of them where only root looks. */
const PATH = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
process.env['PATH'] = PATH.join(delimiter);

stage('tools', installTools);
stage('format', () => run(bin('prettier'), '--check', '--log-level', 'warn', '.'));
stage('lint', () => run(bin('eslint'), '--max-warnings', '0', '.'));
stage('types', () => run(bin('tsc'), '--noEmit'));
stage('build', () => run(process.execPath, 'scripts/build.ts'));
console.log('tests');
const tests = spawnSync(process.execPath, ['scripts/run-tests.ts', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(tests.status ?? 1);

/** Runs one stage and says how long it took. */
function stage(name: string, body: () => void): void {
  process.stdout.write(name.padEnd(8));
  const started = performance.now();
  try {
    body();
  } catch (error) {
    console.log(` failed after ${seconds(started)}`);
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
  console.log(` ok, ${seconds(started)}`);
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}

/** Runs a program quietly; what it said is the error if it fails. */
function run(program: string, ...args: string[]): void {
  const result: SpawnSyncReturns<string> = spawnSync(program, args, { cwd: root, encoding: 'utf8' });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(`${result.stdout}${result.stderr}`.trim() || `${program} ended with status ${result.status ?? 1}`);
  }
}

/** Sees to it that the programs tests drive are there. Without them those tests are skipped, and say so. */
function installTools(): void {
  const missing = allMissingPackages();
  if (missing.length === 0) return;
  if (!canInstall()) {
    console.log(`\n  some tests will be skipped; to run them too: sudo apt-get install ${missing.join(' ')}`);
    return;
  }
  process.stdout.write(` installing ${missing.join(', ')}:`);
  install(missing);
}
