import { once } from 'node:events';
import { LayerdError } from '../../protocol/errors.ts';
import type { Event } from '../events/event.ts';
import type { EventFilter, EventLog } from '../events/log.ts';
import type { Call } from './call.ts';
import { eventText, knowsEvent } from './compat.ts';
import { negotiate } from './media-type.ts';
import { parseFilters, parseTime, quote, type Filters } from './parameters.ts';

/** Content types of the stream, most wanted first. RFC 7464 puts a record separator before each text. */
const JSON_LINES = 'application/jsonl';
const ND_JSON = 'application/x-ndjson';
const JSON_SEQUENCE = 'application/json-seq';
const RECORD_SEPARATOR = '\u001e';

/** `GET /events`: past events from `since`, then those that happen, until `until` or until the client goes away. */
export async function streamEvents(call: Call, log: Pick<EventLog, 'follow'>): Promise<void> {
  const { query, version, response, signal } = call;
  const now = BigInt(Date.now()) * 1_000_000n;
  const since = parseTime('since', query.get('since') ?? '', now);
  const until = parseTime('until', query.get('until') ?? '', now);
  if (since !== undefined && until !== undefined && until < since) {
    throw new LayerdError(
      'invalid',
      `since ${quote(query.get('since') ?? '')} cannot be after until ${quote(query.get('until') ?? '')}`,
    );
  }
  const wanted = eventFilter(parseFilters(query.get('filters') ?? ''));
  const filter = (event: Event): boolean => knowsEvent(event, version) && wanted(event);

  const type = negotiate(call.request.headers.accept, [JSON_LINES, ND_JSON, JSON_SEQUENCE], 'application/json');
  const prefix = type === JSON_SEQUENCE ? RECORD_SEPARATOR : '';
  // The place in the log is taken before the client learns that it is subscribed.
  const events = log.follow({ since, until, filter }, signal);
  response.setHeader('Content-Type', type);
  response.flushHeaders();
  for await (const event of events) {
    // The connection holds what it can; the rest stays in the log until the client has read.
    if (!response.write(`${prefix}${eventText(event, version)}\n`)) await drained(call);
  }
  response.end();
}

async function drained({ response, signal }: Call): Promise<void> {
  if (signal.aborted) return;
  await Promise.race([once(response, 'drain'), once(response, 'close')]);
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
const KNOWN_FILTERS: ReadonlySet<string> = new Set([...OBJECT_FILTERS, 'event', 'image', 'label', 'scope', 'type']);

/** Actions that go on with a detail after a colon and are found without it. */
const DETAILED_ACTIONS: ReadonlySet<string> = new Set(['health_status', 'exec_create', 'exec_start', 'exec_die']);

/**
 * Whether an event matches the filters: one value of each, and all labels.
 *
 * @throws LayerdError of kind `invalid` for a filter that does not exist, which would otherwise let everything pass
 */
export function eventFilter(filters: Filters): EventFilter {
  for (const name of filters.keys()) {
    if (!KNOWN_FILTERS.has(name)) {
      throw new LayerdError(
        'invalid',
        `invalid filter ${quote(name)} of events: expected one of ${[...KNOWN_FILTERS].sort().join(', ')}`,
      );
    }
  }
  const given = [...filters].filter(([, values]) => values.length > 0);
  return (event) => given.every(([name, values]) => matches(event, name, values));
}

function matches(event: Event, name: string, values: readonly string[]): boolean {
  const { type, action, actor, attributes } = event;
  switch (name) {
    case 'type':
      return values.includes(type);
    case 'scope':
      return values.includes('local');
    case 'event':
      return values.some(
        (value) => action === value || (DETAILED_ACTIONS.has(value) && action.startsWith(`${value}:`)),
      );
    case 'label':
      return values.every((value) => {
        const [key = '', ...rest] = value.split('=');
        return Object.hasOwn(attributes, key) && (rest.length === 0 || attributes[key] === rest.join('='));
      });
    case 'image': {
      const image = attributes[type === 'image' ? 'name' : 'image'] ?? '';
      return values.some((value) => [actor, image, untagged(actor), untagged(image)].includes(value));
    }
    default: {
      const object = attributes['name'] ?? '';
      return type === name && values.some((value) => actor.startsWith(value) || object.startsWith(value));
    }
  }
}

/** A reference without its tag or digest. */
const untagged = (reference: string): string => reference.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
