import { setTimeout as sleep } from 'node:timers/promises';
import type { DemandReport } from '../../protocol/engine.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import {
  canonicalString,
  familiarName,
  familiarString,
  parseReference,
  withDefaultTag,
  type Reference,
} from '../../protocol/reference.ts';
import type { EventLog } from '../events/log.ts';
import type { Database } from '../metadata/database.ts';
import type { Credentials } from '../registry/registry.ts';
import type { Demand, Demands } from '../transfers/demand.ts';
import { formatPlatform, parsePlatform } from './platform.ts';

/** The pause before a pull is tried again, in milliseconds: it doubles with each failure, up to the longest. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 5 * 60 * 1000;
/** A pull ends when nothing has arrived for so long, in milliseconds: 24 hours, as what has arrived is kept for a resume. */
const PATIENCE = 24 * 60 * 60 * 1000;
/** How it ended is told for so long, in milliseconds: 24 hours; and of so many. */
const KEPT = 24 * 60 * 60 * 1000;
const MAX_KEPT = 1000;
/** Whoever watches one is told of it at most this often, in milliseconds. */
const WATCH_INTERVAL = 200;

/** What is to be pulled whoever stays. */
export interface DetachedRequest {
  readonly reference: Reference;
  /** As {@link DetachedPulls.platform} writes it; undefined for this host's. */
  readonly platform: string | undefined;
  /** All that an index lists. */
  readonly allPlatforms: boolean;
  /** Kept in memory alone. */
  readonly credentials: Credentials | undefined;
  readonly client: string;
  readonly priority: number;
}

/** How one ended. */
type Ending = 'done' | 'failed' | 'cancelled';

/** What detached pulls work with. */
export interface DetachedParts {
  readonly db: Database;
  readonly events: Pick<EventLog, 'append'>;
  readonly demands: Demands;
  /** One attempt. */
  pull(request: DetachedRequest & { readonly demand: Demand; readonly signal: AbortSignal }): Promise<void>;
  readonly host: Platform;
  readonly log: { error(message: string, fields?: Record<string, unknown>): void };
  /** Rejects when the signal is aborted. */
  readonly pause?: Pause;
}

type Pause = (milliseconds: number, signal: AbortSignal) => Promise<unknown>;

interface Row {
  id: string;
  reference: string;
  platform: string | null;
  all_platforms: number;
  priority: number;
  client: string;
  since: number;
  authenticated: number;
  state: 'running' | Ending;
  error: string | null;
  ended_at: number | null;
  size: number;
  received: number;
}

/** One that goes on. */
interface Running {
  readonly request: DetachedRequest;
  readonly demand: Demand;
  credentials: Credentials | undefined;
  /** Whether it had credentials that went with the process which knew them. */
  hasLostCredentials: boolean;
  hasEnded: boolean;
  /** Aborted to have it try again at once. */
  wake: AbortController;
}

/**
 * Pulls that go on though nobody waits for them. One is *begun*, as a row, before whoever asks is told its identifier; a
 * request for the same joins it. It is tried again while its registry cannot be reached, and goes on after a restart of the
 * daemon, until it is *done*, has *failed* or is *cancelled*, which is a row for some time, and an event.
 */
export class DetachedPulls {
  readonly #parts: DetachedParts;
  readonly #running = new Map<string, Running>();
  readonly #work = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #pause: Pause;

  constructor(parts: DetachedParts) {
    this.#parts = parts;
    this.#pause = parts.pause ?? ((milliseconds, signal) => sleep(milliseconds, undefined, { signal }));
  }

  /** Goes on with those that were under way when the daemon ended. */
  resume(): void {
    this.#forget();
    for (const row of this.#parts.db.all<Row>(`SELECT * FROM detached_pull WHERE state = 'running' ORDER BY since`)) {
      const request: DetachedRequest = {
        reference: parseReference(row.reference),
        platform: row.platform ?? undefined,
        allPlatforms: row.all_platforms === 1,
        credentials: undefined,
        client: row.client,
        priority: row.priority,
      };
      const since = new Date(row.since).toISOString();
      this.#run(request, { id: row.id, since, hasLostCredentials: row.authenticated === 1 });
    }
  }

  /** The platform as requests of the same have it. Throws `invalid` where it is none. */
  platform(specifier: string): string {
    return formatPlatform(parsePlatform(specifier, this.#parts.host));
  }

  /** Begins a pull, or joins the one of the same that goes on, which is given the credentials and tries at once if it waits. */
  begin(asked: DetachedRequest): DemandReport {
    if (this.#stop.signal.aborted) throw new LayerdError('unavailable', 'the daemon is shutting down; ask again');
    const request = { ...asked, reference: withDefaultTag(asked.reference) };
    const present = this.#running.get(keyOf(request));
    if (present !== undefined) return this.#join(present, request);
    const running = this.#run(request, {}, ({ id, since }) => {
      const { reference, platform, allPlatforms, client, priority, credentials } = request;
      this.#parts.db.run(
        `INSERT INTO detached_pull (id, reference, platform, all_platforms, priority, client, since, authenticated, state)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'running')`,
        id,
        canonicalString(reference),
        platform ?? null,
        Number(allPlatforms),
        priority,
        client,
        Date.parse(since),
        Number(credentials !== undefined),
      );
    });
    return running.demand.report();
  }

  /** Those that have ended, as long as they are kept; the oldest first. */
  ended(): DemandReport[] {
    return this.#parts.db
      .all<Row>(
        `SELECT * FROM detached_pull WHERE state <> 'running' AND ended_at > ? ORDER BY ended_at`,
        Date.now() - KEPT,
      )
      .map(reportOf);
  }

  /**
   * A pull, push or copy under way, or a detached pull that has ended.
   * @throws LayerdError of kind not-found
   */
  find(id: string): DemandReport {
    const row = this.#parts.db.get<Row>(`SELECT * FROM detached_pull WHERE id = ? AND state <> 'running'`, id);
    return row === undefined ? this.#parts.demands.find(id).report() : reportOf(row);
  }

  /** What {@link find} tells, again whenever that is something else, until it has ended or the signal is aborted. */
  async *watch(id: string, signal: AbortSignal): AsyncGenerator<DemandReport, void, undefined> {
    const stop = AbortSignal.any([signal, this.#stop.signal]);
    let told = '';
    for (let report: DemandReport | undefined = this.find(id); report !== undefined; report = this.#latest(id)) {
      const text = JSON.stringify(report);
      if (text !== told) yield report;
      told = text;
      if (report.endedAt !== undefined) return;
      await sleep(WATCH_INTERVAL, undefined, { signal: stop }).catch(() => undefined);
      if (stop.aborted) return;
    }
  }

  /** Stops what goes on, to go on after the next start. Resolves when nothing does. */
  async stop(): Promise<void> {
    this.#stop.abort(new LayerdError('unavailable', 'the daemon is shutting down'));
    await Promise.all(this.#work);
  }

  #latest(id: string): DemandReport | undefined {
    try {
      return this.find(id);
    } catch (error) {
      // A pull that is not detached leaves nothing behind.
      if (isKind(error, 'not-found')) return undefined;
      throw error;
    }
  }

  #join(running: Running, { credentials, priority }: DetachedRequest): DemandReport {
    const { demand } = running;
    if (priority > demand.priority) demand.prioritize(priority);
    if (credentials !== undefined) {
      running.credentials = credentials;
      running.hasLostCredentials = false;
      this.#parts.db.run('UPDATE detached_pull SET authenticated = 1 WHERE id = ?', demand.id);
    }
    running.wake.abort();
    return demand.report();
  }

  /** `record`: writes it down, before anything begins. */
  #run(
    request: DetachedRequest,
    known: { readonly id?: string; readonly since?: string; readonly hasLostCredentials?: boolean },
    record: (demand: Demand) => void = () => undefined,
  ): Running {
    const demand = this.#parts.demands.begin(
      {
        ...known,
        verb: 'pull',
        reference: familiarString(request.reference),
        client: request.client,
        priority: request.priority,
      },
      {
        cancelled: (message) => this.#end(running, 'cancelled', message),
        prioritized: (priority) =>
          void this.#parts.db.run('UPDATE detached_pull SET priority = ? WHERE id = ?', priority, demand.id),
      },
    );
    const running: Running = {
      request,
      demand,
      credentials: request.credentials,
      hasLostCredentials: known.hasLostCredentials === true,
      hasEnded: false,
      wake: new AbortController(),
    };
    try {
      record(demand);
    } catch (error) {
      demand[Symbol.dispose]();
      throw error;
    }
    this.#running.set(keyOf(request), running);
    const work = this.#pull(running).finally(() => {
      demand[Symbol.dispose]();
      this.#work.delete(work);
    });
    this.#work.add(work);
    return running;
  }

  /** Tries until it has ended, or the daemon stops. Never rejects. */
  async #pull(running: Running): Promise<void> {
    const { request, demand } = running;
    let failures = 0;
    let received = 0;
    let progressAt = performance.now();
    while (!this.#isOver(running)) {
      running.wake = new AbortController();
      const { credentials } = running;
      try {
        await this.#parts.pull({ ...request, credentials, demand, signal: this.#stop.signal });
        this.#finish(running, 'done');
        return;
      } catch (error) {
        if (this.#isOver(running)) return;
        const report = demand.report();
        if (report.received > received) {
          ({ received } = report);
          progressAt = performance.now();
          failures = 0;
        }
        if (!mayPass(error) || performance.now() - progressAt > PATIENCE) {
          this.#finish(running, isKind(error, 'cancelled') ? 'cancelled' : 'failed', reasonOf(error, running));
          return;
        }
        demand.setback = messageOf(error);
        const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
        failures += 1;
        const signal = AbortSignal.any([this.#stop.signal, demand.signal, running.wake.signal]);
        // Random, so that the pulls which a registry refused together do not come back together.
        await this.#pause(longest * (0.5 + Math.random() / 2), signal).catch(() => undefined);
        demand.setback = undefined;
      }
    }
  }

  /** Whether nothing more is to be done for it here. */
  #isOver(running: Running): boolean {
    return this.#stop.signal.aborted || running.hasEnded;
  }

  #finish(running: Running, ending: Ending, error?: string): void {
    try {
      this.#end(running, ending, error);
    } catch (failure) {
      // The row says that it goes on: the next start comes back to it.
      this.#running.delete(keyOf(running.request));
      this.#parts.log.error(`the end of a detached pull could not be recorded: ${messageOf(failure)}`, {
        id: running.demand.id,
      });
    }
  }

  /** Its end and the event of it. */
  #end(running: Running, ending: Ending, error?: string): void {
    if (running.hasEnded) return;
    const { demand, request } = running;
    const { size, received } = demand.report();
    this.#parts.db.transaction(() => {
      this.#parts.db.run(
        'UPDATE detached_pull SET state = ?, error = ?, ended_at = ?, size = ?, received = ? WHERE id = ?',
        ending,
        error ?? null,
        Date.now(),
        size,
        received,
        demand.id,
      );
      this.#parts.events.append({
        type: 'image',
        action: 'pull-end',
        actor: familiarString(request.reference),
        attributes: {
          name: familiarName(request.reference),
          id: demand.id,
          result: ending,
          ...(error === undefined ? {} : { error }),
        },
      });
      this.#forget();
    });
    running.hasEnded = true;
    this.#running.delete(keyOf(request));
    // From now on it is the row that tells of it.
    demand[Symbol.dispose]();
  }

  #forget(): void {
    this.#parts.db.run(
      `DELETE FROM detached_pull WHERE state <> 'running' AND (ended_at < ? OR id NOT IN
         (SELECT id FROM detached_pull WHERE state <> 'running' ORDER BY ended_at DESC LIMIT ?))`,
      Date.now() - KEPT,
      MAX_KEPT,
    );
  }
}

/** What is the same pull, whoever asks for it. */
const keyOf = ({ reference, platform, allPlatforms }: DetachedRequest): string =>
  `${canonicalString(reference)} ${allPlatforms ? '*' : (platform ?? '')}`;

/** Whether the registry may do later what it did not do now. */
const mayPass = (error: unknown): boolean => isKind(error, 'unavailable') || isKind(error, 'too-many-requests');

/** Why it failed. Some registries say of what they hide that it is not there. */
function reasonOf(error: unknown, { hasLostCredentials }: Running): string {
  const message = messageOf(error);
  const isRefused = isKind(error, 'unauthorized') || isKind(error, 'forbidden') || isKind(error, 'not-found');
  if (!isRefused || !hasLostCredentials) return message;
  return `${message}; its credentials were kept in memory alone, and the daemon was restarted: ask for the pull again, with credentials`;
}

function reportOf(row: Row): DemandReport {
  return {
    id: row.id,
    verb: 'pull',
    reference: familiarString(parseReference(row.reference)),
    client: row.client,
    since: new Date(row.since).toISOString(),
    priority: row.priority,
    detached: true,
    state: row.state,
    size: row.size,
    received: row.received,
    rate: 0,
    ...(row.error === null ? {} : { lastError: row.error }),
    ...(row.ended_at === null ? {} : { endedAt: new Date(row.ended_at).toISOString() }),
    transfers: [],
  };
}
