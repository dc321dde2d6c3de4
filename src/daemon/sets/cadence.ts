import { Cron } from 'croner';
import { messageOf } from '../../protocol/errors.ts';
import type { Cadence } from './set.ts';

/** Without a jitter of its own, a check is later by up to this part of the time between two, and at most so much: 5 min. */
const JITTER_PART = 0.1;
const MAX_IMPLIED_JITTER = 5 * 60_000;

/** Milliseconds until what failed is tried again: twice as long each time, up to 5 min. */
const FIRST_PAUSE = 1000;
const MAX_PAUSE = 5 * 60_000;

/** Cron's five fields, or a nickname such as @daily. Anything else croner would take for a date, or for seconds. */
const PATTERN = /^(?:\S+(?:\s+\S+){4}|@[a-z]+)$/;

/**
 * Checks a cron pattern.
 * @throws Error saying what is wrong with it.
 */
export function checkSchedule(pattern: string): void {
  if (!PATTERN.test(pattern)) throw new Error('expected the five fields of cron, such as "0 3 * * *"');
  let next: Date | null;
  try {
    next = cron(pattern).nextRun();
  } catch (error) {
    throw new Error(
      `expected the five fields of cron, such as "0 3 * * *": ${messageOf(error).replace(/^Cron\w+: /, '')}`,
      {
        cause: error,
      },
    );
  }
  if (next === null) throw new Error('expected a time that comes: there is none');
}

/**
 * When the next check is, in Unix milliseconds, after one now. Cron patterns are of the host's time zone.
 * @param random From 0 to less than 1.
 */
export function nextCheck(cadence: Cadence, now: number, random: number): number {
  const [next, gap] = 'interval' in cadence ? [now + cadence.interval, cadence.interval] : scheduled(cadence, now);
  const jitter = cadence.jitter ?? Math.min(gap * JITTER_PART, MAX_IMPLIED_JITTER);
  return Math.round(next + random * jitter);
}

/**
 * When to try again after so many failures in a row, in Unix milliseconds: at random between half of the pause and all of
 * it, so that hosts which failed together do not come back together; but not before what the registry asked for has passed.
 * @param asked Milliseconds.
 * @param random From 0 to less than 1.
 */
export function nextAttempt(
  failures: number,
  asked: number,
  { now, random }: { readonly now: number; readonly random: number },
): number {
  const pause = Math.min(FIRST_PAUSE * 2 ** (failures - 1), MAX_PAUSE);
  return Math.round(now + asked + pause * (0.5 + random / 2));
}

function scheduled({ schedule }: { readonly schedule: string }, now: number): [next: number, gap: number] {
  const [first, second] = cron(schedule).nextRuns(2, new Date(now));
  // A pattern that names its last time: it is not checked any more.
  if (first === undefined) return [Number.MAX_SAFE_INTEGER, 0];
  return [first.getTime(), (second ?? first).getTime() - first.getTime()];
}

const cron = (pattern: string): Cron => new Cron(pattern, { mode: '5-part', paused: true });
