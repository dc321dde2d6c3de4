import { cpus, release, totalmem } from 'node:os';
import { run } from '../test/support/process.ts';

/** What the figures were taken on. */
export interface Machine {
  readonly date: string;
  readonly commit: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  /** Version of each engine, or why it is missing. */
  readonly engines: Readonly<Record<string, string>>;
}

export async function machine(engines: Readonly<Record<string, string>>): Promise<Machine> {
  const commit = await run('git', ['describe', '--always', '--dirty']);
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit.stdout.trim(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    engines,
  };
}
