import { LayerdError } from '../../protocol/errors.ts';
import type { Event } from '../events/event.ts';
import type { EventFilter } from '../events/log.ts';
import { matchesLabels, parseFilters, type Filters } from '../images/filters.ts';
import { familiarName, parseReference } from '../../protocol/reference.ts';
import type { Call } from './call.ts';
import { eventText, knowsEvent } from './compat.ts';
import { negotiate } from './media-type.ts';
import { quote, time } from './parameters.ts';
import { Subscription, type Delivery, type SubscribedLog } from './subscriptions/subscription.ts';
import { written } from './written.ts';

/** Content types of the stream, most wanted first. RFC 7464 puts a record separator before each text. */
const JSON_LINES = 'application/jsonl';
const ND_JSON = 'application/x-ndjson';
const JSON_SEQUENCE = 'application/json-seq';
const RECORD_SEPARATOR = '\u001e';

/** `GET /events`: past events from `since`, then those that happen, until `until` or until the client goes away. */
export async function streamEvents(call: Call, log: SubscribedLog): Promise<void> {
  const { query, version, response, signal } = call;
  const since = time(query, 'since');
  const until = time(query, 'until');
  requireOrder(query, since, until);
  const wanted = eventFilter(parseFilters(query.get('filters') ?? '', EVENT_FILTERS));
  const filter = (event: Event): boolean => knowsEvent(event, version) && wanted(event);

  const type = negotiate(call.request.headers.accept, [JSON_LINES, ND_JSON, JSON_SEQUENCE], 'application/json');
  const prefix = type === JSON_SEQUENCE ? RECORD_SEPARATOR : '';
  // The place in the log is taken before the client learns that it is subscribed.
  const place = since === undefined ? log.end : log.before(since);
  const subscription = new Subscription(log, { place, filter, until });
  response.setHeader('Content-Type', type);
  response.flushHeaders();
  const linesOf = (delivery: Delivery): string => {
    if (delivery.kind === 'gap') {
      // The Engine API has no word for what is missing, so the stream breaks off instead of leaving a silent gap.
      throw new LayerdError(
        'unavailable',
        `this reader fell behind: the log no longer has the events ${delivery.from} to ${delivery.to}; subscribe again`,
      );
    }
    const events = delivery.kind === 'events' ? delivery.events : [];
    return events.map((event) => `${prefix}${eventText(event, version)}\n`).join('');
  };
  // What the connection does not take stays in the log until the client has read.
  for await (const lines of subscription.deliveries(signal, linesOf)) {
    if (lines !== '') await written(response, lines, signal);
  }
  response.end();
}

/** Throws `invalid` where a stretch of time ends before it begins. */
export function requireOrder(query: URLSearchParams, since: bigint | undefined, until: bigint | undefined): void {
  if (since === undefined || until === undefined || until >= since) return;
  throw new LayerdError(
    'invalid',
    `since ${quote(query.get('since') ?? '')} cannot be after until ${quote(query.get('until') ?? '')}`,
  );
}

/** Filters that match the name or ID of one type of object, by prefix. */
const OBJECT_FILTERS = [
  'daemon',
  'container',
  'plugin',
  'volume',
  'network',
  'node',
  'service',
  'secret',
  'config',
] as const;
export const EVENT_FILTERS: readonly string[] = [...OBJECT_FILTERS, 'event', 'image', 'label', 'scope', 'type'];

/** Actions that go on with a detail after a colon and are found without it. */
const DETAILED_ACTIONS: ReadonlySet<string> = new Set(['health_status', 'exec_create', 'exec_start', 'exec_die']);

/** Whether an event matches the filters: one value of each, and all labels. */
export function eventFilter(filters: Filters): EventFilter {
  const given = [...filters].filter(([, values]) => values.length > 0);
  return (event) =>
    matchesLabels(filters, event.attributes) && given.every(([name, values]) => matches(event, name, values));
}

function matches(event: Event, name: string, values: readonly string[]): boolean {
  const { type, action, actor, attributes } = event;
  switch (name) {
    case 'label':
      return true;
    case 'type':
      return values.includes(type);
    case 'scope':
      return values.includes('local');
    case 'event': {
      const [general = ''] = action.split(':');
      return values.includes(action) || (DETAILED_ACTIONS.has(general) && values.includes(general));
    }
    case 'image': {
      const image = attributes[type === 'image' ? 'name' : 'image'] ?? '';
      return [actor, image, repositoryOf(actor), repositoryOf(image)].some((text) => values.includes(text));
    }
    default: {
      const object = attributes['name'] ?? '';
      return type === name && values.some((value) => actor.startsWith(value) || object.startsWith(value));
    }
  }
}

/** The name of the repository of a reference; an ID as it is. */
function repositoryOf(text: string): string {
  try {
    return familiarName(parseReference(text));
  } catch {
    return text;
  }
}
