import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { createLogger, format, transports, type Logger } from 'winston';

/** How important a log line is, most important first. */
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug';

/** What goes with a message, for machines. */
export type LogFields = Readonly<Record<string, unknown>>;

/** What a part of the daemon logs with: a message for people, and fields beside it. */
export type Log = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

/** A log that keeps fields for all that is logged during some work, however deep below. */
export interface ContextLog extends Log {
  within<T>(fields: LogFields, work: () => T): T;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: 'text' | 'json';
  /** Whether standard error is the journal, which keeps times by itself and wants `<priority>` prefixes. */
  readonly journal: boolean;
}

/** Milliseconds to wait at the end for the reader of a full pipe. */
const FLUSH_TIMEOUT = 1000;

const LEVELS: Readonly<Record<LogLevel, number>> = { fatal: 0, error: 1, warn: 2, info: 3, debug: 4 };
/** Priorities of syslog(3) as sd-daemon(3) takes them. */
const PRIORITIES: Readonly<Record<LogLevel, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7 };

/** The daemon's log: lines on standard error. */
export class DaemonLog implements ContextLog {
  readonly #logger: Logger;
  readonly #context = new AsyncLocalStorage<LogFields>();
  readonly #console = new transports.Console({ stderrLevels: Object.keys(LEVELS) });

  constructor({ level, format: form, journal }: LogOptions) {
    // Whoever reads the log may go away; that must not take the daemon along.
    process.stderr.on('error', () => undefined);
    this.#logger = createLogger({
      level,
      levels: LEVELS,
      format: format.printf((entry) => {
        const { level, message, fields } = entry as unknown as Entry;
        const line = form === 'json' ? jsonLine(level, message, fields) : textLine(level, message, fields, journal);
        return journal ? `<${PRIORITIES[level]}>${line}` : line;
      }),
      // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston types its own base class twice
      transports: [this.#console],
    });
  }

  /** Does the work. All that is logged on its account, by whatever part, has these fields. */
  within<T>(fields: LogFields, work: () => T): T {
    return this.#context.run({ ...this.#context.getStore(), ...fields }, work);
  }

  /** From now on only what is at least as important is logged. */
  setLevel(level: LogLevel): void {
    this.#logger.level = level;
  }

  /**
   * Resolves when all that was logged is written; nothing is logged after. winston queues what is logged in a burst, and
   * so does Node when a pipe is full; exiting would lose both. A reader that has stopped reading is not waited for long.
   */
  async close(): Promise<void> {
    const finished = once(this.#console, 'finish');
    this.#logger.end();
    await finished;
    const written = new Promise<void>((resolve) => process.stderr.write('', () => resolve()));
    await Promise.race([written, delay(FLUSH_TIMEOUT, undefined, { ref: false })]);
  }

  fatal(message: string, fields?: LogFields): void {
    this.#write({ level: 'fatal', message, fields });
  }

  error(message: string, fields?: LogFields): void {
    this.#write({ level: 'error', message, fields });
  }

  warn(message: string, fields?: LogFields): void {
    this.#write({ level: 'warn', message, fields });
  }

  info(message: string, fields?: LogFields): void {
    this.#write({ level: 'info', message, fields });
  }

  debug(message: string, fields?: LogFields): void {
    this.#write({ level: 'debug', message, fields });
  }

  /** The fields stay an object of their own: winston would join one named `message` to the message. */
  #write(entry: Entry): void {
    const context = this.#context.getStore();
    // Its own fields come first, and count where both have one.
    this.#logger.log(
      context === undefined ? entry : { ...entry, fields: { ...entry.fields, ...context, ...entry.fields } },
    );
  }
}

interface Entry {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields | undefined;
}

/**
 * Whether standard error goes to the journal: systemd says in JOURNAL_STREAM which device and inode the journal is, and
 * a child whose output was redirected inherits the variable but not the stream (systemd.exec(5)).
 */
export function isJournal(stream: string | undefined): boolean {
  const { dev, ino } = fstatSync(2);
  return stream === `${dev}:${ino}`;
}

function textLine(level: LogLevel, message: string, fields: LogFields = {}, journal: boolean): string {
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${fieldText(value)}`);
  const text = `${escaped(message)}${pairs.join('')}`;
  return journal ? text : `${new Date().toISOString()} ${level.toUpperCase().padEnd(5)} ${text}`;
}

function jsonLine(level: LogLevel, message: string, fields: LogFields = {}): string {
  const plain = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, plainValue(value)]));
  return escaped(JSON.stringify({ ...plain, time: new Date().toISOString(), level, message }));
}

/** Errors have no enumerable fields and bigints no JSON; both are said in words. */
function plainValue(value: unknown): unknown {
  if (value instanceof Error) return value.stack ?? value.message;
  return typeof value === 'bigint' ? value.toString() : value;
}

function fieldText(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? '[]' : fieldText(value.map(String).join(','));
  const plain = plainValue(value);
  const text = typeof plain === 'string' ? plain : JSON.stringify(plain);
  return /^[\w.,:/@+-]+$/.test(text) ? text : escaped(JSON.stringify(text));
}

/**
 * The text on one line, with nothing in it that a terminal obeys. What is logged comes from clients and registries; a
 * line break in it would forge a log line, an escape sequence would drive the terminal of whoever reads it.
 */
function escaped(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    // One escape for each UTF-16 unit, as in JSON.
    Array.from({ length: character.length }, (_, index) => escapeUnit(character.charCodeAt(index))).join(''),
  );
}

const escapeUnit = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`;
