import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/errors.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { Database } from '../metadata/database.ts';
import { isWithin } from '../transfers/bandwidth.ts';
import type { Repairer } from './repair.ts';
import type { CheckOptions, Flaw, Soundness, Subject } from './soundness.ts';
import type { ImageStore } from './store.ts';

/** Whether something is due is looked at this often, in milliseconds. */
const ROUND = 60_000;
/** How long after an image was stored its layers are looked at, in milliseconds: what comes right after may be a container. */
const SETTLED = 5000;
/** What could not be repaired is tried again after this, in milliseconds: a registry that was down may be up again. */
const RETRY = 60 * 60 * 1000;
/** While transfers are under way it waits, and looks again after this, in milliseconds. */
const BUSY = 500;

/** What may be changed while it runs. */
export interface ScrubSettings {
  /** Each file is read again after so many milliseconds; 0 for never. */
  readonly interval: number;
  /** Bytes a second. */
  readonly rate: number;
  /** Only at that time of day, in minutes since midnight; an end before the begin is on the next day. */
  readonly hours: { readonly from: number; readonly to: number } | undefined;
}

/** What scrubbing is done with. */
export interface ScrubberParts {
  readonly db: Database;
  readonly store: ImageStore;
  readonly soundness: Soundness;
  readonly repairer: Repairer;
  /** Whether transfers are under way, which then have the disk and the processors for themselves. */
  readonly isBusy: () => boolean;
  readonly log: {
    info(message: string, fields?: Record<string, unknown>): unknown;
    error(message: string, fields?: Record<string, unknown>): unknown;
  };
  readonly settings: ScrubSettings;
  /** For the time of day and of checks. */
  readonly now?: () => Date;
}

/**
 * Looks after the store in the background: records what the EROFS image of a new layer holds, once nothing else is going on,
 * and reads everything again from time to time, slowly, the longest not read first. What proves damaged is repaired where
 * that is possible without anybody's credentials, and told of in the log and by an event in any case.
 */
export class Scrubber {
  readonly #parts: ScrubberParts;
  readonly #now: () => Date;
  readonly #stop = new AbortController();
  #settings: ScrubSettings;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #retried = -Infinity;

  constructor(parts: ScrubberParts) {
    this.#parts = parts;
    this.#settings = parts.settings;
    this.#now = parts.now ?? (() => new Date());
  }

  set settings(settings: ScrubSettings) {
    this.#settings = settings;
  }

  /** Begins, after a start of the daemon. */
  start(): void {
    this.#next(SETTLED);
  }

  /** Says that layers were stored whose images are to be recorded. */
  recordLater(): void {
    this.#next(SETTLED);
  }

  /** Ends it; resolves when nothing is being read any more. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the daemon is shutting down'));
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Does all that is due now. Never rejects. */
  async round(): Promise<void> {
    try {
      await this.#record();
      await this.#retry();
      await this.#scrub();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#parts.log.error(`the background verification of the store failed: ${messageOf(error)}`);
    }
  }

  #next(delay: number): void {
    if (this.#stop.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#running = this.#running.then(() => this.round()).then(() => this.#next(ROUND));
    }, delay).unref();
  }

  async #record(): Promise<void> {
    const rows = this.#parts.db.all<{ digest: Digest }>(
      'SELECT diff_id AS digest FROM layer WHERE image_digest IS NULL AND damage IS NULL AND durable = 1',
    );
    for (const { digest } of rows) await this.#check({ kind: 'layer', digest }, () => this.#quiet());
  }

  async #retry(): Promise<void> {
    if (performance.now() - this.#retried < RETRY) return;
    this.#retried = performance.now();
    const rows = this.#parts.db.all<Pick<Subject, 'kind' | 'digest'> & { reason: string }>(
      `SELECT 'blob' AS kind, digest, damage AS reason FROM blob WHERE damage IS NOT NULL
       UNION ALL SELECT 'layer', diff_id, damage FROM layer WHERE damage IS NOT NULL`,
    );
    for (const { reason, ...subject } of rows) await this.#repair(subject, { problem: 'damaged', reason });
  }

  async #scrub(): Promise<void> {
    for (let due = this.#due(); due !== undefined; due = this.#due()) {
      await this.#check(due, async (bytes) => {
        await this.#pause((bytes * 1000) / this.#settings.rate);
        await this.#quiet();
      });
    }
  }

  /** What has not been read for the longest, if its time has come, and it is the time of day. */
  #due(): Pick<Subject, 'kind' | 'digest'> | undefined {
    const { interval, hours } = this.#settings;
    const now = this.#now();
    if (interval === 0) return undefined;
    if (hours !== undefined && !isWithin(now.getHours() * 60 + now.getMinutes(), hours)) return undefined;
    return this.#parts.db.get<Pick<Subject, 'kind' | 'digest'>>(
      `SELECT kind, digest FROM (
         SELECT 'blob' AS kind, digest, COALESCE(verified_at, created_at) AS at FROM blob WHERE damage IS NULL
         UNION ALL
         SELECT 'layer', diff_id, COALESCE(verified_at, created_at) FROM layer WHERE damage IS NULL
       ) WHERE at < ? ORDER BY at LIMIT 1`,
      now.getTime() - interval,
    );
  }

  async #check(subject: Pick<Subject, 'kind' | 'digest'>, pace: CheckOptions['pace']): Promise<void> {
    await this.#quiet();
    const { signal } = this.#stop;
    const flaw = await this.#parts.soundness.check(subject, { signal, ...(pace && { pace }) });
    if (flaw !== undefined) await this.#repair(subject, flaw);
  }

  async #repair({ kind, digest }: Pick<Subject, 'kind' | 'digest'>, { problem, reason }: Flaw): Promise<void> {
    const { store, repairer, log } = this.#parts;
    log.error(`a stored ${kind} is ${problem}: ${reason}`, { digest });
    store.changed();
    try {
      const options = { client: 'layerd', credentialsFor: () => undefined, signal: this.#stop.signal };
      await repairer.repair({ kind, digest }, options);
      store.changed();
      log.info(`the ${kind} has been repaired`, { digest });
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      log.error(`the ${kind} could not be repaired: ${messageOf(error)}; layerctl verify --repair tries again`, {
        digest,
      });
    }
  }

  async #quiet(): Promise<void> {
    while (this.#parts.isBusy()) await this.#pause(BUSY);
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stop.signal, ref: false });
  }
}
