import type { TransferUpdate } from './engine.ts';

/** An event in the Engine API's form (`EventMessage`). */
export interface EventMessage {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: 'local' | 'swarm';
  /** Unix seconds. */
  time: number;
  /** Unix nanoseconds; beyond 2^53, so it is written to the wire from a bigint. */
  timeNano: bigint;
  /** Position in layerd's log, which only grows. Other engines, and the Engine API's own stream, have none. */
  seq?: number;
}

/** What a subscriber of `/layerd/events` is told first. */
export interface EventsHello {
  /** The sequence numbers of the oldest and the newest event of the log; an empty log has `oldest` = `newest` + 1. */
  readonly oldest: number;
  readonly newest: number;
  /** The sequence number after which this subscription begins. */
  readonly cursor: number;
  /** The store's identity: sequence numbers mean nothing to another one. */
  readonly id: string;
  /** layerd's version. */
  readonly version: string;
}

/** Events that the log no longer has, both ends inclusive. */
export interface EventsGap {
  readonly from: number;
  readonly to: number;
}

/** What a subscriber of `/layerd/events` is told that is no event. */
export type EventsNotice =
  | { readonly hello: EventsHello }
  | { readonly gap: EventsGap }
  /** Everything up to there has been looked at: nothing before it is still to come. */
  | { readonly bookmark: { readonly seq: number } }
  /** Other filters hold for what comes after. */
  | { readonly filters: { readonly seq: number } }
  /** How a transfer is now; only where that was asked for. It has no place in the log. */
  | { readonly progress: TransferUpdate };

/** One message on the WebSocket of `/layerd/events`. */
export type EventsFrame = EventsNotice | (EventMessage & { seq: number });

/** Close codes of `/layerd/events` (RFC 6455, 7.4.1). */
export const CloseCode = {
  /** `until` has come: there is no more to tell. */
  done: 1000,
  /** The daemon stops. A client that means to go on connects again with its last sequence number. */
  goingAway: 1001,
  /** The client sent a binary message. */
  unsupported: 1003,
  /** The client sent a message that means nothing here; the reason says why. */
  refused: 1008,
  /** The daemon failed; its log says how. */
  failed: 1011,
} as const;
