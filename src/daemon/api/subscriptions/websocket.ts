import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { isKind, LayerdError, messageOf } from '../../../protocol/errors.ts';
import type { TransferUpdate } from '../../../protocol/engine.ts';
import { CloseCode, type EventsHello } from '../../../protocol/event.ts';
import type { Event } from '../../events/event.ts';
import { written } from '../written.ts';
import { eventMessage, noticeMessage, progressMessage, progressUpdates } from './messages.ts';
import { filterOf } from './request.ts';
import type { Delivery, Subscription } from './subscription.ts';

/** How often a client is pinged, in milliseconds. */
const PING_MILLISECONDS = 30_000;
/** A client that neither reads nor answers for so many pings is gone: 5 minutes. One that is merely slow gets its time. */
const MAX_SILENT_PINGS = 10;
/** Bytes of a reason, of the 125 that a control frame has (RFC 6455, 5.5). */
const REASON_BYTES = 120;

/** Opcode and final bit of a whole text message (RFC 6455, 5.2). */
const TEXT = 0x81;

/**
 * Frames that were made already: an event's is the same for every subscriber, and so are those of a stretch of the log.
 * They go with the events, and with the reports of transfers.
 */
export class Frames {
  readonly #single = new WeakMap<Event | TransferUpdate, Buffer>();
  readonly #joined = new WeakMap<readonly Event[], Buffer>();

  /** The frames of the events, one after the other. */
  of(events: readonly Event[]): Buffer {
    let joined = this.#joined.get(events);
    if (joined === undefined) {
      joined = Buffer.concat(events.map((event) => this.#frame(event, eventMessage)));
      this.#joined.set(events, joined);
    }
    return joined;
  }

  /** The frames of how transfers are now, one after the other. */
  ofProgress(updates: readonly TransferUpdate[]): Buffer {
    return Buffer.concat(updates.map((update) => this.#frame(update, progressMessage)));
  }

  #frame<T extends Event | TransferUpdate>(of: T, message: (of: T) => string): Buffer {
    let frame = this.#single.get(of);
    if (frame === undefined) {
      frame = textFrame(message(of));
      this.#single.set(of, frame);
    }
    return frame;
  }
}

/** One subscriber on a WebSocket. */
export class WebSocketSubscriber {
  readonly #socket: WebSocket;
  readonly #connection: Duplex;
  readonly #subscription: Subscription;
  readonly #frames: Frames;
  readonly #closed = new AbortController();
  #silentPings = 0;

  /** `connection`: what the WebSocket is on. */
  constructor(options: { socket: WebSocket; connection: Duplex; subscription: Subscription; frames: Frames }) {
    this.#socket = options.socket;
    this.#connection = options.connection;
    this.#subscription = options.subscription;
    this.#frames = options.frames;
  }

  /** Serves it until it goes away or the daemon stops. */
  async run(hello: EventsHello): Promise<void> {
    const socket = this.#socket;
    socket.on('close', () => this.#closed.abort());
    // What breaks a connection, or the protocol, closes it too.
    socket.on('error', () => undefined);
    socket.on('pong', () => (this.#silentPings = 0));
    socket.on('message', (data: Buffer, isBinary) => this.#take(data, isBinary));
    const timer = setInterval(() => this.#ping(), PING_MILLISECONDS);
    try {
      await this.#write(textFrame(JSON.stringify({ hello })));
      const render = (delivery: Delivery): Buffer => this.#framesOf(delivery);
      for await (const frames of this.#subscription.deliveries(this.#closed.signal, render)) await this.#write(frames);
      if (this.#closed.signal.aborted) return;
      if (this.#subscription.isOver) socket.close(CloseCode.done, 'until has come');
      else socket.close(CloseCode.goingAway, 'the daemon is shutting down');
    } finally {
      clearInterval(timer);
    }
  }

  #framesOf(delivery: Delivery): Buffer {
    if (delivery.kind === 'events') return this.#frames.of(delivery.events);
    if (delivery.kind === 'progress') return this.#frames.ofProgress(progressUpdates(delivery.changes));
    return textFrame(noticeMessage(delivery));
  }

  /** Whole frames, straight to the connection: made once for all subscribers, they need no more of the library. */
  async #write(frames: Buffer): Promise<void> {
    const connection = this.#connection;
    const { signal } = this.#closed;
    if (signal.aborted || connection.destroyed) return;
    // Slow as it is, it reads.
    if (await written(connection, frames, signal)) this.#silentPings = 0;
  }

  /** Takes a message of the client, of which there is one: `{"filters": {…}}`, for what comes from now on. */
  #take(data: Buffer, isBinary: boolean): void {
    if (isBinary) {
      this.#refuse(CloseCode.unsupported, 'messages are JSON text');
      return;
    }
    try {
      this.#subscription.change(filterOf(filtersIn(data.toString())));
    } catch (error) {
      if (!isKind(error, 'invalid')) throw error;
      this.#refuse(CloseCode.refused, fit(messageOf(error)));
    }
  }

  #refuse(code: number, reason: string): void {
    this.#socket.close(code, reason);
    // Nothing may follow a close frame (RFC 6455, 5.5.1), and what is written here goes past the library, which knows.
    this.#closed.abort();
  }

  #ping(): void {
    if (this.#silentPings >= MAX_SILENT_PINGS) this.#socket.terminate();
    else if (this.#connection.writableLength === 0) this.#socket.ping();
    this.#silentPings += 1;
  }
}

/** The JSON of the filters in a client's message. */
function filtersIn(text: string): string {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    throw new LayerdError('invalid', 'the message is not JSON');
  }
  const keys = typeof message === 'object' && message !== null ? Object.keys(message) : [];
  if (keys.length !== 1 || keys[0] !== 'filters') {
    throw new LayerdError('invalid', 'expected {"filters": {"name": ["value"]}}');
  }
  return JSON.stringify((message as { filters: unknown }).filters);
}

/** The text cut to what a close frame takes, at the end of a character. */
function fit(text: string): string {
  let bytes = Buffer.from(text).subarray(0, REASON_BYTES);
  while (bytes.length > 0 && bytes.toString().endsWith('\ufffd')) bytes = bytes.subarray(0, -1);
  return bytes.toString();
}

/** A whole text message as a server sends it: not masked (RFC 6455, 5.2). */
export function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const head = length < 126 ? 2 : length < 0x10000 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + length);
  frame[0] = TEXT;
  if (head === 2) frame[1] = length;
  else if (head === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, head);
  return frame;
}
