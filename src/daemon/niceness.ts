import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';

/** Puts this thread back behind the others of the process when the processors are busy, by that much, as in nice(1). */
export function yieldToOthers(niceness: number): void {
  try {
    // Linux takes the ID of a thread where others have a process.
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), niceness);
  } catch {
    // Where a sandbox forbids it, the work is done all the same.
  }
}
