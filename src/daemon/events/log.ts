import type { Database } from '../metadata/database.ts';
import type { Event, EventType, NewEvent } from './event.ts';

/** Every so many events are followed by a pruning, inside the transaction that appends. */
const PRUNE_EVERY = 64;
/** Events that one pruning removes at most: more than were appended since the last one, so that it catches up. */
const PRUNE_BATCH = 256;
/** Events that are read from the database, and held by a subscriber as text, at a time. */
const PAGE_SIZE = 64;
/** A page has no more than this of attributes, in characters, unless one event alone does: what a subscriber holds is bounded. */
const PAGE_CHARACTERS = 32 * 1024;
/** Pages that are kept for the next subscriber who comes to the same place. */
const MAX_PAGES = 16;
/**
 * How far, in nanoseconds, an event may be dated ahead of the clock so that it stays later than the one before it. A
 * clock that was set back by more than this is followed.
 */
const MAX_LEAD = 1_000_000_000n;

/**
 * Numbers that are left out after a reboot. A power loss takes the transactions since the last checkpoint, of which the WAL
 * has some megabytes: far fewer events than that, each of which takes more than 64 bytes.
 */
const SKIPPED = 1_000_000;

/** Whether a subscriber wants an event. */
export type EventFilter = (event: Event) => boolean;

/** A stretch of the log, shared by all who stand at the same place in it. */
export interface Page {
  readonly events: readonly Event[];
  /** The sequence number that a reader stands at after it. */
  readonly last: number;
}

/** What the log reaches back to. An empty log has `oldest` = `newest` + 1. */
export interface Retention {
  readonly oldest: number;
  readonly newest: number;
}

/** What the log keeps at most; the oldest events go first. */
export interface EventLogLimits {
  readonly events: number;
  /** Nanoseconds. */
  readonly age: bigint;
  /** Bytes of the events, about. */
  readonly bytes: number;
}

interface EventRow {
  seq: number;
  time: string;
  type: EventType;
  action: string;
  actor: string;
  attributes: string;
}

/** The durable log of events, rows of the metadata database. */
export class EventLog {
  readonly #db: Database;
  readonly #now: () => bigint;
  #limits: EventLogLimits;
  readonly #sleepers = new Set<() => void>();
  /** By the place before them. */
  readonly #pages = new Map<number, Page>();
  #end: number | undefined;
  /** Where each subscriber stands. */
  readonly #subscribers = new Set<() => number>();
  readonly #onAppend: (event: NewEvent) => void;
  #closed = false;
  #lastTime: bigint | undefined;

  constructor({
    db,
    now = () => BigInt(Date.now()) * 1_000_000n,
    limits,
    rebooted = false,
    onAppend = () => undefined,
  }: {
    readonly db: Database;
    /** Unix nanoseconds. */
    readonly now?: () => bigint;
    readonly limits: EventLogLimits;
    /** Whether the newest events may have been lost, because the host was booted since. */
    readonly rebooted?: boolean;
    /** Is told of each event once it is in the log. */
    readonly onAppend?: (event: NewEvent) => void;
  }) {
    this.#db = db;
    this.#now = now;
    this.#limits = limits;
    this.#onAppend = onAppend;
    if (rebooted) this.#skipLost();
  }

  /** What it keeps from the next pruning on. */
  set limits(limits: EventLogLimits) {
    this.#limits = limits;
  }

  /** How many subscribers follow the log. */
  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** How many events the slowest subscriber has not taken yet, whether they concern it or not. */
  get lag(): number {
    return Math.max(0, ...[...this.#subscribers].map((place) => this.end - place()));
  }

  /**
   * Appends an event, inside the caller's transaction if there is one: it is in the log if and only if the change that
   * it tells of was made. Subscribers are woken once that is committed.
   */
  append(event: NewEvent): void {
    const time = this.#nextTime();
    const { lastInsertRowid: seq } = this.#db.run(
      `INSERT INTO event (time, latest, type, action, actor, attributes)
       VALUES (?1, MAX(?1, COALESCE((SELECT latest FROM event ORDER BY seq DESC LIMIT 1), ?1)), ?2, ?3, ?4, ?5)`,
      time,
      event.type,
      event.action,
      event.actor,
      JSON.stringify(event.attributes ?? {}),
    );
    this.#lastTime = time;
    if (seq % PRUNE_EVERY === 0) this.prune();
    this.#db.afterCommit(() => {
      this.#end = Math.max(seq, this.#end ?? 0);
      this.#onAppend(event);
      this.#wake();
    });
  }

  /** Events after a place in the log, oldest first. */
  read(after = 0, limit: number = PAGE_SIZE): Event[] {
    // Nanoseconds do not fit a JavaScript number, so they leave SQLite as text.
    return this.#db
      .all<EventRow>(
        `SELECT seq, CAST(time AS TEXT) AS time, type, action, actor, attributes FROM event
         WHERE seq > ? ORDER BY seq LIMIT ?`,
        after,
        limit,
      )
      .map((row) => ({
        ...row,
        time: BigInt(row.time),
        attributes: JSON.parse(row.attributes) as Record<string, string>,
      }));
  }

  /** The place at the end of the log. Inside of a transaction, without what that has appended. */
  get end(): number {
    return (this.#end ??= this.retention().newest);
  }

  /**
   * What comes after a place in the log, empty at its end; undefined where the log no longer reaches back so far. Not to be
   * called in a transaction. However many subscribers stand at one place, it is read once.
   */
  page(after: number): Page | undefined {
    if (after >= this.end) return { events: [], last: after };
    const known = this.#pages.get(after);
    // It may have been short because the log ended there; what came since is on the page after it.
    if (known !== undefined) return known;
    if (this.retention().oldest > after + 1) return undefined;
    const events: Event[] = [];
    let characters = 0;
    for (const event of this.read(after)) {
      for (const [name, value] of Object.entries(event.attributes)) characters += name.length + value.length;
      if (events.length > 0 && characters > PAGE_CHARACTERS) break;
      events.push(event);
    }
    const page = { events, last: events.at(-1)?.seq ?? this.end };
    this.#pages.set(after, page);
    const [oldest] = this.#pages.keys();
    if (this.#pages.size > MAX_PAGES && oldest !== undefined) this.#pages.delete(oldest);
    return page;
  }

  /** Resolves when something is appended after a place, at once where that is so, or when the signal is aborted. */
  async appended(after: number, signal: AbortSignal): Promise<void> {
    if (after < this.end || signal.aborted || this.#closed) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const wake = (): void => resolve(undefined);
    this.#sleepers.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
    this.#sleepers.delete(wake);
  }

  /** Counts a subscriber until it is disposed of. `place`: the sequence number of the last event that it has taken. */
  attend(place: () => number): Disposable {
    this.#subscribers.add(place);
    return { [Symbol.dispose]: () => void this.#subscribers.delete(place) };
  }

  /** Whether the daemon stops. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Ends every reader, since the daemon stops. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /** What the log reaches back to. */
  retention(): Retention {
    const newest = this.#db.get<{ seq: number }>("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?.seq ?? 0;
    const oldest = this.#db.get<{ seq: number | null }>('SELECT min(seq) AS seq FROM event')?.seq ?? newest + 1;
    return { oldest, newest };
  }

  /** Removes some of the events beyond the limits, always from the old end; returns how many. */
  prune(): number {
    const { events, age, bytes: maxBytes } = this.#limits;
    const oldestKept = this.retention().newest - events + 1;
    let bytes = this.#db.get<{ bytes: number }>('SELECT bytes FROM event_size')?.bytes ?? 0;
    const batch = this.#db.all<{ seq: number; keep: number; bytes: number }>(
      `SELECT seq, seq >= ? AND time >= ? AS keep, octet_length(attributes) + octet_length(actor) + 64 AS bytes
       FROM event ORDER BY seq LIMIT ?`,
      oldestKept,
      this.#now() - age,
      PRUNE_BATCH,
    );
    // Up to the first one to keep: an event that seems older than the one before it must not leave a hole.
    let last: number | undefined;
    for (const event of batch) {
      if (event.keep === 1 && bytes <= maxBytes) break;
      last = event.seq;
      bytes -= event.bytes;
    }
    return last === undefined ? 0 : this.#db.run('DELETE FROM event WHERE seq <= ?', last).changes;
  }

  /**
   * The place in the log just before the first event of a time, in Unix nanoseconds, or later, whatever the clock did
   * among them: by the latest time up to each event, which only grows.
   */
  before(time: bigint): number {
    const row = this.#db.get<{ seq: number }>(
      'SELECT seq FROM event WHERE latest >= ? ORDER BY latest, seq LIMIT 1',
      time,
    );
    return row === undefined ? this.retention().newest : row.seq - 1;
  }

  /**
   * Leaves out the numbers of events that were told and then lost, so that none is given to another event. Durably, for
   * the next power loss may come before anything else is synced.
   */
  #skipLost(): void {
    this.#db.durable(() => {
      const { newest } = this.retention();
      this.#db.run("DELETE FROM sqlite_sequence WHERE name = 'event'");
      this.#db.run("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", newest + SKIPPED);
    });
  }

  #wake(): void {
    for (const wake of [...this.#sleepers]) wake();
  }

  /** The clock, moved on where it would give an event the same time as the last, so that a time finds its place again. */
  #nextTime(): bigint {
    const now = this.#now();
    const last = (this.#lastTime ??= BigInt(
      this.#db.get<{ time: string }>('SELECT CAST(time AS TEXT) AS time FROM event ORDER BY seq DESC LIMIT 1')?.time ??
        0,
    ));
    return now <= last && last - now < MAX_LEAD ? last + 1n : now;
  }
}
