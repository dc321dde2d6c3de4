import { readdir, readFile, writeFile } from 'node:fs/promises';

/** The value in the middle; of an even number of values the mean of the two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  if (low === undefined || high === undefined) throw new Error('no values were measured');
  return (low + high) / 2;
}

/** The smallest value that at least so many percent of the values do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
  if (value === undefined) throw new Error('no values were measured');
  return value;
}

/** Seconds that it takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

/** Resident memory of a process and all below it: now, and the most since it was last reset; in bytes. */
export async function memoryOf(pid: number): Promise<{ now: number; peak: number }> {
  const sum = { now: 0, peak: 0 };
  for (const each of await treeOf(pid)) {
    const status = await readFile(`/proc/${each}/status`, 'utf8').catch(() => '');
    sum.now += 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    sum.peak += 1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return sum;
}

/** Sets the peak of {@link memoryOf} back to what is resident now. */
export async function resetPeak(pid: number): Promise<void> {
  for (const each of await treeOf(pid)) await writeFile(`/proc/${each}/clear_refs`, '5');
}

async function treeOf(pid: number): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const children = await Promise.all(
    tasks.map(async (task) => readFile(`/proc/${pid}/task/${task}/children`, 'utf8').catch(() => '')),
  );
  const below = children.flatMap((text) => text.trim().split(' ').filter(Boolean).map(Number));
  return [pid, ...(await Promise.all(below.map(treeOf))).flat()];
}
