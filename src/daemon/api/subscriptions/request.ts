import { LayerdError } from '../../../protocol/errors.ts';
import { parseFilters } from '../../images/filters.ts';
import type { EventFilter } from '../../events/log.ts';
import { EVENT_FILTERS, eventFilter, requireOrder } from '../events.ts';
import { flag, quote, time } from '../parameters.ts';
import type { SubscribedLog, SubscriptionRequest } from './subscription.ts';

const SEQUENCE = /^\d{1,15}$/;

/**
 * Reads what a subscriber asks for: `cursor`, a sequence number to go on after, 0 for all there is; or `since`, a time; or
 * neither, for what happens from now on; `until`, a time to end at; `filters`; and `progress`. `lastId` is what a browser sends of
 * itself when it comes back. Throws `invalid`, and `conflict` where the log does not reach as far as the cursor.
 */
export function subscriptionRequest(query: URLSearchParams, log: SubscribedLog, lastId?: string): SubscriptionRequest {
  const filter = filterOf(query.get('filters') ?? '');
  const cursor = lastId ?? query.get('cursor') ?? '';
  const since = time(query, 'since');
  const until = time(query, 'until');
  // A browser that comes back does so with the parameters that it began with.
  if (cursor !== '' && since !== undefined && lastId === undefined) {
    throw new LayerdError('invalid', 'conflicting options: cursor and since both say where to begin; give one of them');
  }
  requireOrder(query, since, until);
  const progress = flag(query, 'progress');
  if (cursor === '') return { place: since === undefined ? log.end : log.before(since), filter, until, progress };
  if (!SEQUENCE.test(cursor)) {
    const name = lastId === undefined ? 'parameter cursor' : 'header Last-Event-ID';
    throw new LayerdError(
      'invalid',
      `${name}: ${quote(cursor)} is no sequence number; expected that of an event, or 0`,
    );
  }
  const place = Number(cursor);
  if (place > log.end) {
    throw new LayerdError(
      'conflict',
      `cursor ${place} is ahead of the log, whose newest event is ${log.end}: it is of another daemon, or of metadata that were replaced; begin anew with cursor=0`,
    );
  }
  return { place, filter, until, progress };
}

/** The filter that the JSON of `filters` means; undefined where it lets everything through. */
export function filterOf(json: string): EventFilter | undefined {
  const filters = parseFilters(json, EVENT_FILTERS);
  return filters.size === 0 ? undefined : eventFilter(filters);
}
