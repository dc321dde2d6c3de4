import { setTimeout as sleep } from 'node:timers/promises';
import { CloseCode, type EventMessage, type EventsFrame, type EventsGap, type EventsHello } from '../protocol/event.ts';
import type { TransferUpdate } from '../protocol/engine.ts';
import type { ErrorKind } from '../protocol/errors.ts';
import { ConnectionError, EngineError } from './errors.ts';
import { parseWithBigInt } from './json.ts';
import type { Messages } from './messages.ts';

/** The pause before connecting again, in milliseconds: it doubles with each failure up to the longest, less a random part. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;

const PASSING: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['unavailable', 'internal', 'too-many-requests']);

/** A connection that was lost, or could not be made again. */
export interface Outage {
  readonly error: EngineError;
  /** Failures since the last message that came, this one included. */
  readonly failures: number;
  /** Milliseconds until the next attempt. */
  readonly pause: number;
}

/** How to follow the log of events. What is told may be waited for: nothing goes on before. */
export interface FollowOptions {
  /** A sequence number to go on after; 0 for all events there are. */
  readonly cursor?: number | undefined;
  /** The identity of the store that the cursor is of, as `onHello` told it: another one's events are refused. */
  readonly store?: string | undefined;
  /** Whether to connect again, and go on, when the connection is lost. Default true. */
  readonly reconnect?: boolean | undefined;
  /** Told with each connection. */
  readonly onHello?: ((hello: EventsHello) => unknown) | undefined;
  /** Told of events that the daemon no longer has. Without it, they end the iteration with an {@link EventsGapError}. */
  readonly onGap?: ((gap: EventsGap) => unknown) | undefined;
  /** Told now and then, while nothing matches the filters, how far the log has been looked through. */
  readonly onBookmark?: ((seq: number) => unknown) | undefined;
  /**
   * Told how transfers are, between the events: all at first and after each outage, then each again whenever it has changed.
   * Where it is waited for, only the latest of each is told afterwards.
   */
  readonly onProgress?: ((update: TransferUpdate) => unknown) | undefined;
  /** Told when the connection is lost and will be made again. */
  readonly onOutage?: ((outage: Outage) => unknown) | undefined;
}

/** The daemon no longer has events that were to come next. Whoever can do without them goes on with `gap.to` as cursor. */
export class EventsGapError extends EngineError {
  readonly gap: EventsGap;

  constructor(gap: EventsGap) {
    super('not-found', gapText(gap));
    this.name = 'EventsGapError';
    this.gap = gap;
  }
}

/** What a gap means to a person. */
export const gapText = ({ from, to }: EventsGap): string =>
  `${from === to ? `event ${from} is` : `events ${from} to ${to} are`} lost: the daemon no longer keeps ${from === to ? 'it' : 'them'}`;

/** What {@link followEvents} connects with. */
export interface Source {
  readonly host: string;
  /** Opens a subscription; after a sequence number where one is given, else where the caller wanted to begin. */
  open(cursor: number | undefined): Promise<Messages>;
}

/**
 * Gives events in the order of the log, each at least once, however often the connection breaks or the daemon restarts in
 * between: each connection goes on after the last event that was handed over. Only the first one has to succeed.
 */
export async function* followEvents(
  source: Source,
  options: FollowOptions,
  signal: AbortSignal,
): AsyncGenerator<EventMessage, void, undefined> {
  let { cursor, store } = options;
  let failures = 0;
  for (let isFirst = true; ; isFirst = false) {
    let lost: EngineError;
    const connection = await connect(source, cursor, isFirst);
    if (connection instanceof EngineError) lost = connection;
    else {
      const cut = (): void => connection.cut();
      signal.addEventListener('abort', cut);
      if (signal.aborted) cut();
      try {
        for await (const text of connection) {
          signal.throwIfAborted();
          const frame = frameOf(text);
          if ('hello' in frame) {
            const { id, cursor: place } = frame.hello;
            if (store !== undefined && store !== id) throw anotherStore(source.host, store, id);
            store = id;
            cursor ??= place;
            await options.onHello?.(frame.hello);
            continue;
          }
          failures = 0;
          if ('gap' in frame) {
            // Whoever asks for all there is does not miss what is there no more.
            const isBeginning = isFirst && cursor === 0 && options.cursor === 0;
            cursor = frame.gap.to;
            if (isBeginning) continue;
            if (options.onGap === undefined) throw new EventsGapError(frame.gap);
            await options.onGap(frame.gap);
          } else if ('bookmark' in frame) {
            cursor = frame.bookmark.seq;
            await options.onBookmark?.(frame.bookmark.seq);
          } else if ('progress' in frame) {
            await options.onProgress?.(frame.progress);
          } else if ('seq' in frame) {
            cursor = frame.seq;
            yield frame;
          }
        }
      } finally {
        signal.removeEventListener('abort', cut);
      }
      const { code, reason, error } = connection.ending ?? { code: 0, reason: '', error: undefined };
      signal.throwIfAborted();
      if (code === CloseCode.done) return;
      if (code === CloseCode.refused || code === CloseCode.unsupported) throw new EngineError('invalid', reason);
      lost = new ConnectionError(source.host, error ?? new Error(reason === '' ? 'the connection was lost' : reason));
    }
    signal.throwIfAborted();
    if (options.reconnect === false) throw lost;
    failures += 1;
    // Random, so that a thousand subscribers do not come back to a daemon that restarts at once.
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
    const pause = Math.round(longest * (0.5 + Math.random() / 2));
    await options.onOutage?.({ error: lost, failures, pause });
    await sleep(pause, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** Connects; a failure that may pass is the result where it is not the first. */
async function connect(source: Source, cursor: number | undefined, isFirst: boolean): Promise<Messages | EngineError> {
  try {
    return await source.open(cursor);
  } catch (error) {
    if (!isFirst && error instanceof EngineError && mayPass(error)) return error;
    throw error;
  }
}

/** A daemon that is starting does not answer, answers 503, or is not behind its proxy yet. */
function mayPass(error: EngineError): boolean {
  return error instanceof ConnectionError || PASSING.has(error.kind);
}

function frameOf(text: string): EventsFrame {
  try {
    return parseWithBigInt(text, 'timeNano') as EventsFrame;
  } catch (cause) {
    throw new EngineError('corrupt', `the daemon sent a message that is not JSON: ${text.slice(0, 80)}`, { cause });
  }
}

function anotherStore(host: string, expected: string, found: string): EngineError {
  return new EngineError(
    'conflict',
    `the events at ${host} are those of another store, ${found}, than ${expected}, which they were followed of: its sequence numbers mean others; begin anew, with cursor 0 or without one`,
  );
}
