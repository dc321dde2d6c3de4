// Subscribers to the log of events, some hundred in a process of their own; `events.ts` starts it and asks for the result.
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';

/** What subscribers do besides reading. */
export type Habit = 'steady' | 'stalling' | 'reconnecting';

/** What the process is asked for. */
export interface Assignment {
  readonly socket: string;
  /** The sequence number after which the events begin. */
  readonly base: number;
  readonly events: number;
  readonly habits: readonly Habit[];
}

/** What the process answers, once all are subscribed and once all have everything. */
export type Report =
  | { readonly state: 'subscribed' }
  | {
      readonly state: 'done';
      /** Of a part of the steady subscribers' frames, from the event's time to its arrival. */
      readonly delaysMs: readonly number[];
      readonly connections: number;
    };

const STALL_MS = 3000;
const RECONNECTS = 3;
/** Every so many frames of a steady subscriber has its delay measured. */
const SAMPLE = 50;
/** What the end of a frame is read from: `"timeNano":1795472470827219021,"seq":10000}`. */
const TAIL_BYTES = 64;

const delaysMs: number[] = [];
let connections = 0;

process.once('message', (assignment: Assignment) => void serve(assignment));

async function serve({ socket, base, events, habits }: Assignment): Promise<void> {
  const subscribed: Promise<unknown>[] = [];
  const done = habits.map((habit) => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    subscribed.push(promise);
    return subscribe(habit, socket, base, base + events, resolve);
  });
  // A subscriber that fails before it is subscribed fails the process.
  await Promise.race([Promise.all(subscribed), Promise.all(done)]);
  tell({ state: 'subscribed' });
  await Promise.all(done);
  tell({ state: 'done', delaysMs, connections });
  process.disconnect?.();
}

const tell = (report: Report): unknown => process.send?.(report);

/** Takes every event from one sequence number to another; rejects when one is missing, or comes twice or out of order. */
async function subscribe(
  habit: Habit,
  path: string,
  base: number,
  last: number,
  onSubscribed: (value: unknown) => void,
): Promise<void> {
  const places =
    habit === 'steady' ? [] : Array.from({ length: RECONNECTS }, () => base + Math.ceil(Math.random() * (last - base)));
  const turns = places.sort((a, b) => a - b).slice(0, habit === 'stalling' ? 1 : RECONNECTS);
  for (let place = base; place < last;) {
    place = await new Promise<number>((resolve, reject) => {
      const socket = new WebSocket(`ws+unix://${path}:/layerd/events?cursor=${place}`, { perMessageDeflate: false });
      let at = place;
      let isSubscribed = false;
      connections += 1;
      socket.on('error', reject);
      socket.on('close', () => resolve(at));
      socket.on('message', (data: Buffer) => {
        if (!isSubscribed) {
          isSubscribed = true;
          onSubscribed(undefined);
          return;
        }
        const tail = data.toString('latin1', Math.max(0, data.length - TAIL_BYTES));
        const seq = Number(tail.slice(tail.lastIndexOf(':') + 1, -1));
        // What was on its way when it ended its connection is not its.
        if (socket.readyState !== WebSocket.OPEN) return;
        if (seq !== at + 1) reject(new Error(`event ${seq} came after ${at}`));
        at = seq;
        if (habit === 'steady' && seq % SAMPLE === 0) delaysMs.push(Date.now() - millisecondsIn(tail));
        if (at === last) socket.terminate();
        else if (turns[0] === at) {
          turns.shift();
          if (habit === 'reconnecting') socket.terminate();
          else {
            socket.pause();
            void sleep(STALL_MS).then(() => socket.resume());
          }
        }
      });
    });
  }
}

/** The time of the event, in Unix milliseconds. */
function millisecondsIn(tail: string): number {
  const start = tail.indexOf('"timeNano":') + '"timeNano":'.length;
  return Number(tail.slice(start, tail.indexOf(',', start) - 6));
}
