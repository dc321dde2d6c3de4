import type { EventsNotice } from '../../../protocol/event.ts';
import type { Event } from '../../events/event.ts';
import { eventText } from '../compat.ts';
import { NEWEST } from '../versions.ts';
import type { Delivery } from './subscription.ts';

/** An event of the Engine API, in its newest form, with its sequence number. */
export const eventMessage = (event: Event): string => `${eventText(event, NEWEST).slice(0, -1)},"seq":${event.seq}}`;

/** Any other delivery. */
export function noticeMessage(delivery: Exclude<Delivery, { kind: 'events' }>): string {
  return JSON.stringify(noticeOf(delivery));
}

function noticeOf(delivery: Exclude<Delivery, { kind: 'events' }>): EventsNotice {
  switch (delivery.kind) {
    case 'gap':
      return { gap: { from: delivery.from, to: delivery.to } };
    case 'bookmark':
      return { bookmark: { seq: delivery.seq } };
    case 'filters':
      return { filters: { seq: delivery.seq } };
  }
}
