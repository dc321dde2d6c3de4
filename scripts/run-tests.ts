// Runs the tests: all, or those whose path contains one of the words given. Flags go to Node's test runner.
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Tests start daemons and registries of their own; more of them at once than this only wait for the disk. */
const MAX_CONCURRENCY = 4;
/** A file that takes longer, in milliseconds, hangs; the comparison with the whole corpus is the longest by far. */
const TIMEOUT = process.env['LAYERD_CORPUS_REGISTRY'] === undefined ? 300_000 : 3_600_000;

const root = fileURLToPath(new URL('..', import.meta.url));
const args = process.argv.slice(2);
const flags = args.filter((arg) => arg.startsWith('-'));
const words = args.filter((arg) => !arg.startsWith('-'));

const files = globSync('test/**/*.test.ts', { cwd: root })
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error(`no test file under test/ matches ${words.join(' or ')}`);
  process.exit(1);
}

const reporter = process.stdout.isTTY ? 'spec' : './scripts/compact-reporter.ts';
const concurrency = Math.min(availableParallelism(), MAX_CONCURRENCY);
const { status, signal, error } = spawnSync(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${TIMEOUT}`,
    `--test-reporter=${reporter}`,
    ...flags,
    ...files,
  ],
  { cwd: root, stdio: 'inherit' },
);
if (error !== undefined) throw error;
if (signal !== null) console.error(`the tests were ended by ${signal}`);
process.exit(status ?? 1);
