import type { IncomingMessage } from 'node:http';
import { LayerdError } from '../../protocol/errors.ts';
import { isPriority, PRIORITIES } from '../transfers/demand.ts';
import { quote } from './parameters.ts';

/** A name that a client gives itself. */
const NAME = /^[\w.:@/+-]{1,64}$/;
/** Of a User-Agent, that many characters. */
const AGENT_LENGTH = 64;

/** On whose behalf a request is, and how urgent it is. */
export interface Wish {
  readonly client: string;
  readonly priority: number | undefined;
}

/**
 * Who asks, as transfers show it and share places by: the name that `X-Layerd-Client` gives, else the program by its
 * User-Agent, and over tcp the address that it comes from. How urgent: `X-Layerd-Priority`. Throws `invalid`.
 */
export function wishOf(request: IncomingMessage): Wish {
  return { client: clientOf(request), priority: priorityOf(request) };
}

function clientOf({ headers, socket }: IncomingMessage): string {
  const name = headers['x-layerd-client'];
  if (typeof name === 'string') {
    if (NAME.test(name)) return name;
    throw new LayerdError(
      'invalid',
      `header X-Layerd-Client: ${quote(name)} is no name: expected 1 to 64 letters, digits and .:@/+_-`,
    );
  }
  const agent = (headers['user-agent'] ?? '').replace(/[^\x20-\x7e]/g, '').slice(0, AGENT_LENGTH);
  return [socket.remoteAddress ?? '', agent === '' ? 'unknown' : agent].filter((part) => part !== '').join(' ');
}

function priorityOf({ headers }: IncomingMessage): number | undefined {
  const text = headers['x-layerd-priority'];
  if (typeof text !== 'string') return undefined;
  const value = /^[+-]?\d{1,3}$/.test(text) ? Number(text) : NaN;
  if (isPriority(value)) return value;
  throw new LayerdError(
    'invalid',
    `header X-Layerd-Priority: ${quote(text)}: expected a whole number from ${PRIORITIES.min} to ${PRIORITIES.max}`,
  );
}
