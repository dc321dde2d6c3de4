import type { TransferUpdate } from '../../../protocol/engine.ts';
import type { EventsNotice } from '../../../protocol/event.ts';
import type { Event } from '../../events/event.ts';
import type { Changes } from '../../transfers/watch.ts';
import { eventText } from '../compat.ts';
import { NEWEST } from '../versions.ts';
import type { Delivery } from './subscription.ts';

/** An event of the Engine API, in its newest form, with its sequence number. */
export const eventMessage = (event: Event): string => `${eventText(event, NEWEST).slice(0, -1)},"seq":${event.seq}}`;

/** What is told of the log that is no event. */
type Notice = Exclude<Delivery, { kind: 'events' | 'progress' }>;

export function noticeMessage(delivery: Notice): string {
  return JSON.stringify(noticeOf(delivery));
}

/** How one transfer is now, or how many ended without being told of. */
export function progressMessage(progress: TransferUpdate): string {
  return JSON.stringify({ progress } satisfies EventsNotice);
}

/** All that is to be told of transfers. */
export const progressUpdates = ({ reports, missed }: Changes): readonly TransferUpdate[] =>
  missed === 0 ? reports : [{ missed }, ...reports];

function noticeOf(delivery: Notice): EventsNotice {
  switch (delivery.kind) {
    case 'gap':
      return { gap: { from: delivery.from, to: delivery.to } };
    case 'bookmark':
      return { bookmark: { seq: delivery.seq } };
    case 'filters':
      return { filters: { seq: delivery.seq } };
  }
}
