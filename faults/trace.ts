import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Running } from '../test/support/process.ts';
import type { Bed } from './bed.ts';

/** What is done to system calls of the daemon. */
export interface Injection {
  /** `rename`, `fsync` and so on. Where they exist, their variants (`renameat2`) are meant, too. */
  readonly call: string;
  /** The how-manieth of each thread, from 1. */
  readonly nth: number;
  /** What happens in its place: an error such as `EIO`; or with `KILL` the process is killed as it begins. */
  readonly outcome: string;
  /** Only calls about this file. */
  readonly path?: string;
}

const NAMES: Readonly<Record<string, string>> = {
  rename: 'rename,renameat,renameat2',
  unlink: 'unlink,unlinkat',
  sync: 'fsync,fdatasync',
  read: 'read,pread64,readv,preadv',
  open: 'open,openat',
};

/**
 * Has a system call of the running daemon fail, or be its last, while the work is under way. The kernel does it, on behalf of
 * strace, so that the daemon has nothing in it for that. Resolves with how often it happened.
 */
export async function traced(bed: Bed, injection: Injection, work: () => Promise<unknown>): Promise<number> {
  const { call, nth, outcome, path } = injection;
  const { pid } = bed.daemon.process.child;
  const names = NAMES[call] ?? call;
  const what = outcome === 'KILL' ? 'signal=KILL' : `error=${outcome}`;
  await using strace = new Running('strace', [
    ...['-f', '-p', `${pid ?? 0}`, '-e', `trace=${names}`, '-e', `inject=${names}:${what}:when=${nth}`],
    ...(path === undefined ? [] : ['-P', path]),
    ...(outcome === 'KILL' ? ['-e', 'signal=none'] : []),
  ]);
  await strace.until('strace to be attached', ({ stderr }) => / attached\b/.test(stderr));
  if (outcome !== 'KILL') {
    await work();
    await strace.kill('SIGINT');
    return strace.stderr.split('(INJECTED)').length - 1;
  }
  const running = work();
  const over = new AbortController();
  const killed = untilZombie(pid ?? 0, over.signal);
  await Promise.race([running, killed]);
  // A process that is killed at the end of the work may be on its way out still.
  await Promise.race([killed, sleep(50)]);
  over.abort();
  // Not asked to end: now and then it waits in vain for threads that are dead, which keeps the sockets of the daemon open.
  await strace.kill('SIGKILL');
  const isKilled = await killed;
  if (isKilled) await bed.daemon.process.exited;
  await running;
  return isKilled ? 1 : 0;
}

/** Waits until the process is dead, reaped or not, or the signal comes; returns whether it is dead. */
async function untilZombie(pid: number, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => 'State:\tZ');
    if (status.includes('State:\tZ')) return true;
    if (signal.aborted) return false;
    await sleep(10);
  }
}
