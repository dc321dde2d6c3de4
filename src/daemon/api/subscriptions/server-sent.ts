import type { EventsHello } from '../../../protocol/event.ts';
import type { Call } from '../call.ts';
import { written } from '../written.ts';
import { eventMessage, noticeMessage, progressMessage, progressUpdates } from './messages.ts';
import type { Delivery, Subscription } from './subscription.ts';

/** How soon a browser comes back when its connection ends, in milliseconds. */
const RETRY_MILLISECONDS = 1000;

/**
 * Answers with server-sent events (HTML standard, 9.2): the sequence number of an event is its `id`, with which a browser
 * comes back of itself; what is no event of the log has a name, and a place to come back to.
 */
export async function serveServerSentEvents(call: Call, subscription: Subscription, hello: EventsHello): Promise<void> {
  const { response, signal } = call;
  response.setHeader('Content-Type', 'text/event-stream');
  response.setHeader('Cache-Control', 'no-store');
  const write = (text: string): Promise<unknown> => written(response, text, signal);
  await write(`retry: ${RETRY_MILLISECONDS}\n${named('hello', hello.cursor, JSON.stringify({ hello }))}`);
  for await (const text of subscription.deliveries(signal, textOf)) await write(text);
  response.end();
}

const named = (name: string, id: number, data: string): string => `id: ${id}\nevent: ${name}\ndata: ${data}\n\n`;

function textOf(delivery: Delivery): string {
  if (delivery.kind === 'events') {
    return delivery.events.map((event) => `id: ${event.seq}\ndata: ${eventMessage(event)}\n\n`).join('');
  }
  if (delivery.kind === 'progress') {
    // Without an ID: it is no place to come back to.
    const messages = progressUpdates(delivery.changes).map(progressMessage);
    return messages.map((message) => `event: progress\ndata: ${message}\n\n`).join('');
  }
  const seq = delivery.kind === 'gap' ? delivery.to : delivery.seq;
  return named(delivery.kind, seq, noticeMessage(delivery));
}
