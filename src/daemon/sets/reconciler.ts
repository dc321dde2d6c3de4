import PQueue from 'p-queue';
import { LayerdError, messageOf, type ErrorKind } from '../../protocol/errors.ts';
import type { PullRequest, Survey } from '../images/pull.ts';
import type { Credentials, Registries } from '../registry/registry.ts';
import { nextAttempt, nextCheck } from './cadence.ts';
import { plan, type PlannedMember } from './plan.ts';
import type { Failure, WantedImage } from './set.ts';
import { neededBy } from './space.ts';
import type { SetStore } from './store.ts';

/** Images that are pulled at once on behalf of sets; their layers wait in the daemon's queue like everybody's. */
const PULLS_AT_ONCE = 4;
/** Questions that registries are asked at once. */
const QUESTIONS_AT_ONCE = 8;
/** Whoever waits for a pull goes before. */
const PRIORITY = -10;

/** Changes are gathered for so long before the sets are looked at again, in milliseconds. */
const GATHER = 50;
/** The sets are looked at again after so long at the latest, in milliseconds: a clock that was set moves no timer. */
const MAX_REST = 60_000;
/** How long an image is left alone about which nothing could be noted, in milliseconds: the disk may be full. */
const RECOVERY = 30_000;
/** What was cancelled, or limited without saying for how long, is left alone so much longer, in milliseconds. */
const COOL_DOWN = 60_000;
/** No registry puts a check off for longer, in milliseconds: an hour. */
const MAX_RETRY_AFTER = 60 * 60_000;

/** Reasons of failures. */
const REASONS: Readonly<Partial<Record<ErrorKind, string>>> = {
  'not-found': 'NotFound',
  unauthorized: 'AccessDenied',
  forbidden: 'AccessDenied',
  unavailable: 'RegistryUnavailable',
  'too-many-requests': 'RateLimited',
  'no-space': 'InsufficientSpace',
  corrupt: 'Corrupt',
  cancelled: 'Cancelled',
};

/** The time, as the reconciler sees it. */
export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  /** Resolves after so many milliseconds, or when the signal is aborted. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

interface ReconcilerLog {
  debug(message: string, fields?: Record<string, unknown>): unknown;
  warn(message: string, fields?: Record<string, unknown>): unknown;
  error(message: string, fields?: Record<string, unknown>): unknown;
}

/** What the reconciler works with. */
export interface ReconcilerParts {
  readonly sets: SetStore;
  readonly images: {
    survey(request: PullRequest): Promise<Survey>;
    /** Resolves when the image is stored under its name. */
    pull(request: PullRequest): Promise<void>;
  };
  readonly registries: Pick<Registries, 'resolve'>;
  /** Gives the credentials of a name, for a registry. */
  readonly credentials: (name: string, registry: string) => Promise<Credentials>;
  /** Bytes that pulls may still write. */
  readonly spare: () => number;
  readonly clock: Clock;
  /** From 0 to less than 1. */
  readonly random: () => number;
  readonly log: ReconcilerLog;
}

/**
 * Makes it so that the images of all sets are here, and keeps it so. It is *started* once the store is in order, looks at
 * every set whenever something may have changed (it is *woken*) or is due, takes the steps of its plan, and notes what came
 * of each. It remembers nothing but what is under way: after a crash the plan is the same.
 */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #pulls = new PQueue({ concurrency: PULLS_AT_ONCE });
  readonly #questions = new PQueue({ concurrency: QUESTIONS_AT_ONCE });
  /** By set and image. */
  readonly #underWay = new Map<string, AbortController>();
  /** Bytes that pulls under way were given space for, and have not all written yet. */
  #promised = 0;
  readonly #closed = new AbortController();
  #isWoken = true;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
  }

  start(): void {
    if (!this.#closed.signal.aborted) this.#running ??= this.#run();
  }

  /** Says that sets or images may have changed. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /** Ends all work on behalf of sets; what has arrived stays for a resume. */
  async close(): Promise<void> {
    this.#closed.abort(new LayerdError('cancelled', 'the daemon stops'));
    for (const work of this.#underWay.values()) work.abort(this.#closed.signal.reason);
    this.#wake?.();
    await this.#running;
    await Promise.all([this.#pulls.onIdle(), this.#questions.onIdle()]);
  }

  async #run(): Promise<void> {
    const { sets, log } = this.#parts;
    const { signal } = this.#closed;
    while (!signal.aborted) {
      this.#isWoken = false;
      let wakeAt = Infinity;
      const wanted = new Set<string>();
      try {
        for (const name of sets.names()) {
          wakeAt = Math.min(wakeAt, this.#reconcile(name, wanted));
          // Others get their turn between two sets.
          await new Promise(setImmediate);
        }
        for (const [key, work] of this.#underWay) {
          if (!wanted.has(key)) work.abort(new LayerdError('cancelled', 'no image set wants it any more'));
        }
      } catch (error) {
        log.error(`image sets could not be looked at: ${messageOf(error)}`);
        wakeAt = Math.min(wakeAt, this.#parts.clock.now() + RECOVERY);
      }
      await this.#rest(wakeAt);
    }
  }

  /** Takes the steps of one set that are due; returns when to look at it again. Notes the images that it wants. */
  #reconcile(name: string, wanted: Set<string>): number {
    const { sets, clock } = this.#parts;
    const set = sets.get(name);
    if (set === undefined) return Infinity;
    const members = set.members.map((member) => {
      const key = keyOf(name, member.wanted);
      wanted.add(key);
      return { ...member, isUnderWay: this.#underWay.has(key) };
    });
    const { steps, wakeAt = Infinity } = plan(members, clock.now());
    for (const step of steps) {
      if (step.step === 'pin') sets.pin(name, step.member);
      else if (step.step === 'check') this.#begin([this.#claim(name, step.member)], (works) => this.#check(works));
      else {
        const works = step.members.map((member) => this.#claim(name, member));
        this.#begin(works, () => this.#pull(works));
      }
    }
    sets.settle(name);
    return wakeAt;
  }

  #claim(set: string, { wanted, state }: PlannedMember): Work {
    const work = {
      key: keyOf(set, wanted),
      set,
      wanted,
      failures: state.failures,
      error: state.error,
      abort: new AbortController(),
    };
    this.#underWay.set(work.key, work.abort);
    return work;
  }

  /** Does the work, and lets go of all of it at the end. */
  #begin(works: readonly Work[], body: (works: readonly Work[]) => Promise<void>): void {
    const { log, clock } = this.#parts;
    body(works)
      .catch(async (error: unknown) => {
        log.error(`the images of a set could not be seen to: ${messageOf(error)}`, { set: works[0]?.set });
        await clock.sleep(RECOVERY, this.#closed.signal);
      })
      .finally(() => {
        for (const work of works) this.#release(work);
      });
  }

  #release({ key, abort }: Work): void {
    // A later work may be at the same image by now.
    if (this.#underWay.get(key) !== abort) return;
    this.#underWay.delete(key);
    this.wake();
  }

  /** Asks registries which manifests references name by now. */
  async #check(works: readonly Work[]): Promise<void> {
    const { sets, registries } = this.#parts;
    const ask = (work: Work): Promise<unknown> =>
      this.#attempt(work, async ({ credentials, signal }) => {
        const { registry, path, tag = '' } = work.wanted.reference;
        const { digest } = await registries.resolve({ registry, path }, tag, { credentials, signal });
        sets.note(work.set, work.wanted, { checked: digest, nextAt: this.#nextCheck(work.wanted) });
      });
    await Promise.all(works.map((work) => this.#questions.add(() => ask(work))));
  }

  /** Pulls images of a set: none of them where there is no space for all of which registries tell what they need. */
  async #pull(works: readonly Work[]): Promise<void> {
    const { sets, images } = this.#parts;
    const surveyed = await Promise.all(
      works.map(async (work) => {
        const survey = await this.#questions.add(() => this.#attempt(work, (request) => images.survey(request)));
        if (survey === undefined) this.#release(work);
        return { work, survey };
      }),
    );
    const found = surveyed.flatMap(({ work, survey }) => (survey === undefined ? [] : [{ work, survey }]));
    const needs = neededBy(found.map(({ survey }) => survey));
    const shortage = this.#reserve(needs.reduce((sum, bytes) => sum + bytes, 0));
    if (shortage !== undefined) {
      for (const { work } of found) this.#note(work, { reason: 'InsufficientSpace', message: shortage }, 0);
      return;
    }
    await Promise.all(
      found.map(async ({ work }, index) => {
        try {
          await this.#pulls.add(() =>
            this.#attempt(work, async (request) => {
              await images.pull(request);
              if (sets.arrived(work.set, work.wanted, this.#nextCheck(work.wanted))) return;
              throw new LayerdError('conflict', 'it was removed again as soon as it was here');
            }),
          );
        } finally {
          this.#promised -= needs[index] ?? 0;
          this.#release(work);
        }
      }),
    );
  }

  /** Sets space aside for pulls; says how much there is where that is too little. */
  #reserve(bytes: number): string | undefined {
    const spare = Math.max(0, this.#parts.spare() - this.#promised);
    if (bytes > spare) {
      return `what is missing of the set needs ${megabytes(bytes)} of the disk, of which ${megabytes(spare)} are free; nothing of it is pulled until there is space`;
    }
    this.#promised += bytes;
    return undefined;
  }

  /** Makes an attempt at an image with the credentials of the set, and notes why it failed; undefined where it did. */
  async #attempt<T>(work: Work, body: (request: PullRequest) => Promise<T>): Promise<T | undefined> {
    const { set, wanted, abort } = work;
    const { reference, platform } = wanted;
    const { signal } = abort;
    try {
      signal.throwIfAborted();
      const credentials =
        wanted.credentials === undefined
          ? undefined
          : await this.#parts.credentials(wanted.credentials, reference.registry).catch((error: unknown) => {
              throw new CredentialsError(messageOf(error), { cause: error });
            });
      const client = `image set ${set}`;
      return await body({ reference, platform, credentials, client, priority: PRIORITY, signal });
    } catch (error) {
      // The daemon stops, or nobody wants it any more.
      if (!signal.aborted) this.#note(work, failureOf(error), pauseOf(error));
      return undefined;
    }
  }

  /** Notes a failure; `asked`: milliseconds before which nothing is to be tried. */
  #note({ set, wanted, failures, error }: Work, failed: Failure, asked: number): void {
    const { sets, clock, random, log } = this.#parts;
    const nextAt = nextAttempt(failures + 1, asked, { now: clock.now(), random: random() });
    sets.note(set, wanted, { failed, nextAt });
    // Once, not at every attempt.
    const level = error?.reason === failed.reason ? 'debug' : 'warn';
    log[level](`image set ${set}: ${wanted.name}: ${failed.message}`, {
      reason: failed.reason,
      next: new Date(nextAt).toISOString(),
    });
  }

  #nextCheck({ cadence }: WantedImage): number | undefined {
    const { clock, random } = this.#parts;
    return cadence === undefined ? undefined : nextCheck(cadence, clock.now(), random());
  }

  /** Waits until it is woken, or until the time. */
  async #rest(wakeAt: number): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#closed;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    if (!this.#isWoken && !signal.aborted) {
      const rest = Math.min(Math.max(wakeAt - clock.now(), 0), MAX_REST);
      await clock.sleep(rest, AbortSignal.any([signal, woken.signal]));
    }
    this.#wake = undefined;
    await clock.sleep(GATHER, signal);
  }
}

/** What is wrong is the daemon's file, whatever kind of error reading it was. */
class CredentialsError extends Error {}

/** An image of a set that somebody is at. */
interface Work {
  readonly key: string;
  readonly set: string;
  readonly wanted: WantedImage;
  readonly failures: number;
  /** Why the last attempt failed. */
  readonly error: Failure | undefined;
  readonly abort: AbortController;
}

/** References have no spaces. */
const keyOf = (set: string, { name, platformName }: WantedImage): string => `${set} ${name} ${platformName}`;

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;

function failureOf(error: unknown): Failure {
  const message = messageOf(error);
  if (error instanceof CredentialsError) return { reason: 'CredentialsUnusable', message };
  return { reason: (error instanceof LayerdError ? REASONS[error.kind] : undefined) ?? 'PullFailed', message };
}

/** How long at least an error asks not to try again, in milliseconds. */
function pauseOf(error: unknown): number {
  if (!(error instanceof LayerdError)) return 0;
  if (error.retryAfter !== undefined) return Math.min(error.retryAfter, MAX_RETRY_AFTER);
  return error.kind === 'too-many-requests' || error.kind === 'cancelled' ? COOL_DOWN : 0;
}
