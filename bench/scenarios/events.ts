import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EventLog } from '../../src/daemon/events/log.ts';
import { Database } from '../../src/daemon/metadata/database.ts';
import { LayerdClient } from '../../src/client/index.ts';
import { startDaemon, type Daemon } from '../../test/support/daemon.ts';
import { image, layer, ociArchive } from '../../test/support/images.ts';
import { scratch } from '../../test/support/process.ts';
import type { Context } from '../context.ts';
import { figureOf, type Figure } from '../figure.ts';
import { memoryOf, percentile, resetPeak, timed } from '../measure.ts';
import type { Assignment, Habit, Report } from './subscribers.ts';

const EVENTS = 10_000;
const SUBSCRIBERS = 1000;
const PROCESSES = 2;
/** How many changes are asked for at a time. */
const CONCURRENCY = 8;
const APPENDS = 20_000;
const KEPT = 1_000_000;
const START_POLL_MS = 1;
const SECOND = 1_000_000_000n;

const FRAMES_PER_SECOND = 100_000;
const APPEND_US = 50;
const START_MS = 500;

/** Subscribers that read nothing, each at a place of its own. */
const STALLED = 500;
const LOGGED = 100_000;
const STALLED_KIB = 256;
const SETTLE_MS = 2000;
const POLL_MS = 20;

/** The log of events: told to a thousand subscribers at once, appended to, and started with a million events in it. */
export async function events(context: Context): Promise<Figure[]> {
  return [...(await fanOut(context)), ...(await stalled(context)), await appending(context), await starting(context)];
}

/** How subscribers come by events. */
const TRANSPORTS: readonly (readonly [name: string, path: (place: number) => string, headers: string])[] = [
  [
    'WebSockets',
    (place) => `/layerd/events?cursor=${place}`,
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3RhbGxlZHN1YnNjcmliZQ==\r\n',
  ],
  ['server-sent events', (place) => `/layerd/events?cursor=${place}`, 'Accept: text/event-stream\r\n'],
  ['GET /events', (place) => `/events?since=${place}`, ''],
];

/** What each subscriber costs the daemon that has asked for events and reads none, far behind the end of the log. */
async function stalled(context: Context): Promise<Figure[]> {
  await using daemon = await startDaemon({ args: ['--log-level', 'warn'] });
  await daemon.kill('SIGTERM');
  const began = Math.floor(Date.now() / 1000) - LOGGED;
  // A second apart, so that a time is a place too.
  fillLog(daemon, LOGGED, BigInt(began) * SECOND, SECOND);
  const figures: Figure[] = [];
  for (const [name, path, headers] of TRANSPORTS) {
    await daemon.start();
    const pid = daemon.process.child.pid ?? 0;
    const base = await newestOf(daemon);
    const first = base - LOGGED;
    // One to have everything loaded and some pages read.
    const open = (at: number): Socket => {
      const place = Math.floor((at * LOGGED) / (STALLED + 1));
      const socket = connect(daemon.socket);
      const target = path(name === 'GET /events' ? began + place : first + place);
      socket.write(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`);
      return socket.pause();
    };
    const sockets = [open(0)];
    await subscribed(daemon, 1);
    const { now: before } = await memoryOf(pid);
    for (let at = 1; at <= STALLED; at += 1) sockets.push(open(at));
    await subscribed(daemon, STALLED + 1);
    const { now: after } = await memoryOf(pid);
    for (const socket of sockets) socket.destroy();
    await daemon.kill('SIGTERM');
    const each = (after - before) / STALLED / 1024;
    context.log(`${STALLED} stalled subscribers over ${name}: ${each.toFixed(0)} KiB each`);
    figures.push(
      figureOf({
        scenario: 'memory, stalled',
        subject: `${STALLED}, each, ${name}`,
        engine: 'layerd',
        unit: 'KiB',
        runs: [each],
        atMost: STALLED_KIB,
      }),
    );
  }
  return figures;
}

/** Waits until so many subscribers are there, and what they are given first has been written. */
async function subscribed(daemon: Daemon, count: number): Promise<void> {
  const line = `\nlayerd_event_subscribers ${count}\n`;
  while (!(await daemon.request('/metrics')).body.includes(line)) await sleep(POLL_MS);
  await sleep(SETTLE_MS);
}

/** Writes events into the log of a daemon that does not run, the first of a time, in Unix nanoseconds, and so far apart. */
function fillLog({ dataRoot }: Daemon, count: number, first: bigint, apart: bigint): void {
  const db = new Database(join(dataRoot, 'metadata.db'));
  db.run(
    `WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ${count})
     INSERT INTO event (time, latest, type, action, actor, attributes)
     SELECT ?1 + n * ?2, ?1 + n * ?2, 'image', 'tag', 'sha256:' || n, '{"name":"library/redis"}' FROM number`,
    first,
    apart,
  );
  db.close();
}

/** Has clients tag an image so often that there are enough events, with everybody subscribed. */
async function fanOut(context: Context): Promise<Figure[]> {
  await using daemon = await startDaemon({ args: ['--log-level', 'warn'] });
  await using client = new LayerdClient({ host: `unix://${daemon.socket}` });
  const archive = await ociArchive(image({ layers: [await layer([{ name: 'a' }])] }), 'bench:0');
  await Array.fromAsync(client.load(piece(archive)));
  const pid = daemon.process.child.pid ?? 0;
  const base = await newestOf(daemon);
  const habits = Array.from({ length: SUBSCRIBERS }, (_, at) => habitOf(at));
  const workers = Array.from({ length: PROCESSES }, (_, at) => {
    const own = habits.filter((_habit, index) => index % PROCESSES === at);
    return new Subscribers({ socket: daemon.socket, base, events: EVENTS, habits: own });
  });
  try {
    await Promise.all(workers.map(({ subscribed }) => subscribed));
    context.log(`${SUBSCRIBERS} subscribers wait for ${EVENTS} events`);
    await resetPeak(pid);
    let connections = 0;
    const delays: number[] = [];
    const seconds = await timed(async () => {
      const numbers = Array.from({ length: EVENTS }, (_, at) => at).values();
      const tagging = Array.from({ length: CONCURRENCY }, async () => {
        for (const at of numbers) {
          context.signal.throwIfAborted();
          await client.tag('bench:0', `bench:${at % CONCURRENCY}`);
        }
      });
      const reports = Promise.all(workers.map(({ done }) => done));
      await Promise.all([reports, ...tagging]);
      for (const report of await reports) {
        for (const delay of report.delaysMs) delays.push(delay);
        connections += report.connections;
      }
    });
    const { peak } = await memoryOf(pid);
    const rate = (EVENTS * SUBSCRIBERS) / seconds;
    context.log(`${rate.toFixed(0)} frames in a second; ${connections} connections were made`);
    const common = { engine: 'layerd', subject: `${EVENTS} events, ${SUBSCRIBERS} subscribers` } as const;
    return [
      figureOf({ ...common, scenario: 'events, sent', unit: 'frames/s', runs: [rate], atLeast: FRAMES_PER_SECOND }),
      figureOf({ ...common, scenario: 'events, delay p99', unit: 'ms', runs: delays, value: percentile(delays, 99) }),
      figureOf({ ...common, scenario: 'memory, peak', unit: 'MB', runs: [peak / 1e6] }),
    ];
  } finally {
    for (const worker of workers) worker.end();
  }
}

/** Half of the subscribers stall once, a tenth reconnects. */
function habitOf(at: number): Habit {
  if (at % 10 === 9) return 'reconnecting';
  return at % 10 < 5 ? 'stalling' : 'steady';
}

async function newestOf(daemon: Daemon): Promise<number> {
  const { body } = await daemon.request('/metrics');
  return Number(/^layerd_events_last_sequence (\d+)$/m.exec(body)?.[1]);
}

async function* piece(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}

/** A process of subscribers. */
class Subscribers {
  readonly #child: ChildProcess;
  readonly subscribed: Promise<unknown>;
  readonly done: Promise<Extract<Report, { state: 'done' }>>;

  constructor(assignment: Assignment) {
    const child = fork(fileURLToPath(new URL('subscribers.ts', import.meta.url)));
    this.#child = child;
    const done = Promise.withResolvers<Extract<Report, { state: 'done' }>>();
    const subscribed = Promise.withResolvers<unknown>();
    child.on('message', (report: Report) => {
      if (report.state === 'done') done.resolve(report);
      else subscribed.resolve(undefined);
    });
    void once(child, 'exit').then(([code]) => {
      const error = new Error(`the process of subscribers ended with ${String(code)}`);
      subscribed.reject(error);
      done.reject(error);
    });
    // Whoever waits for one of them is told.
    for (const { promise } of [done, subscribed]) promise.catch(() => undefined);
    this.subscribed = subscribed.promise;
    this.done = done.promise;
    child.send(assignment);
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Times single appends, each a transaction, into a file on the disk. */
async function appending(context: Context): Promise<Figure> {
  await using folder = await scratch('bench-events');
  const db = new Database(join(folder.path, 'metadata.db'));
  const limits = { events: 2 * APPENDS, age: 1n << 62n, bytes: Number.MAX_SAFE_INTEGER };
  const log = new EventLog({ db, limits });
  const attributes = { name: 'library/redis', 'org.opencontainers.image.version': '7.2.4' };
  const runs: number[] = [];
  for (let count = 0; count < APPENDS; count += 1) {
    const begun = performance.now();
    log.append({ type: 'image', action: 'tag', actor: 'sha256:'.padEnd(71, 'a'), attributes });
    runs.push(1000 * (performance.now() - begun));
  }
  db.close();
  context.log(`appended ${APPENDS} events`);
  return figureOf({
    scenario: 'event, appended',
    subject: 'one transaction each',
    engine: 'layerd',
    unit: 'µs',
    runs,
    atMost: APPEND_US,
  });
}

/** Starts a daemon with a long log and one with none in turn; what counts is how much longer the first takes. */
async function starting(context: Context): Promise<Figure> {
  const args = ['--log-level', 'warn', '--events-max-count', String(2 * KEPT), '--events-max-size', '4g'];
  await using empty = await startDaemon({ args });
  await using full = await startDaemon({ args });
  await full.kill('SIGTERM');
  fillLog(full, KEPT, BigInt(Date.now()) * 1_000_000n - BigInt(KEPT), 1n);
  const startOf = async (daemon: Daemon): Promise<number> => {
    await daemon.kill('SIGTERM');
    return 1000 * (await timed(() => daemon.start(START_POLL_MS)));
  };
  const runs: number[] = [];
  await full.start();
  for (let run = 0; run < context.runs; run += 1) {
    context.signal.throwIfAborted();
    const [without, withEvents] = [await startOf(empty), await startOf(full)];
    runs.push(Math.max(0, withEvents - without));
    context.log(`start: ${without.toFixed(0)} ms without events, ${withEvents.toFixed(0)} ms with ${KEPT}`);
  }
  return figureOf({
    scenario: 'start, longer by',
    subject: `${KEPT} events`,
    engine: 'layerd',
    unit: 'ms',
    runs,
    atMost: START_MS,
  });
}
