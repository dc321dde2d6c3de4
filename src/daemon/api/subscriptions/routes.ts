import type { Router } from 'express';
import { CloseCode, type EventsHello } from '../../../protocol/event.ts';
import { LayerdError, messageOf } from '../../../protocol/errors.ts';
import { newRouter, serve, type Call } from '../call.ts';
import { negotiate } from '../media-type.ts';
import type { ApiParts } from '../parts.ts';
import type { Upgrades } from '../upgrades.ts';
import { subscriptionRequest } from './request.ts';
import { serveServerSentEvents } from './server-sent.ts';
import { Subscription } from './subscription.ts';
import { Frames, WebSocketSubscriber } from './websocket.ts';

const EVENT_STREAM = 'text/event-stream';
const NOTHING = '';

/** `GET /layerd/events`: the log of events from any place in it on, over a WebSocket or as server-sent events. */
export function subscriptionRoutes(
  parts: Pick<ApiParts, 'events' | 'transfers' | 'storeId' | 'version' | 'log'>,
  upgrades: Upgrades,
): Router {
  const { events, transfers, log } = parts;
  const router = newRouter();
  const frames = new Frames();
  router.get(
    '/layerd/events',
    serve(async (call) => {
      const isSocket = upgrades.asks(call.request);
      if (!isSocket) requireEventStream(call);
      const lastId = isSocket ? undefined : lastEventId(call);
      const request = subscriptionRequest(call.query, events, lastId);
      const hello: EventsHello = {
        ...events.retention(),
        cursor: request.place,
        id: parts.storeId,
        version: parts.version,
      };
      const subscription = new Subscription(events, request, {
        progress: request.progress === true ? transfers.progress() : undefined,
      });
      if (!isSocket) {
        await serveServerSentEvents(call, subscription, hello);
        return;
      }
      const { socket, connection } = await upgrades.accept(call);
      try {
        await new WebSocketSubscriber({ socket, connection, subscription, frames }).run(hello);
      } catch (error) {
        log.error('a subscriber could not be served', { request: call.id, error: messageOf(error) });
        socket.close(CloseCode.failed, `internal error: the daemon's log has it under request ${call.id}`);
      }
    }),
  );
  return router;
}

function requireEventStream({ request }: Call): void {
  const { accept } = request.headers;
  if (accept === undefined || negotiate(accept, [EVENT_STREAM], NOTHING) !== NOTHING) return;
  throw new LayerdError(
    'invalid',
    `events come over a WebSocket, or as ${EVENT_STREAM}, which the header Accept does not allow`,
  );
}

/** What a browser says when it comes back. */
function lastEventId({ request }: Call): string | undefined {
  const id = request.headers['last-event-id'];
  return typeof id === 'string' && id !== '' ? id : undefined;
}
