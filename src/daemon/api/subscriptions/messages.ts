import type { Event } from '../../events/event.ts';
import { eventText } from '../compat.ts';
import { NEWEST } from '../versions.ts';
import type { Delivery } from './subscription.ts';

/** What a subscriber is told first. */
export interface Hello {
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

/** An event of the Engine API, in its newest form, with its sequence number. */
export const eventMessage = (event: Event): string => `${eventText(event, NEWEST).slice(0, -1)},"seq":${event.seq}}`;

/** Any other delivery. */
export function noticeMessage(delivery: Exclude<Delivery, { kind: 'events' }>): string {
  switch (delivery.kind) {
    case 'gap':
      return JSON.stringify({ gap: { from: delivery.from, to: delivery.to } });
    case 'bookmark':
      return JSON.stringify({ bookmark: { seq: delivery.seq } });
    case 'filters':
      return JSON.stringify({ filters: { seq: delivery.seq } });
  }
}
